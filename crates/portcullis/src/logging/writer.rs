//! Where log lines go on their way out: into memory, from where a thread of its own writes them, many
//! at a time. Whoever logs never waits for a disk, a terminal or a pipe that nobody reads, the data
//! path least of all.
//!
//! Must never: grow beyond its limit. What finds it full is dropped, counted, and told of.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_model::Error;
use tracing_subscriber::fmt::MakeWriter;

use crate::defaults::{LOG_GATHER, LOG_QUEUE_BYTES_MAX};

/// The lines that wait. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lines {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Told when the first line comes, and when somebody waits for the last.
    came: Condvar,
    /// Told when everything was written.
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    dropped: u64,
    /// Whether the thread has lines in hand.
    writing: bool,
    /// Somebody waits for the last line: no gathering.
    hurry: bool,
}

impl Lines {
    /// Starts the thread that writes them to `out`. It ends with the process.
    ///
    /// # Errors
    /// `PTC_INTERNAL` when there is no thread to be had.
    pub(crate) fn start(out: impl Write + Send + 'static) -> Result<Self, Error> {
        let lines = Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                came: Condvar::new(),
                written: Condvar::new(),
            }),
        };
        let theirs = Arc::clone(&lines.shared);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || theirs.write_to(out))
            .map_err(Error::internal)?;
        Ok(lines)
    }

    /// Waits until everything is written that was logged before, or until `patience` is over.
    pub(crate) fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.shared.lock();
        while state.writing || !state.lines.is_empty() {
            state.hurry = true;
            self.shared.came.notify_one();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.written.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.lines.len() + line.len() > LOG_QUEUE_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        let is_first = state.lines.is_empty() && !state.writing;
        state.lines.extend_from_slice(line);
        drop(state);
        if is_first {
            self.came.notify_one();
        }
    }

    /// The thread's life.
    fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        let mut state = self.lock();
        loop {
            if state.lines.is_empty() && state.dropped == 0 {
                state.hurry = false;
                self.written.notify_all();
                let came = self.came.wait(state);
                state = came.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.writing = true;
            if !state.hurry {
                // Others are on their way as a rule, and one call takes them all.
                let more = self.came.wait_timeout(state, LOG_GATHER);
                state = more.unwrap_or_else(PoisonError::into_inner).0;
            }
            mem::swap(&mut batch, &mut state.lines);
            let dropped = mem::take(&mut state.dropped);
            drop(state);
            // Nobody can be told that the log itself cannot be written.
            drop(out.write_all(&batch));
            if dropped > 0 {
                let told = format!(
                    "{dropped} log lines were dropped: they came faster than they could be written\n"
                );
                drop(out.write_all(told.as_bytes()));
            }
            batch.clear();
            batch.shrink_to(LOG_QUEUE_BYTES_MAX / 16);
            state = self.lock();
            state.writing = false;
        }
    }
}

/// One line on its way in.
pub(crate) struct Line<'a>(&'a Shared);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.shared)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Says when a write begins, and waits until it may go on.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue whose writer takes one write for every receive.
    fn slow() -> (Lines, Receiver<Vec<u8>>) {
        let (send, taken) = sync_channel(0);
        (Lines::start(Slow(send)).unwrap(), taken)
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (lines, taken) = slow();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            while !all.ends_with(b"999\n") {
                all.extend(taken.recv().unwrap());
            }
            all
        });
        for number in 0..1000 {
            lines
                .make_writer()
                .write_all(format!("{number}\n").as_bytes())
                .unwrap();
        }
        lines.flush(Duration::from_secs(60));
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(reader.join().unwrap()).unwrap(), expected);
    }

    #[test]
    fn who_logs_never_waits_and_what_is_dropped_is_told() {
        let (lines, taken) = slow();
        let line = vec![b'x'; LOG_QUEUE_BYTES_MAX / 4];
        // Nobody takes anything: at most one batch is in hand, and one is full.
        for _ in 0..12 {
            lines.make_writer().write_all(&line).unwrap();
        }
        let mut taken = std::iter::from_fn(|| taken.recv_timeout(Duration::from_secs(60)).ok());
        let told = taken.find(|bytes| bytes.ends_with(b"than they could be written\n"));
        assert!(told.is_some());
    }
}
