//! Carriers and channels without TLS, where the operator trusts the network between: their first bytes,
//! and the proof that they are of a session.
//!
//! Must never: take a control connection, or the same first message twice.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use portcullis_model::{Code, Error};
use portcullis_net::control::Reader;
use portcullis_net::socket::TcpConn;
use portcullis_proto::defaults::PLAIN_MAGIC;
use portcullis_proto::handshake::verify_plain_mac;
use portcullis_proto::message::ChannelHello;
use portcullis_proto::{FirstMessage, LinkKind};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Pending, keep_carrier, keep_channel, refuse};
use crate::node::Node;
use crate::sessions::Session;

/// Whether a connection's first byte is a plain link's. TLS takes over what is anything else, and what
/// ends before it says anything.
pub(super) async fn begins(stream: &TcpStream) -> bool {
    let mut first = [0];
    let seen = stream.peek(&mut first).await;
    seen.is_ok_and(|count| count == 1) && first[0] == PLAIN_MAGIC[0]
}

/// The first message of a link without TLS, and then the link.
pub(super) async fn greet(
    node: Arc<Node>,
    stream: TcpStream,
    peer: SocketAddr,
    pending: Pending,
    deadline: Instant,
) {
    let mut conn = TcpConn::new(stream);
    let first = async {
        let mut magic = [0; PLAIN_MAGIC.len()];
        conn.read_exact(&mut magic).await.map_err(Error::internal)?;
        if magic != PLAIN_MAGIC {
            return Err(Error::of(Code::ProtocolViolation));
        }
        let mut reader = Reader::new(conn);
        let first = reader.next::<FirstMessage>().await?;
        Ok((first, reader.into_inner()?))
    };
    let greeted = tokio::select! {
        biased;
        () = node.stopped.cancelled() => return,
        greeted = timeout_at(deadline, first) => greeted,
    };
    let (kind, hello, stream) = match greeted {
        Ok(Ok((Some(FirstMessage::Channel(hello)), stream))) => (LinkKind::Channel, hello, stream),
        Ok(Ok((Some(FirstMessage::Carrier(hello)), stream))) => (LinkKind::Carrier, hello, stream),
        // A hello holds a secret, and would be the only one that passes without TLS.
        Ok(Ok((_, stream))) => {
            let error = Error::new(Code::ProtocolViolation, "only links may come without TLS");
            return refuse(&node, stream, &error, false).await;
        }
        Ok(Err(error)) => return note(&node, peer, &error),
        Err(_) => {
            let error = Error::new(Code::ProtocolViolation, "the peer said too little in time");
            return note(&node, peer, &error);
        }
    };
    if !node.config.plain_links {
        return refuse(&node, stream, &Error::of(Code::PlainRefused), false).await;
    }
    let Some(session) = owner(&node, kind, &hello) else {
        return refuse(&node, stream, &Error::of(Code::SessionNotFound), false).await;
    };
    drop(pending);
    match kind {
        LinkKind::Channel => keep_channel(&session, stream, &hello),
        LinkKind::Carrier => keep_carrier(&session, stream, &hello).await,
    }
}

/// Whose a link is: its MAC proves that who holds the session's key began it as what it is. Its number is
/// taken once, so that a recording of the message begins nothing.
fn owner(node: &Node, kind: LinkKind, hello: &ChannelHello) -> Option<Arc<Session>> {
    let session = node.sessions.find(&hello.session_id)?;
    let number = hello.channel;
    let proven = verify_plain_mac(&session.key, &session.id, number, kind, &hello.mac);
    let new = proven && {
        let mut plain = session.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.take(number)
    };
    new.then_some(session)
}

fn note(node: &Node, peer: SocketAddr, error: &Error) {
    node.records.metrics().agent_refused(error.code);
    tracing::debug!(%peer, %error, cause = error.internal, "link without TLS refused");
}
