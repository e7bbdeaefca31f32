//! Links without TLS: taken where the operator said so, from who holds the session's key, and once.

use portcullis_model::Code;
use portcullis_net::channel::Channel;
use portcullis_net::control::{Reader, Writer};
use portcullis_net::socket::TcpConn;
use portcullis_proto::defaults::PLAIN_MAGIC;
use portcullis_proto::handshake::plain_mac;
use portcullis_proto::message::{ChannelHello, EdgeMessage, FirstMessage};
use portcullis_proto::{LinkKind, SessionKey, codec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::agent::{Agent, Identity, Manner};
use crate::bed::{Bed, nobody, soon};

const NUMBER: u64 = 41;

/// An edge that takes plain links, or not, and an agent that brings none by itself.
async fn bed(allowed: bool) -> (Bed, Agent) {
    let bed = Bed::with(|config| config.plain_links = allowed).await;
    let (_, token) = bed.credential().await;
    let identity = Identity::new(1, token);
    let agent = Agent::connect_as(&bed, &identity, Manner::BringsNoChannels).await;
    (bed, agent.expect("welcome"))
}

/// What begins a plain channel.
fn beginning(agent: &Agent, key: &SessionKey, kind: LinkKind) -> Vec<u8> {
    let hello = ChannelHello {
        session_id: agent.session.clone(),
        channel: NUMBER,
        mac: plain_mac(key, &agent.session, NUMBER, kind),
    };
    let message = codec::encode(&FirstMessage::Channel(hello)).expect("a short message");
    [&PLAIN_MAGIC[..], &message].concat()
}

async fn begin(bed: &Bed, bytes: &[u8]) -> TcpConn {
    let stream = TcpStream::connect(bed.edge.agent_addr()).await;
    let mut conn = TcpConn::new(stream.expect("the agent port is open"));
    conn.write_all(bytes).await.expect("sent");
    conn
}

async fn refusal(conn: TcpConn) -> Code {
    let mut reader = Reader::new(conn);
    let answer = soon("the refusal", reader.next::<EdgeMessage>()).await;
    match answer.expect("an answer") {
        Some(EdgeMessage::Error(fatal)) => fatal.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_channel_carries_a_connection_and_its_beginning_counts_once() {
    let (bed, mut agent) = bed(true).await;
    let bytes = beginning(&agent, &agent.key, LinkKind::Channel);
    let channel = Channel::agent(NUMBER, begin(&bed, &bytes).await);
    let bound = agent.bind("tcp://", nobody().await).await;
    let snapshot = bed.registry.snapshot();
    let found = snapshot.endpoint_by_id(&bound.endpoint_id);
    let endpoint = found.expect("in the snapshot").record().clone();
    let serving = tokio::spawn(async move {
        let (_, _, opening) = channel.accept().await.expect("an open");
        let mut tunnel = opening.opened().await.expect("the edge is there");
        let mut said = [0; 4];
        tunnel
            .read_exact(&mut said)
            .await
            .expect("the client speaks");
        tunnel.write_all(b"pong").await.expect("sent");
        tunnel.flush().await.expect("sent");
        said
    });
    let mut client = bed.connect(&endpoint).await;
    client.write_all(b"ping").await.expect("sent");
    let mut answer = [0; 4];
    soon("the answer", client.read_exact(&mut answer))
        .await
        .expect("an answer");
    assert_eq!(
        (&answer, &serving.await.expect("served")),
        (b"pong", b"ping")
    );
    // Who recorded how the link began begins no other.
    let recorded = begin(&bed, &bytes).await;
    assert_eq!(refusal(recorded).await, Code::SessionNotFound);
    drop(client);
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_channel_with_another_proof_is_refused() {
    let (bed, agent) = bed(true).await;
    let wrong_key = beginning(&agent, &SessionKey::new([0; 32]), LinkKind::Channel);
    // The proof of a carrier under the message of a channel.
    let wrong_kind = beginning(&agent, &agent.key, LinkKind::Carrier);
    for bytes in [wrong_key, wrong_kind] {
        let refused = refusal(begin(&bed, &bytes).await).await;
        assert_eq!(refused, Code::SessionNotFound);
    }
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_channel_is_refused_where_it_is_not_allowed() {
    let (bed, agent) = bed(false).await;
    let bytes = beginning(&agent, &agent.key, LinkKind::Channel);
    let refused = refusal(begin(&bed, &bytes).await).await;
    assert_eq!(refused, Code::PlainRefused);
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_is_never_taken_without_tls() {
    let (bed, agent) = bed(true).await;
    let mut conn = begin(&bed, &PLAIN_MAGIC).await;
    let (_, token) = bed.credential().await;
    let hello = crate::agent::hello(&Identity::new(2, token));
    conn = {
        let mut writer = Writer::new(conn);
        writer.send(&FirstMessage::from(hello)).await.expect("sent");
        writer.into_inner()
    };
    assert_eq!(refusal(conn).await, Code::ProtocolViolation);
    agent.goodbye().await;
    bed.finish().await;
}
