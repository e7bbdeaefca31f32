//! What an agent shows of itself while it runs: a live status on a terminal, plain lines, or one
//! JSON object per change of state.
//!
//! Must never: leave the terminal in another state than it found it in.

pub(crate) mod changes;
pub(crate) mod screen;

use std::io::{self, Write as _};

use crossterm::{cursor, execute, queue, terminal};
use portcullis_agent::Status;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{defaults, output};

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A screen that is drawn again and again.
    Live,
    /// Lines.
    Plain,
    /// JSON objects.
    Json,
}

/// The task that shows it.
#[derive(Debug)]
pub(crate) struct Console {
    end: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Console {
    /// Starts to show.
    pub(crate) fn start(mode: Mode, status: watch::Receiver<Status>) -> Self {
        let end = CancellationToken::new();
        let task = match mode {
            Mode::Live => tokio::spawn(live(status, end.clone())),
            Mode::Plain => tokio::spawn(lines(status, end.clone(), false)),
            Mode::Json => tokio::spawn(lines(status, end.clone(), true)),
        };
        Self { end, task }
    }

    /// Shows the last of it and gives the terminal back.
    pub(crate) async fn close(self) {
        self.end.cancel();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the console ended early");
        }
    }
}

/// Lines, one per change.
async fn lines(mut status: watch::Receiver<Status>, end: CancellationToken, json: bool) {
    let mut seen = changes::Seen::default();
    loop {
        tell(seen.update(&status.borrow_and_update()), json);
        tokio::select! {
            biased; // after the end there is nothing to show
            () = end.cancelled() => break,
            changed = status.changed() => if changed.is_err() { break },
        }
    }
    tell(seen.update(&status.borrow()), json);
}

fn tell(changes: Vec<changes::Change>, json: bool) {
    for change in changes {
        let line = if json {
            Some(change.json(jiff::Timestamp::now()))
        } else {
            change.line()
        };
        if let Some(line) = line {
            output::line(&line);
        }
    }
}

/// The alternate screen; leaves it when dropped, also in a panic.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(Self)
    }

    fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        queue!(out, terminal::BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
        for (row, line) in lines.iter().enumerate() {
            let row = u16::try_from(row).unwrap_or(u16::MAX);
            queue!(
                out,
                cursor::MoveTo(0, row),
                terminal::Clear(terminal::ClearType::CurrentLine)
            )?;
            out.write_all(line.as_bytes())?;
        }
        queue!(
            out,
            terminal::Clear(terminal::ClearType::FromCursorDown),
            terminal::EndSynchronizedUpdate
        )?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone cannot be restored, and needs not be.
        drop(execute!(
            io::stdout(),
            cursor::Show,
            terminal::LeaveAlternateScreen
        ));
    }
}

/// A screen that is drawn on every tick and whenever the terminal changes its size.
async fn live(mut status: watch::Receiver<Status>, end: CancellationToken) {
    let Ok(screen) = Screen::enter() else {
        return lines(status, end, false).await;
    };
    let mut resized = signal(SignalKind::window_change()).ok();
    let mut tick = tokio::time::interval(defaults::LIVE_REFRESH);
    loop {
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let lines = screen::render(
            &status.borrow_and_update(),
            usize::from(width),
            usize::from(height),
        );
        if screen.draw(&lines).is_err() {
            break;
        }
        tokio::select! {
            biased; // the end first; then what changed the size; then the clock
            () = end.cancelled() => break,
            _ = async { match &mut resized { Some(signal) => signal.recv().await, None => std::future::pending().await } } => {}
            _ = tick.tick() => {}
        }
    }
    drop(screen);
    for line in screen::farewell(&status.borrow()) {
        output::line(&line);
    }
}
