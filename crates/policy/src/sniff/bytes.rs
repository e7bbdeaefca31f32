//! Reading fronts of messages: what is there, what may still come, what can't be.

/// Why nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// More bytes may tell.
    More,
    /// It is something else.
    Not,
}

/// What bytes told.
pub(super) type Told<T> = Result<T, Stop>;

/// One byte.
pub(super) fn byte(bytes: &[u8], at: usize) -> Told<u8> {
    bytes.get(at).copied().ok_or(Stop::More)
}

/// Goes on if the condition holds.
pub(super) fn must(holds: bool) -> Told<()> {
    if holds { Ok(()) } else { Err(Stop::Not) }
}

/// Goes on if `bytes` begin with `front`; says so at the first byte that differs.
pub(super) fn begins(bytes: &[u8], front: &[u8]) -> Told<()> {
    let there = bytes.len().min(front.len());
    must(bytes[..there] == front[..there])?;
    if there < front.len() {
        return Err(Stop::More);
    }
    Ok(())
}

/// A number of 7 bits a byte, the lowest first, of at most `bytes_max` bytes (and 28 bits): the number, and the bytes
/// it took.
pub(super) fn varint(bytes: &[u8], bytes_max: usize) -> Told<(usize, usize)> {
    let mut number = 0;
    for at in 0..bytes_max.min(4) {
        let byte = byte(bytes, at)?;
        number |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((number, at + 1));
        }
    }
    Err(Stop::Not)
}

/// Reads what is there as a whole. `None`: it is shorter than it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of one byte.
    pub(super) fn one(&mut self) -> Option<usize> {
        Some(usize::from(self.take(1)?[0]))
    }

    /// A number of two bytes, the highest first.
    pub(super) fn two(&mut self) -> Option<usize> {
        let bytes = self.take(2)?;
        Some(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
    }

    /// Bytes behind their count, which takes one.
    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let count = self.one()?;
        self.take(count)
    }

    /// Bytes behind their count, which takes two.
    pub(super) fn long(&mut self) -> Option<&'a [u8]> {
        let count = self.two()?;
        self.take(count)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
