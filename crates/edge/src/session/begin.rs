//! The beginning of a session: version, credential, registry, welcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::{Code, Error, TunnelSession};
use portcullis_net::control::{Reader, Writer};
use portcullis_net::{task, tls};
use portcullis_proto::message::Hello;
use portcullis_proto::session::{EdgeSettings, WelcomeSpec};
use portcullis_proto::{EdgeMachine, SessionKey};
use portcullis_store::{NewSession, Superseded};
use portcullis_telemetry::{CloseReason, Ended};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Actor;
use crate::agents::Pending;
use crate::defaults::{CHANNELS_IDLE_MIN, SESSION_SWEEP};
use crate::node::Node;
use crate::restrict;
use crate::sessions::{Command, Session};

/// Serves a control connection from its hello to its end. The `pending` slot is given back as soon as
/// the agent is known.
///
/// # Errors
/// The stream, why the agent is refused, and whether it may try again.
pub(crate) async fn serve(
    node: Arc<Node>,
    stream: tls::Stream,
    peer: SocketAddr,
    hello: Hello,
    pending: Pending,
) -> Result<(), (tls::Stream, Error, bool)> {
    let start = Instant::now();
    let (mut machine, opened, key) = match open(&node, peer, &hello).await {
        Ok(opened) => opened,
        Err(error) => {
            let retry = may_retry(error.code);
            return Err((stream, error, retry));
        }
    };
    drop(pending);
    let (session, mailbox) = register(&node, &opened, &key, &hello);
    tracing::info!(session = %opened.id, account = %opened.account, agent = %opened.agent, %peer, version = opened.agent_version, "session opened");
    let welcome = machine.welcome(start.elapsed(), words(&node, opened, key));
    if node.draining.is_cancelled() {
        // The drain began while the registry worked, and has told only those that it found.
        let error = Error::of(Code::ServerDraining);
        let why = Ended::from(CloseReason::Drained);
        session
            .command(Command::End {
                error,
                retry: true,
                why,
            })
            .await;
    }
    let (reader, writer) = tokio::io::split(stream);
    let mut snapshots = node.registry.watch();
    // The first look is owed: the credential may have gone between the registry's answer and here.
    snapshots.mark_changed();
    let mut actor = Actor {
        node,
        session,
        machine,
        reader: Reader::new(reader),
        writer: Writer::new(writer),
        mailbox,
        snapshots,
        binding: tokio::task::JoinSet::new(),
        start,
        why: None,
        gone: None,
        finishing: false,
        sweep: tokio::time::interval(SESSION_SWEEP),
    };
    match actor.perform(welcome).await {
        Some(ending) => actor.end(ending).await,
        None => actor.run().await,
    }
    Ok(())
}

/// Puts the session where connections, channels and commands find it.
fn register(
    node: &Node,
    opened: &TunnelSession,
    key: &SessionKey,
    hello: &Hello,
) -> (Arc<Session>, mpsc::Receiver<Command>) {
    let (session, mailbox) = Session::new(
        opened.id.clone(),
        opened.account.clone(),
        opened.credential.clone(),
        key.clone(),
        hello.remote_management,
        hello.carriers,
        node.records.clone(),
    );
    node.sessions.insert(Arc::clone(&session));
    node.records.metrics().sessions_opened.inc();
    node.records.metrics().sessions_open.inc();
    (session, mailbox)
}

/// What the welcome says.
fn words(node: &Node, opened: TunnelSession, key: SessionKey) -> WelcomeSpec {
    WelcomeSpec {
        session_id: opened.id,
        session_key: key,
        node: node.config.node.clone(),
        region: node.config.region.clone(),
        account: opened.account,
        server_version: node.config.server_version.clone(),
        channels_idle_min: CHANNELS_IDLE_MIN,
        carriers: node.config.carriers,
        plain_links: node.config.plain_links,
        public_host: node.config.public_host.clone(),
    }
}

async fn open(
    node: &Arc<Node>,
    peer: SocketAddr,
    hello: &Hello,
) -> Result<(EdgeMachine, TunnelSession, SessionKey), Error> {
    if node.draining.is_cancelled() {
        return Err(Error::of(Code::ServerDraining));
    }
    let machine = EdgeMachine::accept(Duration::ZERO, hello, EdgeSettings::default())?;
    let credential = node
        .registry
        .authenticate_credential(hello.authtoken.expose())?;
    let snapshot = node.registry.snapshot();
    restrict::agent(&snapshot, &credential.account, peer.ip())?;
    let mut key = [0; portcullis_proto::defaults::SESSION_KEY_BYTES];
    getrandom::fill(&mut key).map_err(Error::internal)?;
    let new = NewSession {
        credential: credential.id.clone(),
        agent: hello.agent_id.clone(),
        agent_secret: hello.agent_secret.clone(),
        generation: hello.generation,
        ip: peer.ip(),
        agent_version: hello.agent_version.clone(),
        os: hello.os.clone(),
        arch: hello.arch.clone(),
        hostname: hello.hostname.clone(),
        metadata: hello.metadata.clone(),
    };
    // Bounded by the store's own retries; the agent gives up after its handshake timeout.
    let opened = node.registry.open_session(new).await?.value;
    for superseded in opened.superseded {
        tell(node, superseded);
    }
    Ok((machine, opened.session, SessionKey::new(key)))
}

/// Ends a session that another took the place of, if it is here. In a task: its actor may be busy.
fn tell(node: &Arc<Node>, superseded: Superseded) {
    let Some(old) = node.sessions.find(&superseded.session) else {
        return;
    };
    let error = Error::of(superseded.code);
    let why = Ended::with(CloseReason::AgentLost, error.clone());
    // One that was taken over may come back: if it lives, it is the older of two, and the registry
    // lets the older win. The newer is then a duplicate, and must not.
    let retry = superseded.code == Code::AgentFenced;
    drop(task::spawn("supersede", async move {
        old.command(Command::End { error, retry, why }).await
    }));
}

/// Whether an agent that is refused with this code may come back and be let in without any change on
/// its side.
fn may_retry(code: Code) -> bool {
    !matches!(
        code,
        Code::AuthtokenMissing
            | Code::AuthtokenMalformed
            | Code::AuthtokenUnknown
            | Code::CredentialRevoked
            | Code::AgentRestricted
            | Code::AccountSuspended
            | Code::SessionMetadataTooLong
            | Code::SessionLimit
            | Code::HeartbeatInvalid
            | Code::AgentDuplicate
            | Code::VersionUnsupported
            | Code::MessageTooLarge
    )
}
