//! The way into a session: connect and say hello. The welcome is the actor's to hear.

use std::time::Duration;

use portcullis_model::{Code, Error};
use portcullis_net::control::{Reader, Writer};
use portcullis_net::tls;
use portcullis_proto::FirstMessage;
use portcullis_proto::defaults::VERSIONS;
use portcullis_proto::message::Hello;
use portcullis_proto::session::{AgentMachine, AgentSettings};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout_at};

use crate::dial;
use crate::shared::Shared;

/// A control connection on which the hello was sent.
pub(super) struct Control {
    pub(super) reader: Reader<ReadHalf<tls::Stream>>,
    pub(super) writer: Writer<WriteHalf<tls::Stream>>,
    pub(super) machine: AgentMachine,
    /// The machine's time counts from here.
    pub(super) start: Instant,
}

/// Connects and says hello.
pub(super) async fn greet(shared: &Shared) -> Result<Control, Error> {
    let deadline = Instant::now() + shared.settings.connect_timeout;
    let stream = dial::connect(&shared.settings, deadline).await?;
    let (reading, writing) = tokio::io::split(stream);
    let mut writer = Writer::new(writing);
    let hello = hello(shared);
    let start = Instant::now();
    let rest = deadline.saturating_duration_since(start);
    let settings = AgentSettings {
        handshake_timeout: rest,
        ..AgentSettings::of(&hello)
    };
    let late = || {
        Error::new(
            Code::ServerUnreachable,
            "the server did not take the hello in time",
        )
    };
    timeout_at(deadline, writer.send(&FirstMessage::Hello(hello)))
        .await
        .map_err(|_| late())??;
    let machine = AgentMachine::new(Duration::ZERO, settings);
    Ok(Control {
        reader: Reader::new(reading),
        writer,
        machine,
        start,
    })
}

fn hello(shared: &Shared) -> Hello {
    let settings = &shared.settings;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Hello {
        versions: VERSIONS,
        authtoken: settings.server.authtoken.clone(),
        agent_id: shared.identity.agent_id.clone(),
        agent_secret: shared.identity.secret.clone(),
        generation: shared.identity.generation,
        agent_version: settings.agent_version.clone(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        hostname: settings.hostname.clone(),
        metadata: settings.metadata.clone(),
        heartbeat_interval_ms: millis(settings.heartbeat_interval),
        heartbeat_tolerance_ms: millis(settings.heartbeat_tolerance),
        remote_management: settings.remote_management,
        carriers: true,
    }
}
