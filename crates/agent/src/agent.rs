//! The handle on a running agent.
//!
//! Must never: do the work itself; the supervisor and the sessions do.

use std::sync::Arc;
use std::time::Duration;

use portcullis_model::{Code, EndpointId, Error};
use tokio::sync::{mpsc, watch};

use crate::builder::AgentBuilder;
use crate::defaults;
use crate::dialler::{self, Dialled};
use crate::endpoint::{LocalEndpoint, Sink};
use crate::identity::Identity;
use crate::listener::{Forwarder, Listener};
use crate::options::{EndpointOptions, EndpointUpdate};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::status::{EndpointStatus, Status};
use crate::{health, supervisor, upstream};

/// A running agent: one identity, one session that comes back by itself, any number of endpoints.
/// Clones are handles on the same agent; it ends with the last handle, listener and forwarder, or
/// by [`shutdown`](Self::shutdown).
#[derive(Debug, Clone)]
pub struct Agent {
    handle: Arc<Handle>,
}

/// Ends the agent when the last one is dropped.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// How an agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Why: `PTC_AGENT_STOPPED` when someone stopped it through the API, the server's refusal when
    /// no further attempt can help. `None` after [`Agent::shutdown`].
    pub error: Option<Error>,
}

impl Agent {
    /// Settings of a new agent.
    pub fn builder() -> AgentBuilder {
        AgentBuilder::default()
    }

    /// Opens an endpoint whose connections the program takes itself. Returns when it is bound;
    /// while there is no session it waits for one.
    ///
    /// # Errors
    /// Why the server or the local checks refused it, or why the agent ended.
    ///
    /// # Cancel safety
    /// When the future is dropped the endpoint is given up.
    pub async fn listen(&self, options: EndpointOptions) -> Result<Listener, Error> {
        options.check()?;
        if options.proxy_protocol.is_some() {
            let what = "a listener has no upstream to write a PROXY header to; the connection knows its peer";
            return Err(Error::new(Code::ConfigInvalid, what));
        }
        if options.health.is_some() {
            let what = "health: a listener has no upstream to check";
            return Err(Error::new(Code::HealthInvalid, what));
        }
        let notices = options.policy_notices();
        let (sender, queue) = mpsc::channel(defaults::ACCEPT_QUEUE);
        let endpoint = self
            .shared()
            .add(options, own_upstream(), Sink::Queue(sender))?;
        tell(endpoint.name(), &notices);
        let listener = Listener::new(self.clone(), Arc::clone(&endpoint), queue);
        endpoint.bound().await?;
        Ok(listener)
    }

    /// Opens an endpoint whose connections go to `upstream`: a port, `host:port`, `tcp://host:port`,
    /// `tls://host:port` or `unix:/path`. Returns when it is bound; while there is no session it
    /// waits for one.
    ///
    /// # Errors
    /// `PTC_UPSTREAM_INVALID`, why the server or the local checks refused it, or why the agent ended.
    ///
    /// # Cancel safety
    /// When the future is dropped the endpoint is given up.
    pub async fn forward(
        &self,
        options: EndpointOptions,
        upstream: &str,
    ) -> Result<Forwarder, Error> {
        let endpoint = self.add_forwarder(options, upstream)?;
        let forwarder = Forwarder::new(self.clone(), Arc::clone(&endpoint));
        endpoint.bound().await?;
        Ok(forwarder)
    }

    /// Opens an endpoint like [`forward`](Self::forward), but returns its name at once, bound or not.
    /// It is offered to the server until it is accepted, and stays until [`remove`](Self::remove) or
    /// the agent's end. [`Status::endpoints`] tells how it fares.
    ///
    /// # Errors
    /// `PTC_UPSTREAM_INVALID`, what the local checks refuse, a name that is taken.
    pub fn offer(&self, options: EndpointOptions, upstream: &str) -> Result<String, Error> {
        let endpoint = self.add_forwarder(options, upstream)?;
        Ok(endpoint.name().to_owned())
    }

    /// Waits until an endpoint is bound, or the server's first refusal.
    ///
    /// # Errors
    /// `PTC_ENDPOINT_NOT_FOUND`, or why the server refused it.
    pub async fn bound(&self, name: &str) -> Result<EndpointStatus, Error> {
        let endpoint = self.find(name)?;
        endpoint.bound().await?;
        Ok(endpoint.status())
    }

    /// Changes an endpoint in place. Without a session the change waits for the next.
    ///
    /// # Errors
    /// `PTC_ENDPOINT_NOT_FOUND`, or why the server or the local checks refused the change.
    pub async fn update(&self, name: &str, mut update: EndpointUpdate) -> Result<(), Error> {
        let endpoint = self.find(name)?;
        let upstream = match (&update.upstream, &*endpoint.sink()) {
            (None, _) => None,
            (Some(text), Sink::Forward(_)) => Some(upstream::parse(text)?),
            (Some(_), Sink::Queue(_) | Sink::Closed) => {
                return Err(Error::new(
                    Code::UpstreamInvalid,
                    format!("`{name}` has no upstream to change"),
                ));
            }
        };
        let mut changed = endpoint.wanted_now().options;
        changed.apply(&update);
        changed.check()?;
        if update.traffic_policy.is_some() {
            tell(name, &changed.policy_notices());
        }
        update.upstream = upstream.as_ref().map(ToString::to_string);
        let revision = endpoint.change(update, upstream);
        self.shared().wants_changed();
        endpoint.applied(revision).await
    }

    /// Closes an endpoint by its name, whoever holds it, and waits until the server knows.
    /// Connections in progress go on.
    ///
    /// # Errors
    /// `PTC_ENDPOINT_NOT_FOUND`.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let endpoint = self.find(name)?;
        self.close_held(&endpoint).await;
        Ok(())
    }

    /// Connects to an internal endpoint of the account, over a link of its own; see
    /// [`Dialler::dial`](crate::Dialler::dial).
    ///
    /// # Errors
    /// As there.
    pub async fn dial(&self, url: &str) -> Result<Dialled, Error> {
        dialler::dial(&self.shared().settings, url).await
    }

    /// One endpoint as it stands now.
    pub fn endpoint(&self, name: &str) -> Option<EndpointStatus> {
        self.shared().find(name).map(|endpoint| endpoint.status())
    }

    /// All endpoints as they stand now, in order of creation.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.shared()
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.status())
            .collect()
    }

    /// What was asked for under a name.
    pub(crate) fn wanted(&self, name: &str) -> Option<EndpointOptions> {
        self.shared()
            .find(name)
            .map(|endpoint| endpoint.wanted_now().options)
    }

    /// The endpoint that has this id at the server.
    pub fn endpoint_by_id(&self, id: &EndpointId) -> Option<EndpointStatus> {
        let endpoints = self.shared().endpoints();
        endpoints
            .iter()
            .find(|endpoint| endpoint.id().as_ref() == Some(id))
            .map(|endpoint| endpoint.status())
    }

    /// What the agent shows of itself; changes are published at once, figures every second.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared().status()
    }

    /// The status at this moment, figures included.
    pub(crate) fn status_now(&self) -> Status {
        self.shared().publish();
        self.shared().status().borrow().clone()
    }

    /// Waits until the agent has ended.
    pub async fn stopped(&self) -> Stopped {
        self.shared().stopped().await
    }

    /// Ends the agent: closes its endpoints, waits up to `wait` for connections to end, resets the
    /// rest and says goodbye.
    pub async fn shutdown(&self, wait: Duration) {
        let shared = self.shared();
        shared.close_all(&Error::new(
            Code::AgentStopped,
            "the agent is shutting down",
        ));
        let ended = async {
            tokio::select! {
                biased; // when it has ended there is nothing to wait for
                _ = shared.stopped() => {}
                () = shared.total.idle() => {}
            }
        };
        if tokio::time::timeout(wait, ended).await.is_err() {
            let open = shared.total.snapshot().open;
            tracing::warn!(open, "connections are reset: they did not end in time");
        }
        shared.stop.cancel();
        shared.stopped().await;
    }

    pub(crate) fn start(builder: AgentBuilder) -> Result<Self, Error> {
        let settings = Settings::of(&builder)?;
        let identity = match &builder.state_dir {
            Some(dir) => Identity::open(dir)?,
            None => Identity::in_memory("no state directory was given")?,
        };
        if let Some(because) = &identity.in_memory_because {
            tracing::info!(agent = %identity.agent_id, because, "this agent has an identity for this run only");
        }
        let shared = Arc::new(Shared::new(settings, identity));
        shared.publish();
        // Both end with `stop`, which the last handle cancels.
        drop(portcullis_net::task::spawn(
            "agent status",
            Arc::clone(&shared).keep_publishing(),
        ));
        drop(portcullis_net::task::spawn(
            "agent",
            supervisor::run(Arc::clone(&shared)),
        ));
        Ok(Self {
            handle: Arc::new(Handle { shared }),
        })
    }

    /// Waits for the first attempt's outcome.
    pub(crate) async fn first_attempt(&self) -> Result<(), Error> {
        let mut first = self.shared().first.subscribe();
        let settled = first.wait_for(Option::is_some).await;
        settled
            .ok()
            .and_then(|first| first.clone())
            .unwrap_or(Ok(()))
    }

    /// The endpoint's holder is gone.
    pub(crate) fn release(&self, endpoint: &Arc<LocalEndpoint>) {
        self.shared().remove(
            endpoint,
            Error::new(Code::EndpointNotFound, "the endpoint was closed"),
        );
    }

    /// Closes an endpoint and waits until the server knows, but not for a server that hangs.
    pub(crate) async fn close_held(&self, endpoint: &Arc<LocalEndpoint>) {
        self.release(endpoint);
        let unbound = tokio::time::timeout(defaults::UNBIND_WAIT, endpoint.unheld()).await;
        if unbound.is_err() {
            tracing::warn!(
                endpoint = endpoint.name(),
                "the server has not confirmed the unbind in time"
            );
        }
    }

    /// Where the local API listens, for the status.
    pub(crate) fn set_local_api(&self, addr: Option<String>) {
        self.shared().local_api(addr);
    }

    fn add_forwarder(
        &self,
        options: EndpointOptions,
        upstream: &str,
    ) -> Result<Arc<LocalEndpoint>, Error> {
        options.check()?;
        let parsed = upstream::parse(upstream)?;
        if let Some(check) = &options.health {
            portcullis_net::upstream::health::fits(check, &parsed)?;
        }
        let notices = options.policy_notices();
        let shown = parsed.to_string();
        let endpoint = self.shared().add(options, shown, Sink::Forward(parsed))?;
        tell(endpoint.name(), &notices);
        health::begin(self.shared(), &endpoint);
        Ok(endpoint)
    }

    fn find(&self, name: &str) -> Result<Arc<LocalEndpoint>, Error> {
        let missing = || {
            Error::new(
                Code::EndpointNotFound,
                format!("this agent has no endpoint named `{name}`"),
            )
        };
        self.shared().find(name).ok_or_else(missing)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// Logs what is worth knowing of an endpoint's policy.
fn tell(endpoint: &str, notices: &[String]) {
    for notice in notices {
        tracing::warn!(endpoint, "traffic policy: {notice}");
    }
}

/// What a listener shows as its upstream: the program.
fn own_upstream() -> String {
    let exe = std::env::current_exe().ok();
    let name = exe
        .as_deref()
        .and_then(|path| path.file_name())
        .map(|name| name.to_string_lossy().into_owned());
    format!(
        "app://{}?pid={}",
        name.as_deref().unwrap_or("program"),
        std::process::id()
    )
}
