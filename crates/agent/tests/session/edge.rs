//! A small edge for tests, on `proto` and `net`: says yes to what it is asked unless told otherwise,
//! remembers what it heard, and opens connections when a test wants one.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_model::id::ksuid;
use portcullis_model::join::{JoinString, ServerTrust};
use portcullis_model::secret::Token;
use portcullis_model::{AccountId, Binding, EndpointId, EndpointUrl, Error, Secret, SessionId};
use portcullis_net::channel::{Channel, EdgeOpening, Finished, OpenHeader, TunnelStream};
use portcullis_net::control::{Reader, Writer};
use portcullis_net::seal::MasterKey;
use portcullis_net::tls::{self, CertAuthority, Purpose};
use portcullis_proto::message::{
    Bind, Bound, ChannelHello, Fatal, HeartbeatAck, Hello, Refused, Unbound, Update, Updated,
    Welcome,
};
use portcullis_proto::{AgentMessage, EdgeMessage, FirstMessage, SessionKey, handshake};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Ten times what anything here may take.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Fails the test when `future` takes longer than [`SOON`].
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {SOON:?}"),
    }
}

/// How the edge behaves from now on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// Answer to every hello.
    pub(crate) refuse_hello: Option<Fatal>,
    /// Answer to every bind.
    pub(crate) refuse_bind: Option<Error>,
    /// Answer to every update.
    pub(crate) refuse_update: Option<Error>,
    /// Hears, but says nothing.
    pub(crate) mute: bool,
    /// Idle channels that agents are asked for; 0 means 1.
    pub(crate) channels_idle_min: u32,
}

pub(crate) struct FakeEdge {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    authority: CertAuthority,
    dir: tempfile::TempDir,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    script: Mutex<Script>,
    sessions: watch::Sender<Vec<Arc<FakeSession>>>,
    /// Random ports by agent and name, as a registry would keep them.
    ports: Mutex<BTreeMap<(String, String), u16>>,
}

impl Drop for FakeEdge {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl FakeEdge {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let key = MasterKey::load_or_create(&dir.path().join("master.key")).expect("a key");
        let authority = CertAuthority::load_or_create(dir.path(), &key).expect("a CA");
        let names = ["localhost".to_owned()];
        let ips = ["127.0.0.1".parse().expect("an address")];
        let config = tls::server_config(&authority, &names, &ips, Purpose::Agents).expect("TLS");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            script: Mutex::default(),
            sessions: watch::Sender::new(Vec::new()),
            ports: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                portcullis_net::socket::configure(&stream).expect("options");
                let (shared, config) = (Arc::clone(&serving), Arc::clone(&config));
                tokio::spawn(async move {
                    if let Ok(stream) = tls::accept(stream, config, Instant::now() + SOON).await {
                        shared.serve(stream).await;
                    }
                });
            }
        });
        Self {
            addr,
            shared,
            authority,
            dir,
            accepting,
        }
    }

    /// The server's data directory.
    pub(crate) fn data_dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn token() -> Secret {
        Token::new(&ksuid(1_700_000_000, [3; 16]), [9; 24]).reveal()
    }

    pub(crate) fn join(&self) -> Secret {
        self.join_with(ServerTrust::Pin(self.authority.pin()))
    }

    pub(crate) fn join_with(&self, trust: ServerTrust) -> Secret {
        JoinString {
            server: self.addr.to_string(),
            trust,
            authtoken: Self::token(),
        }
        .reveal()
    }

    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock().expect("no panic under it"));
    }

    /// The `n`th session since the start, from 0, once it is there.
    pub(crate) async fn session(&self, n: usize) -> Arc<FakeSession> {
        let mut sessions = self.shared.sessions.subscribe();
        let sessions = soon(
            "a session",
            sessions.wait_for(|sessions| sessions.len() > n),
        )
        .await;
        Arc::clone(&sessions.expect("the edge is alive")[n])
    }

    pub(crate) fn sessions(&self) -> usize {
        self.shared.sessions.borrow().len()
    }
}

/// An agent's session.
pub(crate) struct FakeSession {
    pub(crate) hello: Hello,
    pub(crate) id: SessionId,
    key: SessionKey,
    outbox: mpsc::Sender<Option<EdgeMessage>>,
    heard: watch::Sender<Vec<AgentMessage>>,
    bound: Mutex<BTreeMap<String, (EndpointId, EndpointUrl)>>,
    free: Mutex<VecDeque<Channel>>,
    /// How many channels were ever opened, and how often one came free.
    channels: watch::Sender<u64>,
    ended: watch::Sender<bool>,
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: tls::Stream) {
        let mut reader = Reader::new(stream);
        match reader.next::<FirstMessage>().await {
            Ok(Some(FirstMessage::Hello(hello))) => self.session(reader, hello).await,
            Ok(Some(FirstMessage::Channel(hello))) => {
                self.channel(reader.into_inner().expect("nothing follows"), &hello);
            }
            _ => {}
        }
    }

    fn channel(&self, stream: tls::Stream, hello: &ChannelHello) {
        let sessions = self.sessions.borrow().clone();
        let session = sessions
            .iter()
            .find(|session| session.id == hello.session_id)
            .expect("a known session");
        let exporter = tls::exporter(&stream).expect("a handshake");
        let good = handshake::verify_channel_mac(
            &session.key,
            &session.id,
            hello.channel,
            &exporter,
            &hello.mac,
        );
        assert!(good, "the channel's MAC is wrong");
        session.put(Channel::edge(hello.channel, stream));
    }

    async fn session(&self, reader: Reader<tls::Stream>, hello: Hello) {
        let (reading, writing) = tokio::io::split(reader.into_inner().expect("nothing follows"));
        let (reader, mut writer) = (Reader::new(reading), Writer::new(writing));
        let script = self.script.lock().expect("no panic under it").clone();
        if let Some(fatal) = script.refuse_hello {
            writer.send(&EdgeMessage::Error(fatal)).await.expect("sent");
            writer.close().await.expect("closed");
            return;
        }
        let number = self.sessions.borrow().len() as u8;
        let (outbox, commands) = mpsc::channel(64);
        let session = Arc::new(FakeSession {
            id: SessionId::new(1_700_000_000, [number; 16]),
            key: SessionKey::new([number + 1; 32]),
            outbox,
            heard: watch::Sender::new(Vec::new()),
            bound: Mutex::default(),
            free: Mutex::default(),
            channels: watch::Sender::new(0),
            ended: watch::Sender::new(false),
            hello,
        });
        let welcome = session.welcome(script.channels_idle_min.max(1));
        self.sessions
            .send_modify(|sessions| sessions.push(Arc::clone(&session)));
        writer
            .send(&EdgeMessage::Welcome(welcome))
            .await
            .expect("sent");
        session.talk(self, reader, writer, commands).await;
        session.ended.send_replace(true);
    }

    fn url(&self, agent: &str, bind: &Bind) -> EndpointUrl {
        if !bind.url.is_empty() && bind.url != "tcp://" {
            return bind.url.parse().expect("a whole URL");
        }
        let mut ports = self.ports.lock().expect("no panic under it");
        let next = 20_000 + ports.len() as u16;
        let port = *ports
            .entry((agent.to_owned(), bind.name.clone()))
            .or_insert(next);
        EndpointUrl::new("edge.test", port)
    }
}

impl FakeSession {
    fn welcome(&self, channels_idle_min: u32) -> Welcome {
        Welcome {
            version: 1,
            session_id: self.id.clone(),
            session_key: self.key.clone(),
            node: "n1".to_owned(),
            region: "here".to_owned(),
            account: AccountId::new(1_700_000_000, [0; 16]),
            server_version: "test".to_owned(),
            heartbeat_interval_ms: self.hello.heartbeat_interval_ms,
            heartbeat_tolerance_ms: self.hello.heartbeat_tolerance_ms,
            channels_idle_min,
            carriers: 0,
            health: true,
            plain_links: false,
            public_host: "edge.test".to_owned(),
        }
    }

    async fn talk(
        &self,
        shared: &Shared,
        mut reader: Reader<ReadHalf<tls::Stream>>,
        mut writer: Writer<WriteHalf<tls::Stream>>,
        mut commands: mpsc::Receiver<Option<EdgeMessage>>,
    ) {
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Some(message)) => {
                        if writer.send(&message).await.is_err() {
                            return;
                        }
                    }
                    _ => return,
                },
                message = reader.next::<AgentMessage>() => {
                    let Ok(Some(message)) = message else { return };
                    let answer = self.answer(shared, &message);
                    self.heard.send_modify(|heard| heard.push(message));
                    let mute = shared.script.lock().expect("no panic under it").mute;
                    if let Some(answer) = answer.filter(|_| !mute)
                        && writer.send(&answer).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
    }

    fn answer(&self, shared: &Shared, message: &AgentMessage) -> Option<EdgeMessage> {
        let script = shared.script.lock().expect("no panic under it").clone();
        match message {
            AgentMessage::Bind(bind) => Some(match script.refuse_bind {
                Some(error) => Refused::new(bind.req, &error).into(),
                None => self.bind(shared, bind).into(),
            }),
            AgentMessage::Update(Update { req, .. }) => Some(match script.refuse_update {
                Some(error) => Refused::new(*req, &error).into(),
                None => Updated { req: *req }.into(),
            }),
            AgentMessage::Unbind(unbind) => {
                self.bound
                    .lock()
                    .expect("no panic under it")
                    .retain(|_, (id, _)| *id != unbind.endpoint_id);
                Some(Unbound { req: unbind.req }.into())
            }
            AgentMessage::Heartbeat(beat) => Some(HeartbeatAck { nonce: beat.nonce }.into()),
            AgentMessage::HeartbeatAck(_)
            | AgentMessage::Abort(_)
            | AgentMessage::Health(_)
            | AgentMessage::Goodbye(_) => None,
        }
    }

    fn bind(&self, shared: &Shared, bind: &Bind) -> Bound {
        let url = shared.url(self.hello.agent_id.as_str(), bind);
        let mut entropy = [0; 16];
        getrandom::fill(&mut entropy).expect("randomness");
        let endpoint_id = EndpointId::new(1_700_000_000, entropy);
        let mut bound = self.bound.lock().expect("no panic under it");
        bound.insert(bind.name.clone(), (endpoint_id.clone(), url.clone()));
        Bound {
            req: bind.req,
            endpoint_id,
            url,
            binding: bind.binding.unwrap_or(Binding::Public),
            region: "here".into(),
        }
    }

    fn put(&self, channel: Channel) {
        self.free
            .lock()
            .expect("no panic under it")
            .push_back(channel);
        self.channels.send_modify(|count| *count += 1);
    }

    /// Says something to the agent.
    pub(crate) async fn say(&self, message: impl Into<EdgeMessage>) {
        self.outbox
            .send(Some(message.into()))
            .await
            .expect("the session is alive");
    }

    /// Drops the connection without a word.
    pub(crate) async fn cut(&self) {
        self.outbox.send(None).await.expect("the session is alive");
        soon("the cut", self.ended.subscribe().wait_for(|ended| *ended))
            .await
            .expect("alive");
    }

    pub(crate) async fn ended(&self) {
        soon(
            "the session's end",
            self.ended.subscribe().wait_for(|ended| *ended),
        )
        .await
        .expect("alive");
    }

    pub(crate) fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until the agent has said something that `wanted` finds, and returns it.
    pub(crate) async fn heard<T>(
        &self,
        what: &str,
        mut wanted: impl FnMut(&AgentMessage) -> Option<T>,
    ) -> T {
        let mut heard = self.heard.subscribe();
        let mut found = None;
        let search = heard.wait_for(|messages| {
            found = messages.iter().find_map(&mut wanted);
            found.is_some()
        });
        soon(what, search).await.expect("the session is kept");
        found.expect("it was waited for")
    }

    /// Waits until so many channels were opened or came free again.
    pub(crate) async fn channels(&self, count: u64) {
        soon(
            "channels",
            self.channels
                .subscribe()
                .wait_for(|channels| *channels >= count),
        )
        .await
        .expect("alive");
    }

    pub(crate) fn endpoint(&self, name: &str) -> EndpointId {
        self.bound.lock().expect("no panic under it")[name]
            .0
            .clone()
    }

    /// Acts as if an endpoint were still bound.
    pub(crate) fn remember(&self, name: &str, id: EndpointId) {
        let url = EndpointUrl::new("edge.test", 1);
        self.bound
            .lock()
            .expect("no panic under it")
            .insert(name.to_owned(), (id, url));
    }

    async fn free_channel(&self) -> Channel {
        let mut changes = self.channels.subscribe();
        loop {
            if let Some(channel) = self.free.lock().expect("no panic under it").pop_front() {
                return channel;
            }
            soon("a free channel", changes.changed())
                .await
                .expect("alive");
        }
    }

    /// Sends an OPEN for an endpoint and leaves the verdict to the test.
    pub(crate) async fn begin(&self, name: &str, first: &[u8]) -> Result<EdgeOpening, Error> {
        let header = OpenHeader {
            endpoint_id: self.endpoint(name),
            connection_id: portcullis_model::id::ConnectionId::new(1_700_000_000, [5; 16]),
            client: "192.0.2.7:4711".parse().expect("an address"),
            server: "198.51.100.1:20000".parse().expect("an address"),
        };
        self.free_channel().await.open(&header, first).await
    }

    /// Opens a connection to an endpoint, as a client's.
    pub(crate) async fn open(self: &Arc<Self>, name: &str, first: &[u8]) -> Result<Client, Error> {
        let opening = self.begin(name, first).await?;
        match soon("the verdict", opening.verdict(Instant::now() + SOON)).await {
            Ok(stream) => Ok(Client {
                stream,
                session: Arc::clone(self),
            }),
            Err((error, channel)) => {
                if let Some(channel) = channel {
                    self.put(channel);
                }
                Err(error)
            }
        }
    }
}

/// A client's connection, at the edge.
pub(crate) struct Client {
    pub(crate) stream: TunnelStream,
    session: Arc<FakeSession>,
}

impl Client {
    /// Settles the open; whether the channel can be used again.
    pub(crate) async fn finish(self) -> bool {
        match soon("the settlement", self.stream.finish()).await {
            Finished::Reusable(channel) => {
                self.session.put(channel);
                true
            }
            Finished::Abort { .. } | Finished::Closed | Finished::Settled => false,
        }
    }
}

/// An upstream that hands its connections to the test.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    listener: TcpListener,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self {
            addr: listener.local_addr().expect("bound"),
            listener,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.addr.to_string()
    }

    pub(crate) async fn accept(&self) -> TcpStream {
        soon("a connection at the upstream", self.listener.accept())
            .await
            .expect("accepted")
            .0
    }
}

/// An address where nothing listens.
pub(crate) async fn closed_port() -> String {
    Upstream::start().await.url()
}
