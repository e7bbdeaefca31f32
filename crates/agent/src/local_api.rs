//! The local API: what `portcullis` on the same machine, scripts and the terminal ask the agent.
//!
//! Owns its listener and its token. Must never: answer without the token on TCP, or to a Host
//! header that is not one of its names.

mod guard;
mod listen;
mod routes;
mod views;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::{Router, middleware};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use portcullis_model::{Error, TokenHash};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::guard::Guard;
use crate::Agent;

/// Where the local API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAddr {
    /// A TCP address; a taken port falls to the next free one.
    Tcp(SocketAddr),
    /// A Unix socket, 0600; no token is asked there.
    Unix(PathBuf),
}

impl std::str::FromStr for LocalAddr {
    type Err = String;

    /// `127.0.0.1:4040`, `[::1]:4040`, `localhost:4040`, a port alone, or `unix:/path`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err("the path is missing".to_owned())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let with_host = match text.parse::<u16>() {
            Ok(port) => format!("127.0.0.1:{port}"),
            Err(_) => text.replacen("localhost:", "127.0.0.1:", 1),
        };
        with_host
            .parse()
            .map(Self::Tcp)
            .map_err(|_| "is not an address such as 127.0.0.1:4040 or unix:/path".to_owned())
    }
}

impl std::fmt::Display for LocalAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "http://{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Settings of the local API.
#[derive(Debug, Clone)]
pub struct LocalApiConfig {
    /// Where it listens.
    pub addr: LocalAddr,
    /// Where `local.token` is written, 0600.
    pub state_dir: PathBuf,
    /// Names in the Host header that are accepted beside the loopback ones.
    pub allow_hosts: Vec<String>,
}

/// A running local API. It ends when dropped.
#[derive(Debug)]
pub struct LocalApi {
    addr: LocalAddr,
    agent: Agent,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl LocalApi {
    /// Where it listens in fact.
    pub fn addr(&self) -> &LocalAddr {
        &self.addr
    }

    /// Stops it and waits until it has.
    pub async fn close(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::warn!(%error, "the local API ended by itself");
        }
    }
}

impl Drop for LocalApi {
    fn drop(&mut self) {
        self.stop.cancel();
        self.agent.set_local_api(None);
        if let LocalAddr::Unix(path) = &self.addr {
            // Another agent may have replaced it meanwhile; then there is nothing of ours to remove.
            std::fs::remove_file(path).ok();
        }
    }
}

/// Starts the local API of `agent`.
///
/// # Errors
/// `PTC_PORT_TAKEN` when no port of the range is free, `PTC_BIND_FAILED`, `PTC_STORE_…` when
/// the token cannot be written.
pub async fn serve(config: LocalApiConfig, agent: Agent) -> Result<LocalApi, Error> {
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let (addr, serving): (LocalAddr, Serving) = match &config.addr {
        LocalAddr::Tcp(wanted) => {
            let token = guard::token(&config.state_dir)?;
            let (listener, addr) = listen::tcp(*wanted).await?;
            let hosts = config
                .allow_hosts
                .iter()
                .cloned()
                .chain([addr.ip().to_string()])
                .collect();
            let app = app(
                &agent,
                Guard {
                    token: Some(TokenHash::of(token.expose())),
                    hosts,
                },
            );
            (
                LocalAddr::Tcp(addr),
                axum::serve(listener, app)
                    .with_graceful_shutdown(stopped)
                    .into_future()
                    .boxed(),
            )
        }
        LocalAddr::Unix(path) => {
            let listener = listen::unix(path)?;
            let app = app(
                &agent,
                Guard {
                    token: None,
                    hosts: Vec::new(),
                },
            );
            (
                config.addr.clone(),
                axum::serve(listener, app)
                    .with_graceful_shutdown(stopped)
                    .into_future()
                    .boxed(),
            )
        }
    };
    tracing::info!(%addr, "local API");
    agent.set_local_api(Some(addr.to_string()));
    let task = portcullis_net::task::spawn("local API", async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the local API ended");
        }
    });
    Ok(LocalApi {
        addr,
        agent,
        stop,
        task: Some(task),
    })
}

type Serving = BoxFuture<'static, std::io::Result<()>>;

fn app(agent: &Agent, guard: Guard) -> Router {
    routes::router(agent.clone()).layer(middleware::from_fn_with_state(
        Arc::new(guard),
        guard::check,
    ))
}
