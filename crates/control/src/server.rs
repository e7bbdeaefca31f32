//! The HTTP server: listener, TLS, one task per HTTP connection, a shutdown that lets requests finish.
//!
//! Must never: listen beyond loopback without TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_model::{Code, Error};
use portcullis_net::accept::{self, AcceptOptions};
use portcullis_net::listen::{ListenOptions, listen};
use portcullis_net::{descriptors, task, tls};
use portcullis_store::Registry;
use portcullis_telemetry::{NodeCommands, Records};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::app::{App, Shared};
use crate::config::{ControlConfig, Tls};
use crate::defaults;
use crate::router::router;
use crate::stall::Impatient;
use crate::web::Peer;

/// The API of one node.
#[derive(Debug)]
pub struct Control;

/// A running API. Dropping it stops the API without waiting for requests.
pub struct ControlHandle {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    app: App,
    stops: Stops,
    permits: Arc<Semaphore>,
    connections_max: u32,
    accepting: JoinHandle<()>,
}

impl std::fmt::Debug for ControlHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlHandle")
            .field("addr", &self.addr)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Opens the listener and answers from now on.
    ///
    /// # Errors
    /// `PTC_API_NEEDS_TLS`, `PTC_CERTIFICATE_INVALID`, `PTC_PORT_TAKEN` and its kin.
    #[allow(
        clippy::unused_async,
        reason = "callers are async, and a later start may have to wait"
    )]
    pub async fn start(
        config: ControlConfig,
        registry: Registry,
        commands: Arc<dyn NodeCommands>,
        records: Records,
    ) -> Result<ControlHandle, Error> {
        let tls = server_tls(&config)?;
        let listener = listen(config.listen, ListenOptions::default())?;
        let addr = listener.local_addr().map_err(Error::internal)?;
        let connections_max =
            descriptors::at_most_an(defaults::DESCRIPTORS_SHARE, config.connections_max);
        let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        let permits = Arc::new(Semaphore::new(connections_max as usize));
        let stops = Stops::default();
        let app = Shared::new(config, registry, commands, records);
        let server = Arc::new(Server {
            head_timeout: app.config.head_timeout,
            stall_timeout: app.config.stall_timeout,
            router: router(&app),
            tls: tls.clone(),
            stops: stops.clone(),
        });
        let options = AcceptOptions {
            permits: Arc::clone(&permits),
            shutdown: stops.soft.clone(),
            observer: Arc::new(()),
        };
        let loop_ended = accept::run(listener, options, move |stream, peer, permit| {
            server.take(stream, peer, permit)
        });
        let accepting = task::spawn("api-accept", async move {
            if let Err(cause) = loop_ended.await {
                tracing::error!(%cause, "the API's listener failed");
            }
        });
        Ok(ControlHandle {
            addr,
            tls: tls.is_some(),
            app,
            stops,
            permits,
            connections_max,
            accepting,
        })
    }
}

impl ControlHandle {
    /// What a client on this machine calls, such as `http://127.0.0.1:7480`.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let mut addr = self.addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(match addr.ip() {
                std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("{scheme}://{addr}")
    }

    /// From now on `/readyz` and `/status` say that the node takes no new work; requests are answered.
    pub fn begin_drain(&self) {
        self.app.begin_drain();
    }

    /// Stops listening, lets requests under way finish for up to `grace`, cuts the rest, and returns
    /// when all have ended.
    pub async fn shutdown(mut self, grace: Duration) {
        self.app.begin_drain();
        self.stops.soft.cancel();
        // Every connection holds a permit: all of them back means that none is left.
        let ended = async {
            if let Err(cause) = (&mut self.accepting).await {
                tracing::error!(%cause, "the API's accept loop did not end well");
            }
            drop(self.permits.acquire_many(self.connections_max).await);
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            tracing::warn!("API requests were cut off: they took longer than the shutdown waits");
        }
    }
}

impl Drop for ControlHandle {
    fn drop(&mut self) {
        self.stops.soft.cancel();
        self.stops.hard.cancel();
    }
}

/// How connections are told to end: after the request under way, or at once.
#[derive(Clone, Default)]
struct Stops {
    soft: CancellationToken,
    hard: CancellationToken,
}

/// TLS as configured; without it only loopback will do.
fn server_tls(config: &ControlConfig) -> Result<Option<Arc<rustls::ServerConfig>>, Error> {
    match &config.tls {
        Tls::Off if config.listen.ip().to_canonical().is_loopback() => Ok(None),
        Tls::Off => {
            let message = format!(
                "the API would listen on {} without TLS, and its keys would travel in the clear; set `api.tls`, or \
                 listen on 127.0.0.1",
                config.listen
            );
            Err(Error::new(Code::ApiNeedsTls, message))
        }
        Tls::OwnCa {
            authority,
            names,
            ips,
        } => tls::server_config(authority, names, ips, tls::Purpose::Http).map(Some),
        Tls::Files { cert, key } => {
            tls::server_config_from_files(cert, key, tls::Purpose::Http).map(Some)
        }
    }
}

/// What every HTTP connection shares.
struct Server {
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    head_timeout: Duration,
    stall_timeout: Duration,
    stops: Stops,
}

impl Server {
    /// Gives a connection its task; nothing of the connection is awaited here.
    fn take(self: &Arc<Self>, stream: TcpStream, addr: SocketAddr, permit: OwnedSemaphorePermit) {
        let server = Arc::clone(self);
        drop(task::spawn("api-connection", async move {
            // The stop comes first, so that a chatty client cannot outrun it.
            tokio::select! {
                biased;
                () = server.stops.hard.cancelled() => {}
                () = server.connection(stream, addr) => {}
            }
            drop(permit);
        }));
    }

    async fn connection(&self, stream: TcpStream, addr: SocketAddr) {
        let Some(config) = self.tls.clone() else {
            return self.serve(stream, Peer { addr, tls: false }).await;
        };
        let deadline = tokio::time::Instant::now() + defaults::HANDSHAKE_TIMEOUT;
        // Nobody has asked for anything during a handshake, so a stop ends it at once.
        let shaken = tokio::select! {
            biased;
            () = self.stops.soft.cancelled() => return,
            shaken = tls::accept(stream, config, deadline) => shaken,
        };
        match shaken {
            Ok(stream) => self.serve(stream, Peer { addr, tls: true }).await,
            Err(cause) => tracing::debug!(peer = %addr, %cause, "no TLS with an API client"),
        }
    }

    /// Serves one HTTP connection until it ends; on a stop the request under way is finished first.
    async fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) {
        let io = Impatient::new(io, self.stall_timeout);
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let answer = router.clone().oneshot(request);
            async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_buf_size(defaults::HEAD_BYTES_MAX)
            .max_headers(defaults::HEADERS_MAX)
            .half_close(true)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        // The stop comes first, so that a chatty client cannot outrun it.
        let ended = tokio::select! {
            biased;
            () = self.stops.soft.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            ended = connection.as_mut() => ended,
        };
        if let Err(cause) = ended {
            tracing::debug!(peer = %peer.addr, %cause, "an API connection ended early");
        }
    }
}
