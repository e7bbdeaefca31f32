//! Urgent (out-of-band) bytes. A proxy may pass one on as an ordinary byte or drop it, as a reader
//! without `SO_OOBINLINE` does; the bytes around it must arrive, in order, and nothing may hang.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::pattern::Pattern;
use crate::rig::{Rig, Side};
use crate::verdict::{Outcome, Stop, fail, size};
use crate::wire::{self, End, failed};

/// The urgent byte.
const URGENT: u8 = b'!';

/// Pauses before and after the urgent byte: it comes with other bytes, or alone.
const PAUSES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(20)];

/// Between a few bytes.
pub(super) async fn quiet(rig: &Rig) -> Outcome {
    // What comes together at the proxy differs from time to time.
    several(rig, 1000, rig.scale(20, 5)).await
}

/// Between many.
pub(super) async fn in_bulk(rig: &Rig) -> Outcome {
    several(rig, rig.scale(8 << 20, 2 << 20), 1).await
}

async fn several(rig: &Rig, around: u64, times: usize) -> Outcome {
    let (mut kept, mut dropped) = (0, 0);
    for side in [Side::Client, Side::Target] {
        rig.step(format!("from {}", side.name()));
        for pause in PAUSES.into_iter().cycle().take(times * PAUSES.len()) {
            let pair = rig.pair_by(side).await?;
            match one(rig, pair, around, pause, side).await? {
                true => kept += 1,
                false => dropped += 1,
            }
        }
    }
    Ok(format!(
        "the urgent byte itself: kept {kept} times, dropped {dropped} times"
    ))
}

/// Whether the urgent byte came through as well.
async fn one(
    rig: &Rig,
    (acting, watching): (TcpStream, TcpStream),
    around: u64,
    pause: Duration,
    side: Side,
) -> Result<bool, Stop> {
    let patience = rig.patience();
    let pattern = rig.pattern();
    SockRef::from(&watching)
        .set_out_of_band_inline(true)
        .map_err(failed("asking for urgent bytes in the stream"))?;
    let send = async {
        wire::send(&acting, pattern, 0, around, patience).await?;
        tokio::time::sleep(pause).await;
        send_urgent(&acting).await?;
        tokio::time::sleep(pause).await;
        wire::send(&acting, pattern, around, around, patience).await?;
        wire::finish(&acting)
    };
    let (sent, received) = tokio::join!(send, everything(&watching, rig));
    let (bytes, end) = received;
    sent.map_err(failed("sending around an urgent byte"))?;
    judge(&bytes, end, pattern, around, side.other_name())
}

/// Sends the urgent byte once there is room for it; the case's limit bounds the wait.
async fn send_urgent(stream: &TcpStream) -> std::io::Result<()> {
    loop {
        match SockRef::from(stream).send_out_of_band(&[URGENT]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            sent => return sent.map(|_| ()),
        }
    }
}

fn judge(bytes: &[u8], end: End, pattern: Pattern, around: u64, who: &str) -> Result<bool, Stop> {
    let middle = usize::try_from(around).unwrap_or(usize::MAX);
    let kept = bytes.len() == 2 * middle + 1 && bytes.get(middle) == Some(&URGENT);
    let (before, after) = match kept {
        true => (&bytes[..middle], &bytes[middle + 1..]),
        false => bytes.split_at(middle.min(bytes.len())),
    };
    let wrong = pattern
        .differs_at(0, before)
        .or_else(|| pattern.differs_at(around, after));
    if end == End::Clean && wrong.is_none() && bytes.len() >= 2 * middle {
        return Ok(kept);
    }
    let wrong = wrong.map_or_else(String::new, |at| format!(", the byte at {at} is wrong"));
    fail(format!(
        "{who} expected {} before and after an urgent byte and a clean end; it saw {} in all and {end}{wrong}",
        size(around),
        size(bytes.len() as u64)
    ))
}

async fn everything(stream: &TcpStream, rig: &Rig) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match wire::read(stream, &mut buffer, rig.patience()).await {
            Ok(0) => return (bytes, End::Clean),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(end) => return (bytes, end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urgent_byte_may_be_kept_or_dropped_and_nothing_else() {
        let pattern = Pattern::new(1);
        let around = |middle: &[u8]| {
            let mut bytes = pattern.bytes(0, 10);
            bytes.extend_from_slice(middle);
            bytes.extend(pattern.bytes(10, 10));
            bytes
        };
        let judge = |bytes: &[u8], end| judge(bytes, end, pattern, 10, "x").ok();
        assert_eq!(judge(&around(b"!"), End::Clean), Some(true));
        assert_eq!(judge(&around(b""), End::Clean), Some(false));
        assert_eq!(judge(&around(b"?"), End::Clean), None);
        assert_eq!(judge(&around(b"!")[..20], End::Clean), None);
        assert_eq!(judge(&around(b""), End::Reset), None);
        assert_eq!(judge(&around(b"")[1..], End::Clean), None);
    }
}
