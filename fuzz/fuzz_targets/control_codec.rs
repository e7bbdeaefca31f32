//! Control messages as a stranger sends them: any bytes, in pieces of any size. What is read is
//! written and read again to the same message, and the decoder takes no byte behind it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_proto::{AgentMessage, Decoder, DialAnswer, EdgeMessage, FirstMessage, Message, codec};

fn read<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8], piece: usize) {
    let mut decoder = Decoder::new();
    for mut part in bytes.chunks(piece) {
        loop {
            let before = part.len();
            match decoder.next::<M>(&mut part) {
                Ok(Some(message)) => again(&message),
                Ok(None) => {
                    assert!(part.is_empty());
                    break;
                }
                Err(_) => return,
            }
            assert!(part.len() < before, "a message without a byte");
        }
    }
}

fn again<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    let Ok(bytes) = codec::encode(message) else {
        return;
    };
    let mut rest = bytes.as_slice();
    assert_eq!(
        Decoder::new().next::<M>(&mut rest).as_ref(),
        Ok(&Some(clone(message)))
    );
    assert!(rest.is_empty());
}

/// `Message` doesn't ask for `Clone`; the wire's own form serves.
fn clone<M: Message>(message: &M) -> M {
    let bytes = codec::encode(message).expect("it was encoded before");
    codec::decode(&bytes[codec::PREFIX_BYTES..]).expect("its own form")
}

fuzz_target!(|data: &[u8]| {
    let Some(([set, piece], bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    let piece = usize::from(*piece) + 1;
    match set % 4 {
        0 => read::<FirstMessage>(bytes, piece),
        1 => read::<AgentMessage>(bytes, piece),
        2 => read::<EdgeMessage>(bytes, piece),
        _ => read::<DialAnswer>(bytes, piece),
    }
});
