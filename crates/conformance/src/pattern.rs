//! Bytes that know their place: each seed gives one endless stream, and any part of it can be made
//! or checked without what came before. A byte that is lost, doubled, moved or from another stream
//! is found at its offset.

/// Bytes of one word of the stream.
const WORD: u64 = 8;
/// The odd constant of splitmix64; words of one stream are that far apart before mixing.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One endless stream of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pattern(u64);

impl Pattern {
    /// The stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// Fills `buffer` with the stream from `offset` on.
    pub(crate) fn fill(self, offset: u64, buffer: &mut [u8]) {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let word = self.word(at / WORD).to_le_bytes();
            let skip = usize::try_from(at % WORD).unwrap_or(0);
            let n = (word.len() - skip).min(rest.len());
            rest[..n].copy_from_slice(&word[skip..skip + n]);
            rest = &mut rest[n..];
            at += n as u64;
        }
    }

    /// A piece of the stream.
    pub(crate) fn bytes(self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(offset, &mut bytes);
        bytes
    }

    /// Where `bytes`, which should stand at `offset`, first differ from the stream.
    pub(crate) fn differs_at(self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let expected = self.bytes(offset, bytes.len());
        if expected == bytes {
            return None;
        }
        let at = expected.iter().zip(bytes).position(|(a, b)| a != b)?;
        Some(offset + at as u64)
    }

    fn word(self, index: u64) -> u64 {
        mix(self.0 ^ index.wrapping_mul(GOLDEN))
    }
}

/// A small source of numbers that look random; the same seed gives the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Numbers(u64);

impl Numbers {
    /// The numbers of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The next one, below `bound` (which is at least 1).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0) % bound.max(1)
    }
}

/// The finalizer of splitmix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(GOLDEN);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_a_part_of_the_whole() {
        let pattern = Pattern::new(7);
        let whole = pattern.bytes(0, 100);
        for from in 0..40 {
            for len in 0..40 {
                assert_eq!(pattern.bytes(from as u64, len), whole[from..from + len]);
            }
        }
    }

    #[test]
    fn a_wrong_byte_is_found_where_it_stands() {
        let pattern = Pattern::new(7);
        let mut bytes = pattern.bytes(1000, 500);
        assert_eq!(pattern.differs_at(1000, &bytes), None);
        bytes[123] ^= 1;
        assert_eq!(pattern.differs_at(1000, &bytes), Some(1123));
        assert_eq!(pattern.differs_at(0, &[]), None);
    }

    #[test]
    fn streams_of_two_seeds_differ_at_once() {
        assert!(
            Pattern::new(1)
                .differs_at(0, &Pattern::new(2).bytes(0, 8))
                .is_some()
        );
        // A stream that lost one byte differs too.
        assert!(
            Pattern::new(1)
                .differs_at(0, &Pattern::new(1).bytes(1, 64))
                .is_some()
        );
    }

    #[test]
    fn numbers_stay_below_their_bound_and_repeat() {
        let draw = |seed| {
            let mut numbers = Numbers::new(seed);
            (0..100).map(|_| numbers.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(3).iter().all(|n| *n < 10));
    }
}
