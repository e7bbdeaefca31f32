//! A data channel whose peer sends any frames in any order, while this side does what it may. Bytes
//! are delivered to the current open alone, and a violation closes the channel for good.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_proto::{ChannelState, FrameType, Header, Incoming, Role, frame};

/// What this side does between two frames of the peer, as the input says.
fn act(state: &mut ChannelState, choice: u8) {
    let kind = FrameType::ALL[usize::from(choice) % FrameType::ALL.len()];
    if matches!(kind, FrameType::Open | FrameType::Resume) {
        if state.role() == Role::Edge && state.is_free() {
            let begun = match kind {
                FrameType::Open => state.open_next(),
                _ => state.resume_next(),
            };
            begun.expect("a free channel opens");
        }
        return;
    }
    let Some(open) = state.current() else {
        return;
    };
    let header = Header::new(kind, open, kind.payload_bounds().0).expect("the least it may have");
    // A frame that isn't allowed closes the channel; an honest side doesn't try.
    if state.clone().on_send(&header).is_ok() {
        state.on_send(&header).expect("it was allowed a moment ago");
    }
}

fn payload(header: &Header, bytes: &[u8]) {
    match header.kind {
        FrameType::Open => {
            if let Ok((open, first)) = frame::decode_open(bytes) {
                let again = frame::encode_open(&open, first).expect("it was read from a payload");
                assert_eq!(frame::decode_open(&again), Ok((open, first)));
            }
        }
        FrameType::Refused | FrameType::Reset => {
            frame::decode_reason(header.kind, bytes).ok();
        }
        _ => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((role, mut rest)) = data.split_first() else {
        return;
    };
    let mut state = ChannelState::new(if role % 2 == 0 {
        Role::Edge
    } else {
        Role::Agent
    });
    while let Some(([choice, head @ ..], tail)) = rest.split_first_chunk::<9>() {
        act(&mut state, *choice);
        let Ok(header) = Header::decode(*head) else {
            return;
        };
        assert_eq!(header.encode(), *head);
        let before = state.clone();
        match state.on_recv(&header) {
            Ok(Incoming::Deliver) => {
                assert_eq!(before.current(), Some(header.open));
                assert!(!before.is_discarding());
            }
            Ok(Incoming::Open) => assert!(before.is_free() && state.current() == Some(header.open)),
            Ok(_) => assert_eq!(before.current(), Some(header.open)),
            Err(_) => {
                assert!(state.is_closed() && !state.is_free());
                assert!(state.on_recv(&header).is_err());
                return;
            }
        }
        let length = usize::from(header.length).min(tail.len());
        payload(&header, &tail[..length]);
        rest = &tail[length..];
    }
});
