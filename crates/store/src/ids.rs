//! New ids and random choices. Ids of one process grow even within a second, so that their order is
//! the order of creation.

use std::sync::{Mutex, PoisonError};

use portcullis_model::id::ENTROPY_BYTES;
use portcullis_model::secret::TOKEN_ENTROPY_BYTES;
use portcullis_model::{Error, Timestamp};

/// Makes ids. The first four of an id's random bytes are given up for order: a quarter of a second
/// per 64 steps of 4 ms, then a counter. Twelve random bytes stay, which is 96 bits.
#[derive(Debug, Default)]
pub(crate) struct IdMaker {
    /// Unix milliseconds (in steps of 4) and counter of the last id.
    last: Mutex<(i64, u32)>,
}

impl IdMaker {
    /// The time and random part of a new id.
    ///
    /// # Errors
    /// `PTC_INTERNAL` when the system has no randomness.
    pub(crate) fn parts(&self, now: Timestamp) -> Result<(i64, [u8; ENTROPY_BYTES]), Error> {
        let mut entropy = [0_u8; ENTROPY_BYTES];
        getrandom::fill(&mut entropy).map_err(Error::internal)?;
        let (slot, count) = self.step(now.unix_millis().div_euclid(4));
        // 250 slots of 4 ms make a second, so the slot within it fits a byte.
        entropy[0] = u8::try_from(slot.rem_euclid(250)).unwrap_or(u8::MAX);
        entropy[1..4].copy_from_slice(&count.to_be_bytes()[1..]);
        Ok((slot.div_euclid(250), entropy))
    }

    /// The next place in the order, never before one given earlier, even if the clock went back.
    fn step(&self, slot: i64) -> (i64, u32) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (last_slot, last_count) = *last;
        *last = match (slot > last_slot, last_count < 0x00FF_FFFF) {
            (true, _) => (slot, 0),
            (false, true) => (last_slot, last_count + 1),
            (false, false) => (last_slot + 1, 0),
        };
        *last
    }
}

/// A number below `end`, uniform enough for drawing ports (bias below 2⁻³²).
///
/// # Errors
/// `PTC_INTERNAL` when the system has no randomness.
pub(crate) fn below(end: u32) -> Result<u32, Error> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(Error::internal)?;
    let drawn = u64::from_le_bytes(bytes) % u64::from(end.max(1));
    Ok(u32::try_from(drawn).unwrap_or(0))
}

/// The random bytes of a new token.
///
/// # Errors
/// `PTC_INTERNAL` when the system has no randomness.
pub(crate) fn token_entropy() -> Result<[u8; TOKEN_ENTROPY_BYTES], Error> {
    let mut entropy = [0_u8; TOKEN_ENTROPY_BYTES];
    getrandom::fill(&mut entropy).map_err(Error::internal)?;
    Ok(entropy)
}

#[cfg(test)]
mod tests {
    use portcullis_model::EndpointId;

    use super::*;

    #[test]
    fn ids_grow_within_a_millisecond_and_when_the_clock_goes_back() {
        let maker = IdMaker::default();
        let start = 1_700_000_000_123;
        let mut last = None;
        for n in 0..2_000_i64 {
            let now = Timestamp::from_unix_millis(if n == 700 {
                start - 5_000
            } else {
                start + n / 100
            });
            let (seconds, entropy) = maker.parts(now).expect("randomness");
            let id = EndpointId::new(seconds, entropy);
            assert!(last.is_none_or(|last| last < id));
            last = Some(id);
        }
    }
}
