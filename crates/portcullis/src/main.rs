//! The portcullis binary: reads the command line and wires the parts together.
//!
//! Owns the process: its exit status, its panics, its runtime. Must never: hold logic that a library
//! user would need.

mod agent_process;
mod api_client;
mod cli;
mod cmd;
mod config;
mod console;
mod defaults;
mod environment;
mod failure;
mod logging;
mod node;
mod output;
mod runtimes;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;
use tikv_jemallocator::Jemalloc;

/// A connection is many small allocations of a few sizes that live long; jemalloc packs them a quarter
/// tighter than the system's allocator. `docs/adr/0016-*.md` has the figures.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(panicked));
    let cli = cli::Cli::parse();
    // Another part may have installed the same provider already, which is as good.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let result = cli.command.run();
    logging::flush(); // before the last word: it tells what led there
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit_status())
        }
    }
}

/// A panic is our mistake; the user gets a code to report, the log gets the place.
fn panicked(info: &std::panic::PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    tracing::error!(code = "PTC_INTERNAL", place, "panic: {text}");
    logging::flush();
    let code = portcullis_model::Code::Internal;
    output::note(&format!(
        "error: {} ({place}: {text})\n  code: {code}\n  remedy: {}",
        code.title(),
        code.remedy()
    ));
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        output::note(&std::backtrace::Backtrace::force_capture().to_string());
    }
}
