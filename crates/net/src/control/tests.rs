//! Messages over a stream in memory: round trips, cuts, bounds, and dropped futures.

use portcullis_proto::message::{Goodbye, Heartbeat};
use portcullis_proto::{AgentMessage, EdgeMessage};
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::testing::soon;

fn heartbeat(nonce: u64) -> AgentMessage {
    Heartbeat { nonce }.into()
}

#[tokio::test]
async fn messages_come_in_their_order() {
    let (near, far) = tokio::io::duplex(100);
    let writing = crate::task::spawn("writer", async move {
        let mut writer = Writer::new(near);
        for nonce in 0..500 {
            writer.send(&heartbeat(nonce)).await.unwrap();
        }
        writer.close().await.unwrap();
    });
    let mut reader = Reader::new(far);
    for nonce in 0..500 {
        let message = soon("a message", reader.next::<AgentMessage>())
            .await
            .unwrap();
        assert_eq!(message, Some(heartbeat(nonce)));
    }
    assert_eq!(reader.next::<AgentMessage>().await.unwrap(), None);
    writing.await.unwrap();
}

#[tokio::test]
async fn a_cut_within_a_message_is_no_end() {
    let whole = codec::encode(&heartbeat(1)).unwrap();
    for cut in 1..whole.len() {
        let mut reader = Reader::new(&whole[..cut]);
        let error = reader.next::<AgentMessage>().await.unwrap_err();
        assert!(matches!(error, ControlError::Cut), "{error:?} at {cut}");
    }
}

#[tokio::test]
async fn an_oversized_message_is_refused_by_its_length() {
    let (mut near, far) = tokio::io::duplex(100);
    near.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    let error = soon("the refusal", Reader::new(far).next::<AgentMessage>())
        .await
        .unwrap_err();
    assert_eq!(Error::from(error).code, Code::MessageTooLarge);
}

#[tokio::test]
async fn a_foreign_message_is_refused_by_name() {
    let bytes = codec::encode(&heartbeat(1)).unwrap();
    let error = Reader::new(&bytes[..])
        .next::<portcullis_proto::FirstMessage>()
        .await
        .unwrap_err();
    let error = Error::from(error);
    assert_eq!(error.code, Code::ProtocolViolation);
    assert!(error.message.contains("heartbeat"), "{error}");
}

/// A session drops these futures whenever something else happens first.
#[tokio::test]
async fn dropped_futures_lose_nothing() {
    let (near, far) = tokio::io::duplex(7);
    let (mut writer, mut reader) = (Writer::new(near), Reader::new(far));
    for nonce in 0..20 {
        writer.queue(&heartbeat(nonce)).unwrap();
    }
    let mut got = Vec::new();
    while got.len() < 20 {
        tokio::select! {
            biased;
            message = reader.next::<AgentMessage>() => got.push(message.unwrap().unwrap()),
            () = tokio::task::yield_now() => {}
        }
        tokio::select! {
            biased;
            flushed = writer.flush() => flushed.unwrap(),
            () = tokio::task::yield_now() => {}
        }
    }
    let expected: Vec<_> = (0..20).map(heartbeat).collect();
    assert_eq!(got, expected);
    assert!(!writer.is_pending());
}

/// TLS takes a message whole and sends it when the socket has room: until then it waits.
#[tokio::test]
async fn what_a_buffer_below_holds_is_pending() {
    let (near, far) = tokio::io::duplex(7);
    let (mut writer, mut reader) = (
        Writer::new(tokio::io::BufWriter::new(near)),
        Reader::new(far),
    );
    writer.queue(&heartbeat(1)).unwrap();
    tokio::select! {
        biased;
        flushed = writer.flush() => panic!("the peer has not read: {flushed:?}"),
        () = tokio::task::yield_now() => {}
    }
    assert!(writer.is_pending());
    let (flushed, message) = tokio::join!(writer.flush(), reader.next::<AgentMessage>());
    flushed.unwrap();
    assert_eq!(message.unwrap(), Some(heartbeat(1)));
    assert!(!writer.is_pending());
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up() {
    let (near, _far) = tokio::io::duplex(1);
    let mut writer = Writer::new(near);
    let large: AgentMessage = Goodbye {
        reason: "x".repeat(60_000),
    }
    .into();
    let clogged = (0..100).find_map(|_| writer.queue(&large).err());
    assert!(matches!(clogged, Some(ControlError::Clogged)));
    let too_large: EdgeMessage = portcullis_proto::message::Drain {
        code: Code::ServerDraining,
        message: "x".repeat(70_000),
    }
    .into();
    assert!(matches!(
        writer.queue(&too_large),
        Err(ControlError::Codec(_))
    ));
}

#[tokio::test]
async fn what_stands_behind_the_first_message_is_a_violation() {
    let mut bytes = codec::encode(&heartbeat(1)).unwrap();
    let mut reader = Reader::new(&bytes[..]);
    reader.next::<AgentMessage>().await.unwrap();
    assert!(reader.into_inner().is_ok());
    bytes.push(0);
    let mut reader = Reader::new(&bytes[..]);
    reader.next::<AgentMessage>().await.unwrap();
    assert_eq!(
        reader.into_inner().unwrap_err().code,
        Code::ProtocolViolation
    );
}
