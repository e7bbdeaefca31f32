//! `portcullis-conformance`: checks any TCP proxy for what users of TCP rely on.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use portcullis_conformance::{CaseReport, Options, Report, all, markdown, run};

/// Exit code of a run in which a case failed.
const SOME_FAILED: u8 = 1;
/// Exit code of a run that could not begin; clap's too.
const USAGE: u8 = 2;

/// Checks any TCP proxy for what users of TCP rely on: half-close, reset, order, isolation, bounds.
///
/// The suite listens on the target's address, where the proxy must forward to, and connects to the
/// proxy's public side.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis-conformance",
    version,
    args_conflicts_with_subcommands = true
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the suite listens, and the proxy forwards to: HOST:PORT.
    #[arg(long, value_parser = address)]
    target: Option<SocketAddr>,
    /// The proxy's public side: HOST:PORT.
    #[arg(long, value_parser = address, conflicts_with = "direct")]
    listen: Option<SocketAddr>,
    /// No proxy: clients connect to the target. The baseline.
    #[arg(long)]
    direct: bool,
    /// Runs only this case; may be repeated.
    #[arg(long, value_name = "CASE")]
    only: Vec<String>,
    /// Lists the cases and what they are for.
    #[arg(long)]
    list: bool,
    /// The proxy's idle limit in seconds, if it has one; 0 is none or not known.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    idle_limit: f64,
    /// A process of the proxy, whose memory is read; may be repeated.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Most MiB that may be taken for a reader that does not read; else what the kernel's buffers of
    /// four hops hold, and 64 MiB.
    #[arg(long, value_name = "MIB")]
    stalled_max: Option<u64>,
    /// Most MiB by which the memory of the proxy's processes may grow meanwhile.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    memory_max: u64,
    /// Seconds to wait for what should come at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    patience: f64,
    /// Seed of all bytes and choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Smaller sizes and counts.
    #[arg(long)]
    quick: bool,
    /// How results are written to standard output; with json, progress goes to standard error.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// The proxy's name in the report.
    #[arg(long)]
    name: Option<String>,
    /// The proxy's version in the report.
    #[arg(long, default_value = "")]
    proxy_version: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Puts reports (from --output json) side by side as Markdown.
    Matrix {
        /// The reports, in the order of the columns.
        #[arg(required = true)]
        reports: Vec<PathBuf>,
        /// A program that could not be run, and why; may be repeated.
        #[arg(long, value_name = "TEXT")]
        missing: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        Some(Command::Matrix { reports, missing }) => matrix(reports, missing),
        None if args.list => {
            list();
            Ok(true)
        }
        None => check(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SOME_FAILED),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(USAGE)
        }
    }
}

/// Whether no case failed.
fn check(args: &Args) -> Result<bool, String> {
    let options = options(args)?;
    let (soft, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
            .map_err(|error| format!("cannot read the limit of file descriptors: {error}"))?;
    if soft < hard {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard)
            .map_err(|error| format!("cannot raise the limit of file descriptors: {error}"))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let json = args.output == Output::Json;
    let progress = |case: &CaseReport| match json {
        true => eprintln!("{case}"),
        false => println!("{case}"),
    };
    let report =
        runtime.block_on(run(&options, progress)).map_err(
            |error| match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
        )?;
    match args.output {
        Output::Table => println!("{}", report.summary()),
        Output::Json => {
            eprintln!("{}", report.summary());
            let json = serde_json::to_string_pretty(&report)
                .map_err(|error| format!("cannot write the report: {error}"))?;
            println!("{json}");
        }
    }
    Ok(report.passed())
}

fn options(args: &Args) -> Result<Options, String> {
    let base = match (args.direct, args.target, args.listen) {
        (true, None, _) => Options::direct(),
        (true, Some(target), _) => Options {
            name: Options::direct().name,
            ..Options::new(target, target)
        },
        (false, Some(target), Some(listen)) => Options::new(listen, target),
        _ => return Err("--target and --listen are needed, or --direct; see --help".to_owned()),
    };
    let seconds = |name: &str, value: f64| {
        Duration::try_from_secs_f64(value).map_err(|error| format!("{name}: {error}"))
    };
    let idle = seconds("--idle-limit", args.idle_limit)?;
    Ok(Options {
        name: args.name.clone().unwrap_or(base.name),
        version: args.proxy_version.clone(),
        only: args.only.clone(),
        idle_limit: (!idle.is_zero()).then_some(idle),
        pids: args.pid.clone(),
        quick: args.quick,
        patience: seconds("--patience", args.patience)?,
        stalled_bytes_max: args
            .stalled_max
            .map_or(base.stalled_bytes_max, |mib| mib << 20),
        memory_growth_max: args.memory_max << 20,
        seed: args.seed,
        ..base
    })
}

fn list() {
    for case in all() {
        println!("{:<32} {}", case.name, case.rationale);
    }
}

fn matrix(paths: &[PathBuf], missing: &[String]) -> Result<bool, String> {
    let mut reports = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let report: Report = serde_json::from_str(&text)
            .map_err(|error| format!("{} is no report: {error}", path.display()))?;
        reports.push(report);
    }
    print!("{}", markdown(&reports, missing));
    Ok(true)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses
        .next()
        .ok_or_else(|| "it names no address".to_owned())
}
