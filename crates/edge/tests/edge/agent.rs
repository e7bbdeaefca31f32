//! A fake agent: the real protocol on the real channel code, and nothing else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use portcullis_model::{AgentId, Code, EndpointId, Error, Secret, SessionId};
use portcullis_net::channel::{Channel, Finished};
use portcullis_net::control::{Reader, Writer};
use portcullis_net::{Counters, RelayLimits, TcpConn, relay, tls};
use portcullis_proto::handshake::channel_mac;
use portcullis_proto::message::{
    AgentMessage, Bind, Bound, ChannelHello, EdgeMessage, FirstMessage, Goodbye, HeartbeatAck,
    Hello, Welcome,
};
use portcullis_proto::{SessionKey, defaults};
use rustls::ClientConfig;
use tokio::io::{AsyncWriteExt as _, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, PATIENCE, soon};

/// Who an agent says it is.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) id: AgentId,
    pub(crate) secret: Secret,
    pub(crate) generation: u64,
    pub(crate) token: Secret,
    pub(crate) remote_management: bool,
}

impl Identity {
    pub(crate) fn new(seed: u8, token: Secret) -> Self {
        Self {
            id: AgentId::new(1_700_000_000, [seed; 16]),
            secret: Secret::new(format!("secret-{seed}")),
            generation: 1,
            token,
            remote_management: true,
        }
    }
}

/// What the agent does with its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Serves every open.
    Serves,
    /// Takes every open and never says how it went.
    NeverAnswers,
    /// Refuses every open with a code.
    Refuses(Code),
    /// Opens no channel.
    BringsNoChannels,
}

/// Where the agent's endpoints forward to.
type Upstreams = Arc<Mutex<HashMap<EndpointId, SocketAddr>>>;

pub(crate) struct Agent {
    pub(crate) session: SessionId,
    pub(crate) key: SessionKey,
    /// What the edge says, heartbeats and `need_channels` excepted.
    pub(crate) said: mpsc::Receiver<EdgeMessage>,
    writer: Arc<tokio::sync::Mutex<Writer<WriteHalf<tls::Stream>>>>,
    upstreams: Upstreams,
    requests: u64,
    /// Ends everything of this agent at once, as a crash does.
    crash: CancellationToken,
}

/// Opens a connection to the agent port.
pub(crate) async fn dial(address: SocketAddr, client: &Arc<ClientConfig>) -> tls::Stream {
    let stream = TcpStream::connect(address)
        .await
        .expect("the agent port is open");
    let deadline = Instant::now() + PATIENCE;
    tls::connect(stream, Arc::clone(client), "edge.test:7443", deadline)
        .await
        .expect("handshake")
}

impl Agent {
    pub(crate) async fn connect(bed: &Bed, identity: &Identity) -> Self {
        Self::try_connect(bed, identity).await.expect("welcome")
    }

    /// Connects; the edge's refusal is the error.
    pub(crate) async fn try_connect(bed: &Bed, identity: &Identity) -> Result<Self, Error> {
        Self::connect_as(bed, identity, Manner::Serves).await
    }

    /// Connects as an agent that behaves badly.
    pub(crate) async fn connect_as(
        bed: &Bed,
        identity: &Identity,
        manner: Manner,
    ) -> Result<Self, Error> {
        let client = tls::client_config(&bed.trust).expect("tls");
        let (reader, writer) = tokio::io::split(dial(bed.edge.agent_addr(), &client).await);
        let (mut reader, mut writer) = (Reader::new(reader), Writer::new(writer));
        writer
            .send(&FirstMessage::from(hello(identity)))
            .await
            .expect("hello");
        let answer = soon("the edge's answer", reader.next::<EdgeMessage>())
            .await
            .expect("an answer");
        let welcome = match answer {
            Some(EdgeMessage::Welcome(welcome)) => welcome,
            Some(EdgeMessage::Error(fatal)) => return Err(fatal.error()),
            other => panic!("neither welcome nor error: {other:?}"),
        };
        let (said_to, said) = mpsc::channel(64);
        let upstreams = Upstreams::default();
        let crash = CancellationToken::new();
        let writer = Arc::new(tokio::sync::Mutex::new(writer));
        let channels = Channels {
            edge: bed.edge.agent_addr(),
            client,
            welcome: welcome.clone(),
            next: Arc::new(AtomicU64::new(1)),
            upstreams: Arc::clone(&upstreams),
            crash: crash.clone(),
            manner,
        };
        channels.open(welcome.channels_idle_min);
        tokio::spawn(crash.clone().run_until_cancelled_owned(listen(
            reader,
            Arc::clone(&writer),
            channels,
            said_to,
        )));
        Ok(Self {
            session: welcome.session_id,
            key: welcome.session_key,
            said,
            writer,
            upstreams,
            requests: 0,
            crash,
        })
    }

    pub(crate) async fn say(&self, message: impl Into<AgentMessage>) {
        self.writer
            .lock()
            .await
            .send(&message.into())
            .await
            .expect("the control connection takes a message");
    }

    /// The edge's next word.
    pub(crate) async fn hear(&mut self) -> EdgeMessage {
        soon("a word of the edge", self.said.recv())
            .await
            .expect("the session goes on")
    }

    pub(crate) async fn bind(&mut self, url: &str, upstream: SocketAddr) -> Bound {
        self.bind_with(
            Bind {
                url: url.to_owned(),
                name: url.to_owned(),
                ..Bind::default()
            },
            upstream,
        )
        .await
        .expect("bound")
    }

    pub(crate) async fn bind_with(
        &mut self,
        bind: Bind,
        upstream: SocketAddr,
    ) -> Result<Bound, Error> {
        self.requests += 1;
        let upstream_url = format!("tcp://{upstream}");
        self.say(Bind {
            req: self.requests,
            upstream_url,
            ..bind
        })
        .await;
        match self.hear().await {
            EdgeMessage::Bound(bound) => {
                self.forward(&bound.endpoint_id, upstream);
                Ok(bound)
            }
            EdgeMessage::Refused(refused) => Err(refused.error()),
            other => panic!("neither bound nor refused: {other:?}"),
        }
    }

    pub(crate) fn forward(&self, endpoint: &EndpointId, upstream: SocketAddr) {
        self.upstreams
            .lock()
            .expect("sound")
            .insert(endpoint.clone(), upstream);
    }

    pub(crate) async fn goodbye(self) {
        self.say(Goodbye {
            reason: "done".to_owned(),
        })
        .await;
    }
}

/// Drops every connection at once, as a crash does.
impl Drop for Agent {
    fn drop(&mut self) {
        self.crash.cancel();
    }
}

pub(crate) fn hello(identity: &Identity) -> Hello {
    Hello {
        versions: defaults::VERSIONS,
        authtoken: identity.token.clone(),
        agent_id: identity.id.clone(),
        agent_secret: identity.secret.clone(),
        generation: identity.generation,
        agent_version: "0.0.0".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        hostname: "test".to_owned(),
        metadata: String::new(),
        heartbeat_interval_ms: 10_000,
        heartbeat_tolerance_ms: 15_000,
        remote_management: identity.remote_management,
        carriers: false,
    }
}

async fn listen(
    mut reader: Reader<tokio::io::ReadHalf<tls::Stream>>,
    writer: Arc<tokio::sync::Mutex<Writer<WriteHalf<tls::Stream>>>>,
    channels: Channels,
    said: mpsc::Sender<EdgeMessage>,
) {
    while let Ok(Some(message)) = reader.next::<EdgeMessage>().await {
        match message {
            EdgeMessage::Heartbeat(beat) => {
                let ack = AgentMessage::from(HeartbeatAck { nonce: beat.nonce });
                if writer.lock().await.send(&ack).await.is_err() {
                    return;
                }
            }
            EdgeMessage::HeartbeatAck(_) => {}
            EdgeMessage::NeedChannels(need) => channels.open(need.count),
            other => {
                if said.send(other).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Opens data channels and serves them.
#[derive(Clone)]
struct Channels {
    edge: SocketAddr,
    client: Arc<ClientConfig>,
    welcome: Welcome,
    next: Arc<AtomicU64>,
    upstreams: Upstreams,
    crash: CancellationToken,
    manner: Manner,
}

impl Channels {
    fn open(&self, count: u32) {
        if self.manner == Manner::BringsNoChannels {
            return;
        }
        for _ in 0..count {
            let own = self.clone();
            tokio::spawn(
                self.crash
                    .clone()
                    .run_until_cancelled_owned(async move { own.serve().await }),
            );
        }
    }

    async fn serve(self) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let stream = dial(self.edge, &self.client).await;
        let exporter = tls::exporter(&stream).expect("handshake is complete");
        let mac = channel_mac(
            &self.welcome.session_key,
            &self.welcome.session_id,
            number,
            &exporter,
        );
        let mut writer = Writer::new(stream);
        let hello = ChannelHello {
            session_id: self.welcome.session_id.clone(),
            channel: number,
            mac,
        };
        if writer.send(&FirstMessage::from(hello)).await.is_err() {
            return;
        }
        let mut channel = Some(Channel::agent(number, writer.into_inner()));
        while let Some(free) = channel.take() {
            let Ok((header, first_bytes, opening)) = free.accept().await else {
                return;
            };
            if self.manner == Manner::NeverAnswers {
                std::future::pending::<()>().await;
            }
            if let Manner::Refuses(code) = self.manner {
                channel = opening.refuse(&Error::of(code)).await;
                continue;
            }
            let upstream = self
                .upstreams
                .lock()
                .expect("sound")
                .get(&header.endpoint_id)
                .copied();
            let dialled = match upstream {
                Some(upstream) => TcpStream::connect(upstream).await,
                None => Err(std::io::ErrorKind::ConnectionRefused.into()),
            };
            channel = match dialled {
                Ok(upstream) => {
                    let Ok(mut tunnel) = opening.opened().await else {
                        return;
                    };
                    let mut upstream = TcpConn::new(upstream);
                    if upstream.write_all(&first_bytes).await.is_err() {
                        return;
                    }
                    let never = CancellationToken::new();
                    relay(
                        &mut tunnel,
                        &mut upstream,
                        &RelayLimits::default(),
                        &Counters::new(),
                        &never,
                    )
                    .await;
                    drop(upstream);
                    match tunnel.finish().await {
                        Finished::Reusable(channel) => Some(channel),
                        Finished::Abort { .. } | Finished::Closed | Finished::Settled => None,
                    }
                }
                Err(error) => {
                    let why = Error::new(Code::UpstreamRefused, format!("cannot dial: {error}"));
                    opening.refuse(&why).await
                }
            };
        }
    }
}
