//! When a direction splices, and how: bytes go from socket to socket through a pipe, by reference,
//! and never pass through the process.
//!
//! A direction copies until two large reads came in a row, and copies again after a few small moves:
//! a splice costs two system calls and some page accounting, which small amounts don't pay for.
//! A fill begins with an empty pipe, so "would block" means the socket (a channel fills it with several
//! frames, and then it only ends the fill).
//!
//! Must never: take a splice's word for the end of the bytes. A splice stops in front of an urgent
//! byte and says "would block", or even "end" when a FIN has come behind it; a read passes it.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll, ready};

use super::RelayIo;
use super::pipe::{self, Pipe};
use crate::defaults::{
    SPLICE_AFTER_LARGE, SPLICE_DRY_BYTES, SPLICE_MOVE_BYTES, SPLICE_UNTIL_SMALL,
};

/// What bytes can be spliced from and to: a socket whose bytes are the connection's own, or one on which
/// frames carry them in the clear.
///
/// `Unsupported` from a move to it, with no number of the system's, means "not now": what is in the pipe goes
/// on as ordinary writes.
pub trait Plain {
    /// Waits until there may be bytes, as far as the runtime has heard.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Waits until there are bytes, urgent ones as well, or their end; asks the socket itself.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Moves at most so many bytes from the socket into a pipe. It never waits; 0 means nothing that
    /// a splice can move, and a read tells why. It does not touch the readiness of a bare socket.
    ///
    /// # Errors
    /// The socket's, or that it cannot be spliced.
    fn splice_in(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<usize>;

    /// Moves at most so many bytes from a pipe, which has as many, to the socket, as soon as it takes some.
    fn poll_splice_out(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>>;
}

/// How a direction moves bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// So many large reads came in a row.
    Copy { large: u8 },
    /// So many small moves came in a row.
    Splice { small: u8 },
    /// Splicing failed once: not again.
    CopyForGood,
}

/// One direction's way of moving, and its pipe while bytes are on their way.
pub(super) struct Splice {
    mode: Mode,
    /// The last splice has most likely taken all there was.
    dry: bool,
    pipe: Option<Box<Pipe>>,
}

/// What an attempt to splice from a socket brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// So many bytes are in the pipe.
    Bytes(usize),
    /// A read has to go on: it copies, waits, or finds the end.
    Read,
}

/// What is left of the pipe's bytes after the writer took what it would.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// Nothing.
    Empty,
    /// Some; the writer is clogged.
    Clogged,
    /// These, and they have to be copied.
    Copy(Vec<u8>),
}

impl Splice {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::Copy { large: 0 },
            dry: false,
            pipe: None,
        }
    }

    /// Whether to try a splice next.
    pub(super) fn is_on(&self) -> bool {
        matches!(self.mode, Mode::Splice { .. })
    }

    /// Whether bytes are in the pipe.
    pub(super) fn holds_bytes(&self) -> bool {
        self.pipe.as_ref().is_some_and(|pipe| pipe.filled() > 0)
    }

    /// Notes a move, of whichever kind, and decides how to go on.
    pub(super) fn note<R: RelayIo, W: RelayIo>(
        &mut self,
        bytes: usize,
        reader: &mut R,
        writer: &mut W,
    ) {
        let is_large = bytes >= SPLICE_MOVE_BYTES;
        self.mode = match self.mode {
            Mode::Copy { large } if is_large && large + 1 >= SPLICE_AFTER_LARGE => {
                match (reader.plain(), writer.plain()) {
                    (Some(_), Some(_)) => Mode::Splice { small: 0 },
                    _ => Mode::Copy { large: 0 }, // asked again: what a stream runs over may change
                }
            }
            Mode::Copy { large } if is_large => Mode::Copy { large: large + 1 },
            Mode::Copy { .. } => Mode::Copy { large: 0 },
            Mode::Splice { .. } if is_large => Mode::Splice { small: 0 },
            Mode::Splice { small } if small + 1 >= SPLICE_UNTIL_SMALL => Mode::Copy { large: 0 },
            Mode::Splice { small } => Mode::Splice { small: small + 1 },
            Mode::CopyForGood => Mode::CopyForGood,
        };
    }

    /// Lends the pipe back if it is empty: an idle connection has none.
    pub(super) fn release(&mut self) {
        if !self.holds_bytes() {
            self.pipe = None;
        }
    }

    /// Fills the empty pipe from the reader.
    pub(super) fn poll_fill<R: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Poll<io::Result<Filled>> {
        let Some(socket) = reader.plain() else {
            return Poll::Ready(Ok(Filled::Read));
        };
        // A look at the socket is one system call; a splice that says "nothing" needs a read behind it.
        match std::mem::take(&mut self.dry) {
            true => ready!(socket.poll_waiting(cx))?,
            false => ready!(socket.poll_readable(cx))?,
        }
        if self.pipe.is_none() {
            self.pipe = pipe::pool().take().map(Box::new);
        }
        let Some(pipe) = &mut self.pipe else {
            return Poll::Ready(Ok(Filled::Read)); // none to be had: this one is copied
        };
        Poll::Ready(
            match pipe.fill(|end, most| socket.splice_in(cx, end, most)) {
                Ok(0) => Ok(Filled::Read),
                Ok(bytes) => {
                    self.dry = bytes < SPLICE_DRY_BYTES;
                    Ok(Filled::Bytes(bytes))
                }
                Err(error) if is_impossible(&error) => {
                    self.mode = Mode::CopyForGood;
                    self.pipe = None;
                    Ok(Filled::Read)
                }
                Err(error) => Err(error),
            },
        )
    }

    /// Empties the pipe into the writer, as far as it takes bytes now; `took` hears of each move.
    pub(super) fn drain<W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        mut took: impl FnMut(usize),
    ) -> io::Result<Drained> {
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.filled() > 0) {
            let moved = match (writer.plain(), pipe.outlet()) {
                (Some(socket), Some(outlet)) => socket.poll_splice_out(cx, outlet, pipe.filled()),
                _ => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            };
            match moved {
                Poll::Pending => return Ok(Drained::Clogged),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => {
                    pipe.took(bytes);
                    took(bytes);
                }
                Poll::Ready(Err(error)) if is_impossible(&error) || is_not_now(&error) => {
                    self.mode = match is_not_now(&error) {
                        true => Mode::Copy { large: 0 },
                        false => Mode::CopyForGood,
                    };
                    let bytes = pipe.read_out()?;
                    self.pipe = None;
                    return Ok(Drained::Copy(bytes));
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        Ok(Drained::Empty)
    }
}

/// What the bytes go to stands in the way for a while: see [`Plain`].
fn is_not_now(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.kind() == io::ErrorKind::Unsupported
}

/// Errors of splice(2) that say "not these two", or a seccomp filter's "not here", and nothing of the
/// connection.
pub(crate) fn is_impossible(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::EPERM | libc::ENOMEM)
    )
}
