//! `portcullis up`: everything at once, to try it: a server with its state in ./data, an agent and
//! a demo service, in one process.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use portcullis_agent::{Agent, EndpointOptions};
use portcullis_model::{Code, Error};
use portcullis_store::PortRanges;
use tokio::runtime::Handle;

use super::demo::Demo;
use super::notify_ready;
use super::server::stop;
use crate::config::hosts::check_hostname;
use crate::config::server::Listen;
use crate::config::{LogFormat, ServerConfig};
use crate::failure::Failure;
use crate::logging::{self, Target};
use crate::node::{Server, announce};
use crate::runtimes::Runtimes;
use crate::signals::Signals;
use crate::{agent_process, output};

/// `up`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Where state is kept.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Public hostname; else the machine's name if it resolves, else its primary IP.
    #[arg(long, value_name = "NAME", value_parser = check_hostname)]
    host: Option<String>,
    /// Where agents connect [default: all addresses, port 7443].
    #[arg(long, value_name = "IP:PORT")]
    agents_listen: Option<Listen>,
    /// Where the API listens [default: 127.0.0.1:7480].
    #[arg(long, value_name = "IP:PORT")]
    api_listen: Option<Listen>,
    /// Ports of random addresses [default: 20000-29999].
    #[arg(long, value_name = "FROM-TO")]
    port_range: Option<PortRanges>,
    /// Which log lines are written: error, warn, info, debug, or a filter.
    #[arg(long, value_name = "LEVEL", default_value = logging::LEVEL_QUIET)]
    log_level: String,
}

impl Args {
    fn config(&self) -> ServerConfig {
        let mut config = ServerConfig {
            data_dir: Some(self.data_dir.clone()),
            host: self.host.clone(),
            ..ServerConfig::default()
        };
        if let Some(Listen(addr)) = self.agents_listen {
            config.agents_listen = addr;
        }
        if let Some(Listen(addr)) = self.api_listen {
            config.api_listen = addr;
        }
        if let Some(ports) = &self.port_range {
            config.ports.clone_from(ports);
        }
        config
    }
}

/// Runs it until a signal comes.
///
/// # Errors
/// Why a part could not start.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    logging::start(&args.log_level, LogFormat::Text, &Target::Stderr)?;
    let config = args.config();
    Runtimes::new(&config.runtime)?.block_on(|data| async move {
        let mut signals = Signals::new()?;
        let demo = Demo::bind(([127, 0, 0, 1], 0).into()).await?;
        let upstream = demo.addr.to_string();
        let demo = tokio::spawn(demo.serve());
        let server = Server::start(&config, &data).await?;
        let (agent, url) = match exposed(&server, &upstream, &data).await {
            Ok(exposed) => exposed,
            Err(error) => {
                server.close().await;
                return Err(error.into());
            }
        };
        told(&server, &url);
        notify_ready();
        tokio::select! {
            biased; // a signal ends everything
            () = signals.terminated() => {}
            stopped = agent.stopped() => tracing::warn!(?stopped, "the demo's agent has ended; the server goes on"),
        }
        agent.shutdown(std::time::Duration::ZERO).await;
        stop(server, signals, config.limits.drain_timeout).await;
        demo.abort();
        output::note("Stopped.");
        Ok(())
    })
}

/// An agent of this machine with the demo service as its endpoint.
async fn exposed(server: &Server, upstream: &str, data: &Handle) -> Result<(Agent, String), Error> {
    let state = server.data_dir().join("agent");
    let agent = Agent::builder()
        .authtoken(server.join_local.reveal())
        .state_dir(state);
    let agent = {
        let _entered = data.enter(); // its relays are data path as well
        agent.start()?
    };
    let options = EndpointOptions::new()
        .name("demo")
        .description("the demo service of `portcullis up`");
    let name = agent.offer(options, upstream)?;
    let mut status = agent.status();
    let online = status.wait_for(|status| {
        status.endpoints.iter().any(|endpoint| {
            endpoint.name == name && (endpoint.id.is_some() || endpoint.error.is_some())
        })
    });
    let found = tokio::time::timeout(agent_process::FIRST_ADDRESS_WAIT, online).await;
    let found = found.ok().and_then(Result::ok).and_then(|status| {
        status
            .endpoints
            .iter()
            .find(|endpoint| endpoint.name == name)
            .cloned()
    });
    match found {
        Some(endpoint) if endpoint.error.is_none() => Ok((agent, endpoint.url)),
        Some(endpoint) => Err(endpoint.error.unwrap_or_else(|| Error::of(Code::Internal))),
        None => Err(Error::new(
            Code::ServerUnreachable,
            "the agent of this process got no address in time",
        )),
    }
}

/// People get the whole message; without a terminal the tokens stay in their files.
fn told(server: &Server, url: &str) {
    output::line(&announce::up(server, url, std::io::stdout().is_terminal()));
}
