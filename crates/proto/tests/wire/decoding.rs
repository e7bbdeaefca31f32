//! What the decoders refuse, and with which words.

use portcullis_model::{Code, Error};
use portcullis_proto::codec::{self, CodecError};
use portcullis_proto::defaults::{
    MESSAGE_BYTES_MAX, OPEN_FIRST_BYTES_MAX, REASON_MESSAGE_BYTES_MAX,
};
use portcullis_proto::frame::{self, FrameError};
use portcullis_proto::message::{Bind, Goodbye, Heartbeat, Refused};
use portcullis_proto::{
    AgentMessage, Decoder, EdgeMessage, FirstMessage, FrameType, Header, Leg, Switch,
};

use crate::samples;

fn agent(json: &str) -> Result<AgentMessage, CodecError> {
    codec::decode(json.as_bytes())
}

#[test]
fn unknown_fields_are_ignored() {
    let message = agent(r#"{"type":"heartbeat","nonce":3,"later":{"a":[1]}}"#).unwrap();
    assert_eq!(message, Heartbeat { nonce: 3 }.into());
    let bind =
        agent(r#"{"type":"bind","req":1,"limits":{"connections_max":5,"later_ms":9}}"#).unwrap();
    let AgentMessage::Bind(bind) = bind else {
        panic!("{bind:?}")
    };
    assert_eq!(bind.limits.connections_max, Some(5));
}

#[test]
fn a_bind_needs_its_number_only() {
    assert_eq!(
        agent(r#"{"type":"bind","req":1}"#).unwrap(),
        Bind {
            req: 1,
            ..Bind::default()
        }
        .into()
    );
}

#[test]
fn an_unknown_type_is_refused_by_name() {
    let error = agent(r#"{"type":"teleport"}"#).unwrap_err();
    assert_eq!(error, CodecError::UnknownType("teleport".to_owned()));
    let error = Error::from(error);
    assert_eq!(error.code, Code::ProtocolViolation);
    assert!(error.message.contains("`teleport`"), "{error}");
    // A message of the other side is as unknown as any.
    let welcome = codec::encode(&EdgeMessage::from(samples::welcome())).unwrap();
    let error = codec::decode::<AgentMessage>(&welcome[4..]).unwrap_err();
    assert_eq!(error, CodecError::UnknownType("welcome".to_owned()));
}

#[test]
fn malformed_messages_are_refused() {
    for (json, expected) in [
        ("", "not a JSON object"),
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "no `type`"),
        (r#"{"type":3}"#, "no `type`"),
        (r#"{"type":"heartbeat"}"#, "`nonce`"),
        (r#"{"type":"heartbeat","nonce":-1}"#, "heartbeat"),
        (r#"{"type":"heartbeat","nonce":"x"}"#, "heartbeat"),
        (r#"{"type":"bind","req":1,"binding":"moon"}"#, "bind"),
        (
            r#"{"type":"unbind","req":1,"endpoint_id":"ep_1"}"#,
            "unbind",
        ),
    ] {
        let words = agent(json).unwrap_err().to_string();
        assert!(words.contains(expected), "{json}: {words}");
    }
    assert!(codec::decode::<AgentMessage>(b"\xff\xfe").is_err());
    assert!(agent(&format!("{}{}", "[".repeat(60_000), "]".repeat(10))).is_err());
}

#[test]
fn errors_never_repeat_a_secret() {
    let json = r#"{"type":"hello","versions":[1,1],"authtoken":["tok-s3cret"],"agent_id":"s3cret","generation":"s3cret"}"#;
    let words = codec::decode::<FirstMessage>(json.as_bytes())
        .unwrap_err()
        .to_string();
    assert!(!words.contains("s3cret"), "{words}");
    let json = r#"{"type":"hello","versions":"s3\"cret","authtoken":"x"}"#;
    let words = codec::decode::<FirstMessage>(json.as_bytes())
        .unwrap_err()
        .to_string();
    assert!(!words.contains("cret"), "{words}");
    assert!(!format!("{:?}", samples::hello()).contains("agent-secret"));
    assert!(!format!("{:?}", samples::welcome()).contains("CQkJ"));
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_the_body() {
    let mut decoder = Decoder::new();
    let mut input: &[u8] = &[0x00, 0x01, 0x00, 0x01];
    let bytes = MESSAGE_BYTES_MAX + 1;
    assert_eq!(
        decoder.next::<AgentMessage>(&mut input),
        Err(CodecError::TooLarge { bytes })
    );
    assert_eq!(
        Error::from(CodecError::TooLarge { bytes }).code,
        Code::MessageTooLarge
    );
    let mut good: &[u8] = &codec::encode(&samples::agent_messages()[0]).unwrap();
    assert_eq!(
        decoder.next::<AgentMessage>(&mut good),
        Err(CodecError::Poisoned)
    );
}

#[test]
fn the_limit_itself_passes() {
    let overhead = codec::encode(&AgentMessage::from(Goodbye {
        reason: String::new(),
    }))
    .unwrap()
    .len()
        - 4;
    let fits: AgentMessage = Goodbye {
        reason: "x".repeat(MESSAGE_BYTES_MAX - overhead),
    }
    .into();
    let bytes = codec::encode(&fits).unwrap();
    assert_eq!(Decoder::new().next(&mut bytes.as_slice()), Ok(Some(fits)));
    let over: AgentMessage = Goodbye {
        reason: "x".repeat(MESSAGE_BYTES_MAX - overhead + 1),
    }
    .into();
    assert_eq!(
        codec::encode(&over),
        Err(CodecError::TooLarge {
            bytes: MESSAGE_BYTES_MAX + 1
        })
    );
}

#[test]
fn a_decoder_takes_no_byte_behind_its_message() {
    let mut bytes = codec::encode(&samples::first_messages()[1]).unwrap();
    bytes.extend_from_slice(b"data frames");
    let mut input = bytes.as_slice();
    let mut decoder = Decoder::new();
    assert!(decoder.next::<FirstMessage>(&mut input).unwrap().is_some());
    assert_eq!(input, b"data frames");
    assert!(!decoder.is_partial());
}

#[test]
fn malformed_headers_are_refused() {
    let header = |kind: u8, reserved: u8, length: u16| {
        let [l0, l1] = length.to_be_bytes();
        Header::decode([kind, reserved, l0, l1, 0, 0, 0, 1])
    };
    assert_eq!(header(0, 0, 0), Err(FrameError::UnknownType(0)));
    assert_eq!(header(12, 0, 0), Err(FrameError::UnknownType(12)));
    assert_eq!(header(5, 1, 0), Err(FrameError::Reserved(1)));
    for (kind, length) in [
        (FrameType::Open, 1),
        (FrameType::Open, u16::MAX),
        (FrameType::Opened, 1),
        (FrameType::Refused, 0),
        (FrameType::Refused, u16::MAX),
        (FrameType::Data, 0),
        (FrameType::End, 1),
        (FrameType::Reset, u16::MAX),
        (FrameType::Released, 1),
        (FrameType::Credit, 3),
        (FrameType::Credit, 5),
        (FrameType::Switch, 19),
        (FrameType::Switch, 21),
        (FrameType::Resume, 11),
        (FrameType::Resume, 13),
        (FrameType::Move, 1),
    ] {
        assert_eq!(
            header(kind as u8, 0, length),
            Err(FrameError::Length {
                kind,
                length: usize::from(length)
            })
        );
    }
    assert!(header(4, 0, u16::MAX).is_ok());
    assert!(Header::new(FrameType::Data, 1, 65_536).is_err());
}

#[test]
fn malformed_payloads_are_refused() {
    let good = frame::encode_open(&samples::open_header(), b"").unwrap();
    for bad in [
        &good[..0],
        &good[..1],
        &good[..2],
        &good[..good.len() - 1],
        b"\xff\xff{}",
        b"\x00\x02{}",
    ] {
        assert_eq!(
            frame::decode_open(bad),
            Err(FrameError::Payload {
                kind: FrameType::Open
            })
        );
    }
    let most = vec![7; OPEN_FIRST_BYTES_MAX];
    let payload = frame::encode_open(&samples::open_header(), &most).unwrap();
    assert!(Header::new(FrameType::Open, 1, payload.len()).is_ok());
    assert_eq!(frame::decode_open(&payload).unwrap().1, most);
    assert!(
        frame::encode_open(&samples::open_header(), &vec![7; OPEN_FIRST_BYTES_MAX + 1]).is_err()
    );
    assert!(frame::decode_credit(&[0; 4]).is_err() && frame::decode_credit(&[1; 3]).is_err());
    assert!(Leg::decode(&[1; 11]).is_err() && Leg::decode(&[1; 13]).is_err());
    assert!(Switch::decode(&[1; 19]).is_err() && Switch::decode(&[1; 21]).is_err());
    let kind = FrameType::Reset;
    assert_eq!(frame::decode_reason(kind, b""), Ok(None));
    assert_eq!(
        frame::decode_reason(kind, b"[]"),
        Err(FrameError::Payload { kind })
    );
}

#[test]
fn a_long_reason_is_cut_and_fits() {
    for text in ["\u{0}", "ü", "\"", "𝄞"] {
        let long = Error::new(Code::UpstreamRefused, text.repeat(70_000))
            .with_internal("for the log alone");
        let payload = frame::encode_reason(&long).unwrap();
        assert!(
            Header::new(FrameType::Refused, 1, payload.len()).is_ok(),
            "{} bytes",
            payload.len()
        );
        let told = frame::decode_reason(FrameType::Refused, &payload)
            .unwrap()
            .unwrap();
        assert!(
            told.message.len() <= REASON_MESSAGE_BYTES_MAX
                && long.message.starts_with(&told.message)
        );
        assert_eq!(told.internal, None);
        assert!(codec::encode(&EdgeMessage::from(Refused::new(1, &long))).is_ok());
    }
}

#[test]
fn a_code_of_a_newer_peer_is_read() {
    let told = frame::decode_reason(FrameType::Refused, br#"{"code":"PTC_LATER","message":"m"}"#)
        .unwrap()
        .unwrap();
    assert_eq!(told, Error::new(Code::Internal, "m"));
}
