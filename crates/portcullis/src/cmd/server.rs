//! `portcullis server`: the public side, the API and the store in one process.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use portcullis_model::Error;
use portcullis_store::PortRanges;

use super::demo::Demo;
use super::health::HealthArgs;
use super::{notify_ready, notify_stopping};
use crate::config::endpoints::{At, Expose};
use crate::config::hosts::check_hostname;
use crate::config::server::Listen;
use crate::config::{DirectEndpoint, LogFormat, ServerConfig};
use crate::failure::Failure;
use crate::logging::{self, Filter, Target};
use crate::node::{self, Direct, Server, announce};
use crate::runtimes::Runtimes;
use crate::signals::{Received, Signals};
use crate::{defaults, output};

/// `server`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  portcullis server
  portcullis server --host edge.example.com --expose 20001=127.0.0.1:5432
  portcullis server --expose 7000-7010=app.lan:7000-7010 --expose 0=db.lan:3306
  portcullis server --config /etc/portcullis/server.yml")]
pub(crate) struct Args {
    /// Configuration file; flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where state is kept.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Public hostname; else the machine's name if it resolves, else its primary IP.
    #[arg(long, value_name = "NAME", value_parser = check_hostname)]
    host: Option<String>,
    /// Region of this server.
    #[arg(long)]
    region: Option<String>,
    /// Where agents connect [default: all addresses, port 7443].
    #[arg(long, value_name = "IP:PORT")]
    agents_listen: Option<Listen>,
    /// Where the API listens [default: 127.0.0.1:7480]; beyond loopback it needs api.tls.
    #[arg(long, value_name = "IP:PORT")]
    api_listen: Option<Listen>,
    /// Ports of random addresses [default: 20000-29999].
    #[arg(long, value_name = "FROM-TO")]
    port_range: Option<PortRanges>,
    /// Forward a port without an agent: PORT=HOST:PORT, FROM-TO=HOST:FROM-TO, IP:PORT=…; repeatable.
    #[arg(long, value_name = "PORT=UPSTREAM")]
    expose: Vec<Expose>,
    /// Of every --expose.
    #[command(flatten)]
    health: HealthArgs,
    /// Run a small demo service as well, at a random address.
    #[arg(long)]
    demo: bool,
    /// Add a key to master.key, with which the next start seals everything anew, and end.
    #[arg(long)]
    rotate_master_key: bool,
    /// Ask no IP restriction of type api, for whoever has locked themselves out of the API.
    #[arg(long)]
    no_api_restrictions: bool,
    /// Where log lines go: stderr, false, or a file.
    #[arg(long, value_name = "TARGET")]
    log: Option<Target>,
    /// Which log lines are written: error, warn, info, debug, or a filter; PORTCULLIS_LOG is stronger.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl Args {
    /// The configuration with what the flags say instead.
    fn settle(&self) -> Result<ServerConfig, Error> {
        let mut config = match &self.config {
            Some(path) => ServerConfig::load(path)?,
            None => ServerConfig::default(),
        };
        if let Some(dir) = &self.data_dir {
            config.data_dir = Some(dir.clone());
        }
        if let Some(host) = &self.host {
            config.host = Some(host.clone());
        }
        if let Some(region) = &self.region {
            config.region.clone_from(region);
        }
        if let Some(Listen(addr)) = self.agents_listen {
            config.agents_listen = addr;
        }
        if let Some(Listen(addr)) = self.api_listen {
            config.api_listen = addr;
        }
        if self.no_api_restrictions {
            config.api_ip_restrictions = false;
        }
        if let Some(ports) = &self.port_range {
            config.ports.clone_from(ports);
        }
        if let Some(format) = self.log_format {
            config.log_format = Some(format);
        }
        if let Some(level) = &self.log_level {
            config.log_level = Some(level.clone());
        }
        let check = self.health.check()?;
        for Expose(endpoints) in &self.expose {
            for endpoint in endpoints {
                config.endpoints.push(DirectEndpoint {
                    health: check.clone(),
                    ..endpoint.clone()
                });
            }
        }
        config.check()?;
        Ok(config)
    }
}

/// Runs it until a signal comes.
///
/// # Errors
/// Why it could not start.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let mut config = args.settle()?;
    if args.rotate_master_key {
        let (keys, path) = node::add_master_key(&config)?;
        output::line(&format!(
            "{} has {keys} keys; the next start seals everything with the newest",
            path.display()
        ));
        return Ok(());
    }
    let level = config
        .log_level
        .clone()
        .unwrap_or_else(|| logging::LEVEL_SERVING.to_owned());
    let target = args.log.clone().unwrap_or(Target::Stderr);
    let filter = logging::start(&level, config.log_format.unwrap_or_default(), &target)?;
    Runtimes::new(&config.runtime)?.block_on(|data| async move {
        let mut signals = Signals::new()?;
        let demo = if args.demo {
            Some(demo(&mut config).await?)
        } else {
            None
        };
        let server = Server::start(&config, &data).await?;
        let server = settled(server).await?;
        let demo = demo.map(|demo| tokio::spawn(demo.serve()));
        said(&server);
        notify_ready();
        wait(&mut signals, &args, &config, &filter).await;
        stop(server, signals, config.limits.drain_timeout).await;
        if let Some(demo) = demo {
            demo.abort();
        }
        Ok(())
    })
}

/// Opens the demo service and adds its endpoint.
async fn demo(config: &mut ServerConfig) -> Result<Demo, Error> {
    let demo = Demo::bind(([127, 0, 0, 1], 0).into()).await?;
    let at = At::Port {
        host: None,
        port: 0,
    };
    config
        .endpoints
        .push(DirectEndpoint::new("demo", at, demo.addr.to_string()));
    Ok(demo)
}

/// A server whose endpoints are reachable; when one that was asked for is not, the server ends.
async fn settled(server: Server) -> Result<Server, Error> {
    match server.settled(defaults::SETTLE_PATIENCE).await {
        Ok(()) => Ok(server),
        Err(error) => {
            server.drain(Duration::ZERO).await;
            server.close().await;
            Err(error)
        }
    }
}

/// Says that the server is up, to people on a terminal and in the log.
fn said(server: &Server) {
    if std::io::stdout().is_terminal() {
        output::line(&announce::server(server));
    }
    tracing::info!(
        host = server.host,
        agents = %server.agents,
        api = server.api_url,
        data_dir = %server.data_dir().display(),
        "server is up"
    );
    for Direct { endpoint, .. } in &server.direct {
        tracing::info!(endpoint = endpoint.name, url = %endpoint.url, upstream = endpoint.upstream_url, "exposed");
    }
}

/// Waits for the signal to end; reloads on HUP meanwhile.
async fn wait(signals: &mut Signals, args: &Args, config: &ServerConfig, filter: &Filter) {
    while signals.next().await == Received::Reload {
        reload(args, config, filter);
    }
}

/// Reads the configuration again. The log's filter changes at once; what else differs is told.
fn reload(args: &Args, running: &ServerConfig, filter: &Filter) {
    let fresh = match args.settle() {
        Ok(fresh) => fresh,
        Err(error) => {
            tracing::error!(code = %error.code, "the configuration was not reloaded: {}", error.message);
            return;
        }
    };
    let level = fresh
        .log_level
        .clone()
        .unwrap_or_else(|| logging::LEVEL_SERVING.to_owned());
    match filter.set(&level) {
        Ok(()) => tracing::info!(level, "log filter reloaded"),
        Err(cause) => tracing::error!("the log filter stays as it was: {cause}"),
    }
    let differs = differences(running, &fresh);
    if !differs.is_empty() {
        tracing::warn!(
            keys = differs.join(", "),
            "these keys have changed and take effect with a restart"
        );
    }
}

/// The top-level keys in which two configurations differ, but for the log's filter.
fn differences(a: &ServerConfig, b: &ServerConfig) -> Vec<String> {
    let map = |config: &ServerConfig| match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(map)) => map,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (a, b) = (map(a), map(b));
    // The demo's endpoint is added after the configuration was read.
    let plain = |value: Option<&serde_json::Value>| match value {
        Some(serde_json::Value::Array(items)) => Some(serde_json::Value::Array(
            items
                .iter()
                .filter(|item| item.get("name").is_none_or(|name| name != "demo"))
                .cloned()
                .collect(),
        )),
        other => other.cloned(),
    };
    a.keys()
        .filter(|key| *key != "log.level" && plain(a.get(*key)) != plain(b.get(*key)))
        .cloned()
        .collect()
}

/// Drains and closes; a second signal does not wait.
pub(crate) async fn stop(server: Server, mut signals: Signals, drain_timeout: Option<Duration>) {
    notify_stopping();
    let timeout = drain_timeout.unwrap_or(defaults::DRAIN_TIMEOUT);
    tracing::info!(timeout = ?timeout, "stopping; a second signal does not wait for connections");
    let outcome = tokio::select! {
        biased; // a second signal ends the wait
        () = signals.terminated() => server.drain(Duration::ZERO).await,
        outcome = server.drain(timeout) => outcome,
    };
    server.close().await;
    tracing::info!(finished = outcome.finished, cut = outcome.cut, "stopped");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn args(line: &[&str]) -> Args {
        let cli =
            crate::cli::Cli::try_parse_from([&["portcullis", "server"], line].concat()).unwrap();
        match cli.command {
            crate::cli::Command::Server(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.yml");
        std::fs::write(
            &path,
            "region: eu\nhost: a.example.com\nendpoints: [{port: 1, upstream: 'x:1'}]\n",
        )
        .unwrap();
        let path = path.display().to_string();
        let config = args(&[
            "--config",
            &path,
            "--host",
            "b.example.com",
            "--expose",
            "2-3=y:2-3",
        ])
        .settle()
        .unwrap();
        assert_eq!(
            (config.region.as_str(), config.host.as_deref()),
            ("eu", Some("b.example.com"))
        );
        assert_eq!(config.endpoints.len(), 3);
    }

    #[test]
    fn changed_keys_are_named() {
        let a = ServerConfig::default();
        let b = ServerConfig {
            region: "eu".to_owned(),
            log_level: Some("debug".to_owned()),
            ..ServerConfig::default()
        };
        assert_eq!(differences(&a, &b), ["region"]);
        assert!(differences(&a, &a).is_empty());
    }
}
