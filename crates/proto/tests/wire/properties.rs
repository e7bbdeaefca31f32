//! Properties of codec and frames over arbitrary input: round trip, cut at every byte, and bytes of
//! any kind never panic.

use portcullis_model::{Code, Error};
use portcullis_proto::message::{Bind, Goodbye, Heartbeat, Hello, Refused, Stop, Update};
use portcullis_proto::{
    AgentMessage, Decoder, EdgeMessage, FirstMessage, FrameType, Header, Message, codec, frame,
};
use proptest::prelude::*;

use crate::samples;

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter)
}

fn agent_message() -> impl Strategy<Value = AgentMessage> {
    let bind = (
        any::<u64>(),
        text(),
        text(),
        any::<bool>(),
        any::<Option<u32>>(),
    )
        .prop_map(|(req, name, traffic_policy, ephemeral, connections_max)| {
            let mut bind = Bind {
                req,
                name,
                traffic_policy,
                ephemeral,
                ..samples::bind()
            };
            bind.limits.connections_max = connections_max;
            bind.into()
        });
    let update = (
        any::<u64>(),
        proptest::option::of(text()),
        any::<Option<bool>>(),
    )
        .prop_map(|(req, metadata, pooling_enabled)| {
            Update {
                req,
                metadata,
                pooling_enabled,
                ..Update::of(samples::endpoint())
            }
            .into()
        });
    prop_oneof![
        bind,
        update,
        any::<u64>().prop_map(|nonce| Heartbeat { nonce }.into()),
        text().prop_map(|reason| Goodbye { reason }.into()),
        proptest::sample::select(samples::agent_messages()),
    ]
}

fn edge_message() -> impl Strategy<Value = EdgeMessage> {
    let code = || proptest::sample::select(Code::ALL);
    prop_oneof![
        (any::<u64>(), code(), text()).prop_map(|(req, code, m)| Refused::new(
            req,
            &Error::new(code, m)
        )
        .into()),
        (code(), text(), any::<bool>()).prop_map(|(code, message, restart)| Stop {
            code,
            message,
            restart
        }
        .into()),
        proptest::sample::select(samples::edge_messages()),
    ]
}

fn first_message() -> impl Strategy<Value = FirstMessage> {
    let hello = (any::<u64>(), text(), text()).prop_map(|(generation, hostname, metadata)| {
        Hello {
            generation,
            hostname,
            metadata,
            ..samples::hello()
        }
        .into()
    });
    prop_oneof![hello, proptest::sample::select(samples::first_messages())]
}

/// Whole, and cut at every byte: the message comes with its last byte and not before.
fn round_trip<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    let bytes = codec::encode(message).unwrap();
    for cut in 0..=bytes.len() {
        let mut decoder = Decoder::new();
        let (mut head, mut tail) = bytes.split_at(cut);
        let early = decoder.next::<M>(&mut head).unwrap();
        assert_eq!(early.is_some(), cut == bytes.len());
        assert!(head.is_empty());
        assert_eq!(decoder.is_partial(), 0 < cut && cut < bytes.len());
        let late = if early.is_none() {
            decoder.next::<M>(&mut tail).unwrap()
        } else {
            early
        };
        assert_eq!(late.as_ref(), Some(message));
    }
}

fn never_panics<M: Message>(bytes: &[u8], chunk: usize) {
    let mut decoder = Decoder::new();
    for mut piece in bytes.chunks(chunk) {
        while let Ok(Some(_)) = decoder.next::<M>(&mut piece) {}
    }
    assert!(
        codec::decode::<M>(bytes)
            .map_err(|e| Error::from(e).to_string())
            .is_err()
            || !bytes.is_empty()
    );
}

#[test]
fn every_sample_is_cut_at_every_byte() {
    samples::first_messages().iter().for_each(round_trip);
    samples::agent_messages().iter().for_each(round_trip);
    samples::edge_messages().iter().for_each(round_trip);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn messages_round_trip(first in first_message(), agent in agent_message(), edge in edge_message()) {
        round_trip(&first);
        round_trip(&agent);
        round_trip(&edge);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), chunk in 1_usize..64) {
        never_panics::<FirstMessage>(&bytes, chunk);
        never_panics::<AgentMessage>(&bytes, chunk);
        never_panics::<EdgeMessage>(&bytes, chunk);
        let opened = frame::decode_open(&bytes).is_ok();
        prop_assert!(!opened || bytes.len() > 2);
        frame::decode_reason(FrameType::Reset, &bytes).ok();
    }

    #[test]
    fn a_damaged_message_never_panics(edge in edge_message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = codec::encode(&edge).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        never_panics::<EdgeMessage>(&bytes, 7);
    }

    #[test]
    fn headers_round_trip(kind in 0..FrameType::ALL.len(), length in any::<u16>(), open in any::<u32>()) {
        let kind = FrameType::ALL[kind];
        let (min, max) = kind.payload_bounds();
        let length = min + usize::from(length) % (max - min + 1);
        let header = Header::new(kind, open, length).unwrap();
        prop_assert_eq!(Header::decode(header.encode()), Ok(header));
    }

    #[test]
    fn what_decodes_as_a_header_encodes_to_the_same_bytes(bytes in any::<[u8; 8]>()) {
        if let Ok(header) = Header::decode(bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn opens_round_trip(first in proptest::collection::vec(any::<u8>(), 0..200), port in any::<u16>()) {
        let mut header = samples::open_header();
        header.client.set_port(port);
        let payload = frame::encode_open(&header, &first).unwrap();
        prop_assert_eq!(frame::decode_open(&payload), Ok((header, first.as_slice())));
    }
}
