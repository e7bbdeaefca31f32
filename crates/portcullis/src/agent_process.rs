//! An agent as a process: flags, configuration, console, signals. `tcp`, `start`, `agent` and `up`
//! differ in their endpoints alone.
//!
//! Must never: print a token.

use std::io::IsTerminal as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use portcullis_agent::config::{
    ConsoleUi, EndpointEntry, LogFormat as AgentLogFormat, LogLevel, LogTarget,
};
use portcullis_agent::{
    Agent, AgentConfig, Forwarder, LocalAddr, LocalApi, LocalApiConfig, Overrides, defaults,
};
use portcullis_model::{Code, Error, Secret};

use crate::config::LogFormat;
use crate::console::{self, Mode};
use crate::failure::Failure;
use crate::logging::Target;
use crate::signals::Signals;
use crate::{cmd, environment, logging, output};

/// How an agent shows what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A live status on a terminal, plain lines elsewhere.
    Auto,
    /// Plain lines.
    Text,
    /// One JSON object per change of state, on standard output.
    Json,
}

/// How clients' bytes go to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Channels {
    /// Over TLS.
    Tls,
    /// Without TLS.
    Plain,
}

/// Flags of every command that runs an agent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Agent")]
pub(crate) struct AgentArgs {
    /// Authtoken or join string; else PORTCULLIS_AUTHTOKEN, the configuration, or a local server's.
    #[arg(long, value_name = "TOKEN", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) authtoken: Option<String>,
    /// Configuration file; repeatable, later ones win.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// Where to connect, HOST[:PORT]; wins over the join string's.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: Option<String>,
    /// Where the agent keeps its identity, and with it its random addresses.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Proxy on the way out: http://… (CONNECT) or socks5://….
    #[arg(long, value_name = "URL")]
    pub(crate) proxy_url: Option<String>,
    /// How clients' bytes go to the server; plain, on trusted networks only: anyone on the way can read and
    /// change them.
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) channels: Option<Channels>,
    /// Where the local API listens: IP:PORT, unix:/path, or false.
    #[arg(long, value_name = "ADDR")]
    pub(crate) web_addr: Option<WebAddr>,
    /// Where log lines go: stderr, false, or a file.
    #[arg(long, value_name = "TARGET")]
    pub(crate) log: Option<Target>,
    /// Which log lines are written: error, warn, info, debug, or a filter; PORTCULLIS_LOG is stronger.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// How the agent shows what happens.
    #[arg(long, short, value_enum, default_value = "auto")]
    pub(crate) output: Output,
}

/// The value of `--web-addr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebAddr(Option<LocalAddr>);

impl std::str::FromStr for WebAddr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "false" || text == "off" {
            return Ok(Self(None));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self(Some(LocalAddr::Unix(path.into()))));
        }
        let addr = text.replace("localhost:", "127.0.0.1:");
        addr.parse()
            .map(|addr| Self(Some(LocalAddr::Tcp(addr))))
            .map_err(|_| "expected IP:PORT, unix:/path or false".to_owned())
    }
}

/// A missing token, with what a newcomer most likely lacks.
pub(crate) fn explained(error: Error) -> Error {
    if error.code != Code::AuthtokenMissing {
        return error;
    }
    let message = "no authtoken was given, and no server on this machine left a join string; `portcullis server` starts one";
    Error {
        message: message.to_owned(),
        ..error
    }
}

/// What happens to the process when an endpoint is refused at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It ends: someone is looking.
    None,
    /// It goes on and tries again: it runs as a service.
    Endless,
}

/// What an agent is for.
#[derive(Debug)]
pub(crate) struct Work {
    /// Its endpoints.
    pub(crate) endpoints: Vec<EndpointEntry>,
    /// Whether it outlives a refusal.
    pub(crate) patience: Patience,
    /// The name of its only endpoint, which then has an identity of its own.
    pub(crate) alone: Option<String>,
}

/// Reads the configuration with what flags and environment say instead.
///
/// # Errors
/// `PTC_CONFIG_…`.
pub(crate) fn configuration(args: &AgentArgs) -> Result<AgentConfig, Error> {
    let overrides = Overrides {
        authtoken: args
            .authtoken
            .clone()
            .map(Secret::new)
            .or_else(environment::authtoken),
        api_key: None,
        connect_url: args.server.clone().or_else(environment::server),
        proxy_url: args.proxy_url.clone().map(Secret::new),
    };
    let mut config = AgentConfig::load(&cmd::config::files(&args.config), &overrides)?;
    if let Some(WebAddr(addr)) = &args.web_addr {
        config.agent.web_addr = addr.clone();
    }
    if let Some(channels) = args.channels {
        config.agent.plain_channels = channels == Channels::Plain;
    }
    Ok(config)
}

/// Runs an agent with these endpoints until a signal comes or it ends by itself.
///
/// # Errors
/// Why it could not start, why an endpoint was refused (without patience), why it ended.
pub(crate) async fn run(config: AgentConfig, work: Work, args: &AgentArgs) -> Result<(), Failure> {
    let Work {
        endpoints,
        patience,
        alone,
    } = work;
    let mode = mode(&config, args.output);
    start_logging(&config, args, mode)?;
    for note in &config.notes {
        tracing::warn!("configuration: {note}");
    }
    if mode == Mode::Live && std::io::stderr().is_terminal() {
        note_policies(&endpoints);
    }
    let mut signals = Signals::new()?;
    let state_dir = state_dir(args, alone.as_deref());
    let mut builder = config.builder().data_dirs(environment::local_data_dirs());
    if let Some(dir) = &state_dir {
        builder = builder.state_dir(dir);
    }
    let agent = builder.start().map_err(explained)?;
    let console = console::Console::start(mode, agent.status());
    let local_api = match state_dir {
        Some(dir) => local_api(&config, &agent, dir).await,
        None => None,
    };
    cmd::notify_ready();
    let result = tokio::select! {
        biased; // a signal ends everything, whatever else has happened
        () = signals.terminated() => Ok(()),
        ended = serve(&agent, endpoints, patience) => ended,
    };
    cmd::notify_stopping();
    let stopping = async {
        agent.shutdown(defaults::SHUTDOWN_WAIT).await;
        if let Some(api) = local_api {
            api.close().await;
        }
    };
    tokio::select! {
        biased; // a second signal does not wait
        () = signals.terminated() => {}
        () = stopping => {}
    }
    console.close().await;
    match result {
        Err(error) if error.code == Code::AgentStopped && patience == Patience::Endless => {
            tracing::info!("stopped through the API");
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Where the identity is kept. An agent of a single endpoint has a directory of its own below the
/// default one, so that several `portcullis tcp` of one user each keep their address. Where nothing
/// was named and nothing can be written, the identity lasts as long as the process.
fn state_dir(args: &AgentArgs, alone: Option<&str>) -> Option<PathBuf> {
    if let Some(dir) = args.state_dir.clone().or_else(environment::state_dir) {
        return Some(dir);
    }
    let below = |name: &str| {
        name.replace(
            |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_',
            "-",
        )
    };
    let base = environment::default_state_dir();
    let dir = alone.map_or_else(|| base.clone(), |name| base.join(below(name)));
    match std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
    {
        Ok(()) => Some(dir),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "no state can be kept: random addresses change with every start");
            None
        }
    }
}

/// Keeps the endpoints open; returns when the agent has ended or an endpoint was refused for good.
async fn serve(
    agent: &Agent,
    endpoints: Vec<EndpointEntry>,
    patience: Patience,
) -> Result<(), Error> {
    let _open = match patience {
        Patience::Endless => {
            for EndpointEntry { options, upstream } in endpoints {
                agent.offer(options, &upstream)?;
            }
            Vec::new()
        }
        Patience::None => tokio::select! {
            biased; // a server that cannot be trusted ends the wait for it
            error = mistrusted(agent) => return Err(error),
            open = open_all(agent, endpoints) => open?,
        },
    };
    let stopped = agent.stopped().await;
    stopped.error.map_or(Ok(()), Err)
}

/// Why the first session cannot be had at all: another server answers than the one that is trusted.
/// Later it may be an interception that passes; at the start it is a wrong address or join string.
async fn mistrusted(agent: &Agent) -> Error {
    let mut status = agent.status();
    let settled = status.wait_for(|status| {
        status.session.is_some()
            || status
                .error
                .as_ref()
                .is_some_and(|error| error.code == Code::ServerUntrusted)
    });
    match settled.await.ok().and_then(|status| status.error.clone()) {
        Some(error) => error,
        None => std::future::pending().await,
    }
}

/// Opens every endpoint; all refusals are told, the first one ends the process.
async fn open_all(agent: &Agent, endpoints: Vec<EndpointEntry>) -> Result<Vec<Forwarder>, Error> {
    let opening = endpoints
        .into_iter()
        .map(|EndpointEntry { options, upstream }| async move {
            let name = options.name.clone();
            agent
                .forward(options, &upstream)
                .await
                .map_err(|error| (name, error))
        });
    let (mut open, mut refused) = (Vec::new(), Vec::new());
    for outcome in join_all(opening).await {
        match outcome {
            Ok(forwarder) => open.push(forwarder),
            Err(failed) => refused.push(failed),
        }
    }
    let several = refused.len() > 1;
    let Some((name, first)) = refused.into_iter().next() else {
        return Ok(open);
    };
    let message = if several || !open.is_empty() {
        format!("endpoint {name}: {}", first.message)
    } else {
        first.message
    };
    Err(Error { message, ..first })
}

/// The local API is a convenience: when it cannot be had, the agent serves without it.
async fn local_api(config: &AgentConfig, agent: &Agent, state_dir: PathBuf) -> Option<LocalApi> {
    let addr = config.agent.web_addr.clone()?;
    let settings = LocalApiConfig {
        addr,
        state_dir,
        allow_hosts: config.agent.web_allow_hosts.clone(),
    };
    match portcullis_agent::local_api::serve(settings, agent.clone()).await {
        Ok(api) => Some(api),
        Err(error) => {
            tracing::warn!(code = %error.code, "the local API is off: {}", error.message);
            None
        }
    }
}

fn mode(config: &AgentConfig, output: Output) -> Mode {
    let terminal = std::io::stdout().is_terminal() && !environment::dumb_terminal();
    match output {
        Output::Json => Mode::Json,
        Output::Text => Mode::Plain,
        Output::Auto => match config.agent.console_ui {
            ConsoleUi::On => Mode::Live,
            ConsoleUi::IfTty if terminal => Mode::Live,
            ConsoleUi::IfTty | ConsoleUi::Off => Mode::Plain,
        },
    }
}

fn start_logging(config: &AgentConfig, args: &AgentArgs, mode: Mode) -> Result<(), Error> {
    let configured = match &config.agent.log {
        LogTarget::Stdout | LogTarget::Stderr => Target::Stderr,
        LogTarget::Off => Target::Off,
        LogTarget::File(path) => Target::File(path.clone()),
    };
    let target = match args.log.clone().unwrap_or(configured) {
        // Lines on the terminal would tear the live status apart.
        Target::Stderr if mode == Mode::Live && std::io::stderr().is_terminal() => Target::Off,
        other => other,
    };
    let format = args.log_format.unwrap_or(match config.agent.log_format {
        AgentLogFormat::Json => LogFormat::Json,
        AgentLogFormat::Term | AgentLogFormat::Logfmt => LogFormat::Text,
    });
    let configured = match config.agent.log_level {
        LogLevel::Debug => "debug",
        LogLevel::Info => logging::LEVEL_SERVING,
        LogLevel::Warn => "warn",
        LogLevel::Error | LogLevel::Crit => "error",
    };
    logging::start(
        args.log_level.as_deref().unwrap_or(configured),
        format,
        &target,
    )
    .map(drop)
}

/// Says what is worth knowing of the endpoints' policies where the agent's log lines are not seen.
fn note_policies(endpoints: &[EndpointEntry]) {
    for EndpointEntry { options, .. } in endpoints {
        for notice in options.policy_notices() {
            output::note(&format!("note: endpoint {}: {notice}", options.name));
        }
    }
}

/// Says on standard error that a flag has a new name.
pub(crate) fn deprecated(old: &str, new: &str) {
    output::note(&format!("note: {old} is deprecated; use {new}"));
}

/// How long `up` waits for its own agent to have its address.
pub(crate) const FIRST_ADDRESS_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_addresses_have_three_forms() {
        assert_eq!("false".parse(), Ok(WebAddr(None)));
        assert_eq!(
            "unix:/run/a.sock".parse(),
            Ok(WebAddr(Some(LocalAddr::Unix("/run/a.sock".into()))))
        );
        assert_eq!(
            "localhost:0".parse(),
            Ok(WebAddr(Some(LocalAddr::Tcp(
                "127.0.0.1:0".parse().unwrap()
            ))))
        );
        assert!("4040x".parse::<WebAddr>().is_err());
    }
}
