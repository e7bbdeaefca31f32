//! The process's pipes for splicing: few, large, and lent to a direction only while bytes are on
//! their way through one.
//!
//! A user without `CAP_SYS_RESOURCE` has 64 MiB of pipes in all (`pipe-user-pages-soft`, pipe(7));
//! beyond it a pipe gets two pages and no more, and splicing through that is slower than copying.
//!
//! Must never: lend a pipe that has bytes in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::defaults::{
    PIPE_BYTES, PIPE_BYTES_MIN, PIPES_IDLE_MAX, PIPES_MAX, PIPES_REFUSED_SKIP,
    PIPES_SHARE_OF_DESCRIPTORS,
};
use crate::descriptors;

/// How many pipes the relays of this process hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PipesInUse {
    /// Lent to directions that splice at this moment.
    pub lent: usize,
    /// Kept for the next.
    pub idle: usize,
    /// Times that a direction asked and there was none: it went on copying.
    pub refused: u64,
}

/// The pool that every relay takes from.
#[cfg(not(test))]
pub(super) fn pool() -> &'static Pool {
    static PIPES: Pool = Pool::new(PIPES_MAX, open);
    &PIPES
}

/// In tests each thread has a pool of its own, and so each test on a runtime of one thread.
#[cfg(test)]
pub(super) fn pool() -> &'static Pool {
    testing::POOL.get()
}

/// A bounded number of pipes.
pub(super) struct Pool {
    most: usize,
    open: fn() -> io::Result<Ends>,
    state: Mutex<State>,
}

struct State {
    idle: Vec<Ends>,
    lent: usize,
    refused: u64,
    /// Requests that are refused before the system is asked for a pipe again.
    skip: u32,
    /// The process's own bound, by its descriptors; 0 until the first pipe is opened.
    most: usize,
}

/// Both ends of a pipe.
pub(super) struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes that it takes if its pages are full.
    bytes: u32,
}

/// A pipe that is lent. Dropped empty it goes back to the pool, else it is closed.
pub(super) struct Pipe {
    ends: Option<Ends>,
    /// Bytes in it, by our own count of what went in and out.
    filled: u32,
    pool: &'static Pool,
}

impl Pool {
    const fn new(most: usize, open: fn() -> io::Result<Ends>) -> Self {
        let state = State {
            idle: Vec::new(),
            lent: 0,
            refused: 0,
            skip: 0,
            most: 0,
        };
        Self {
            most,
            open,
            state: Mutex::new(state),
        }
    }

    /// An empty pipe, if there is one to be had without going over a bound.
    pub(super) fn take(&'static self) -> Option<Pipe> {
        let mut state = self.lock();
        if let Some(ends) = state.idle.pop() {
            state.lent += 1;
            return Some(Pipe::new(ends, self));
        }
        if state.most == 0 {
            state.most = descriptors::at_most_an(PIPES_SHARE_OF_DESCRIPTORS, self.most);
        }
        if state.skip > 0 || state.lent >= state.most {
            state.skip = state.skip.saturating_sub(1);
            state.refused += 1;
            return None;
        }
        state.lent += 1;
        drop(state); // three system calls without the lock
        match (self.open)() {
            Ok(ends) => Some(Pipe::new(ends, self)),
            // Out of descriptors, memory or quota: copying needs none of them.
            Err(_) => {
                let mut state = self.lock();
                state.lent -= 1;
                state.refused += 1;
                state.skip = PIPES_REFUSED_SKIP;
                None
            }
        }
    }

    fn put(&self, ends: Ends, clean: bool) {
        let mut state = self.lock();
        state.lent -= 1;
        let keep = clean && state.idle.len() < PIPES_IDLE_MAX;
        if keep {
            state.idle.push(ends);
            return;
        }
        drop(state);
        drop(ends); // two system calls without the lock
    }

    pub(super) fn in_use(&self) -> PipesInUse {
        let state = self.lock();
        PipesInUse {
            lent: state.lent,
            idle: state.idle.len(),
            refused: state.refused,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipe {
    fn new(ends: Ends, pool: &'static Pool) -> Self {
        Self {
            ends: Some(ends),
            filled: 0,
            pool,
        }
    }

    /// Bytes in it.
    pub(super) fn filled(&self) -> usize {
        usize::try_from(self.filled).unwrap_or(usize::MAX)
    }

    /// Lets `fill` put bytes in: it gets the end to write to and how many bytes at most, and says how
    /// many went in.
    pub(super) fn fill(
        &mut self,
        fill: impl FnOnce(BorrowedFd<'_>, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let room = usize::try_from(ends.bytes).unwrap_or(usize::MAX);
        let moved = fill(ends.write.as_fd(), room)?;
        self.filled += u32::try_from(moved).unwrap_or(u32::MAX);
        Ok(moved)
    }

    /// The end to read from.
    pub(super) fn outlet(&self) -> Option<BorrowedFd<'_>> {
        self.ends.as_ref().map(|ends| ends.read.as_fd())
    }

    /// Notes that so many bytes have left.
    pub(super) fn took(&mut self, bytes: usize) {
        self.filled -= u32::try_from(bytes).unwrap_or(u32::MAX);
    }

    /// Copies what is in it to memory.
    pub(super) fn read_out(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.filled()];
        let mut have = 0;
        while let Some(outlet) = self.outlet().filter(|_| have < bytes.len()) {
            let read = rustix::io::read(outlet, &mut bytes[have..])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            have += read;
            self.took(read);
        }
        Ok(bytes)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let Some(ends) = self.ends.take() {
            self.pool.put(ends, self.filled == 0);
        }
    }
}

fn open() -> io::Result<Ends> {
    open_with(|end, bytes| Ok(fcntl_setpipe_size(end, bytes)?))
}

/// The largest pipe that the quota allows, or none.
fn open_with(resize: impl Fn(BorrowedFd<'_>, usize) -> io::Result<usize>) -> io::Result<Ends> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let bytes =
        resize(write.as_fd(), PIPE_BYTES).or_else(|_| resize(write.as_fd(), PIPE_BYTES_MIN))?;
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Ok(Ends { read, write, bytes })
}

#[cfg(test)]
pub(super) mod testing {
    //! What tests do with pools.

    use std::cell::Cell;

    use super::*;

    thread_local! {
        pub(super) static POOL: Cell<&'static Pool> = Cell::new(leak(PIPES_MAX, open));
    }

    pub(super) fn leak(most: usize, open: fn() -> io::Result<Ends>) -> &'static Pool {
        // Kept, so that a search for leaks counts it as in use and needs no exception for pools.
        static KEPT: Mutex<Vec<&Pool>> = Mutex::new(Vec::new());
        let pool: &'static Pool = Box::leak(Box::new(Pool::new(most, open)));
        KEPT.lock().unwrap().push(pool);
        pool
    }

    /// From now on this thread's relays get at most so many pipes.
    pub(crate) fn at_most(pipes: usize) {
        POOL.set(leak(pipes, open));
    }

    /// From now on the system refuses pipes to this thread's relays.
    pub(crate) fn refuse() {
        let refuse = || Err(io::Error::from_raw_os_error(libc::EMFILE));
        POOL.set(leak(PIPES_MAX, refuse));
    }
}

#[cfg(test)]
mod tests {
    use super::testing::leak as pool;
    use super::*;

    fn put_in(pipe: &mut Pipe, bytes: &[u8]) {
        let put = pipe.fill(|end, _| Ok(rustix::io::write(end, bytes)?));
        assert_eq!(put.unwrap(), bytes.len());
    }

    fn is_empty(pipe: &Pipe) -> bool {
        let read = rustix::io::read(pipe.outlet().unwrap(), &mut [0; 16]);
        read == Err(rustix::io::Errno::AGAIN)
    }

    #[test]
    fn an_empty_pipe_is_lent_again() {
        let pool = pool(2, open);
        let mut pipe = pool.take().unwrap();
        put_in(&mut pipe, b"secret");
        assert_eq!(pipe.filled(), 6);
        assert_eq!(pipe.read_out().unwrap(), b"secret");
        drop(pipe);
        assert_eq!((pool.in_use().lent, pool.in_use().idle), (0, 1));
        let again = pool.take().unwrap();
        assert_eq!((pool.in_use().lent, pool.in_use().idle), (1, 0));
        assert!(is_empty(&again));
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_never_lent_again() {
        let pool = pool(1, open);
        for _ in 0..100 {
            let mut pipe = pool.take().unwrap();
            assert!(is_empty(&pipe));
            put_in(&mut pipe, &[0xA5; 4096]);
            pipe.took(4095); // as if all but one had left
            drop(pipe);
            assert_eq!((pool.in_use().lent, pool.in_use().idle), (0, 0));
        }
    }

    #[test]
    fn the_pool_is_bounded() {
        let pool = pool(3, open);
        let held: Vec<_> = std::iter::from_fn(|| pool.take()).take(10).collect();
        assert_eq!(held.len(), 3);
        assert!(pool.in_use().refused >= 1);
        drop(held);
        assert!(pool.take().is_some());
    }

    #[test]
    fn few_idle_pipes_are_kept() {
        let pool = pool(PIPES_IDLE_MAX + 8, open);
        let held: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert!(held.len() > PIPES_IDLE_MAX);
        drop(held);
        assert_eq!(pool.in_use().idle, PIPES_IDLE_MAX);
    }

    /// The quota: a large pipe is refused, a smaller one is not.
    #[test]
    fn a_smaller_pipe_does_where_a_large_one_is_refused() {
        let refuse = |end: BorrowedFd<'_>, bytes| match bytes {
            PIPE_BYTES => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(fcntl_setpipe_size(end, bytes)?),
        };
        let ends = open_with(refuse).unwrap();
        assert_eq!(usize::try_from(ends.bytes).unwrap(), PIPE_BYTES_MIN);
        assert!(open_with(|_, _| Err(io::ErrorKind::PermissionDenied.into())).is_err());
    }

    #[test]
    fn after_a_refusal_the_system_is_not_asked_at_once() {
        static ASKED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let pool = pool(100, || {
            ASKED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Err(io::ErrorKind::PermissionDenied.into())
        });
        for _ in 0..=PIPES_REFUSED_SKIP + 1 {
            assert!(pool.take().is_none());
        }
        assert_eq!(ASKED.load(std::sync::atomic::Ordering::Relaxed), 2);
        assert_eq!(pool.in_use().lent, 0);
    }
}
