//! Golden bytes: `tests/golden/v1/` holds every message and frame as it goes over the wire. A peer of
//! any release that speaks version 1 sends and takes exactly these bytes.
//!
//! `PORTCULLIS_GOLDEN=write cargo test -p portcullis-proto golden` writes them anew; what then differs
//! in git is a change of the wire, and needs a new version or a field with a default.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use portcullis_proto::{
    AgentMessage, DialAnswer, EdgeMessage, FirstMessage, FrameType, Header, Message, codec, frame,
};

use crate::samples;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// Compares, or writes when asked to, and returns what the file holds.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = folder().join(format!("{name}.bin"));
    if std::env::var("PORTCULLIS_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let held = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(
        String::from_utf8_lossy(&held),
        String::from_utf8_lossy(bytes),
        "{name}: the bytes on the wire have changed"
    );
    assert_eq!(held, bytes, "{name}: the bytes on the wire have changed");
    held
}

fn check<M: Message + PartialEq + std::fmt::Debug>(set: &str, messages: Vec<M>) {
    let mut seen = BTreeSet::new();
    for message in messages {
        let kind = message.kind();
        assert!(seen.insert(kind), "{kind} stands twice");
        let held = golden(&format!("{set}.{kind}"), &codec::encode(&message).unwrap());
        assert_eq!(
            codec::decode::<M>(&held[codec::PREFIX_BYTES..]).unwrap(),
            message
        );
    }
    assert_eq!(
        seen,
        M::TYPES.iter().copied().collect(),
        "every message has a golden file"
    );
}

#[test]
fn golden_messages() {
    check::<FirstMessage>("first", samples::first_messages());
    check::<DialAnswer>("dial", samples::dial_answers());
    check::<AgentMessage>("agent", samples::agent_messages());
    check::<EdgeMessage>("edge", samples::edge_messages());
}

#[test]
fn golden_frames() {
    let mut seen = BTreeSet::new();
    for (name, header, payload) in samples::frames() {
        seen.insert(header.kind as u8);
        let held = golden(
            &format!("frame.{name}"),
            &[header.encode().as_slice(), &payload].concat(),
        );
        let (head, body) = held.split_first_chunk::<8>().unwrap();
        assert_eq!(Header::decode(*head).unwrap(), header);
        assert_eq!(body, payload);
    }
    assert_eq!(
        seen.len(),
        FrameType::ALL.len(),
        "every frame has a golden file"
    );
}

#[test]
fn golden_open_payload_is_read() {
    let (_, _, payload) = samples::frames().swap_remove(0);
    let (header, first) = frame::decode_open(&payload).unwrap();
    assert_eq!(header, samples::open_header());
    assert_eq!(first, b"\x00\x00\x00\x08\x04\xd2\x16\x2f");
}

#[test]
fn golden_folder_holds_nothing_else() {
    let mut names: BTreeSet<String> = BTreeSet::new();
    names.extend(
        FirstMessage::TYPES
            .iter()
            .map(|kind| format!("first.{kind}.bin")),
    );
    names.extend(
        DialAnswer::TYPES
            .iter()
            .map(|kind| format!("dial.{kind}.bin")),
    );
    names.extend(
        AgentMessage::TYPES
            .iter()
            .map(|kind| format!("agent.{kind}.bin")),
    );
    names.extend(
        EdgeMessage::TYPES
            .iter()
            .map(|kind| format!("edge.{kind}.bin")),
    );
    names.extend(
        samples::frames()
            .iter()
            .map(|(name, ..)| format!("frame.{name}.bin")),
    );
    let held: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(held, names);
}
