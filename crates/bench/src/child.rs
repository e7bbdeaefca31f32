//! The benchmark's own processes: backend, clients, relays. All of them are this binary again, and end
//! when their standard input does, so none outlives the run.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::delay::Link;
use crate::load::{Job, Outcome};

/// What a client may take beyond its time: opening, giving up what is stuck, draining.
const SLACK: Duration = Duration::from_secs(40);

fn own(words: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words);
    Ok(command)
}

/// A process that says a line when it is ready, and ends with its owner.
pub struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Helper {
    fn start(words: &[&str]) -> anyhow::Result<Self> {
        let mut command = own(words)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("piped")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "the helper ended");
        Ok(line.trim().to_owned())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The backend, and where it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn backend() -> anyhow::Result<(Self, SocketAddr)> {
        let mut helper = Self::start(&["backend"])?;
        let addr = helper.line()?.parse()?;
        Ok((helper, addr))
    }

    /// A delay relay, and where it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn delay(link: &Link) -> anyhow::Result<(Self, SocketAddr)> {
        let mut helper = Self::start(&["delay", &serde_json::to_string(link)?])?;
        let addr = helper.line()?.parse()?;
        Ok((helper, addr))
    }

    /// Holds connections to `to` that exchange `bytes` each way once.
    ///
    /// # Errors
    /// When it does not start.
    pub fn hold(to: SocketAddr, bytes: usize) -> anyhow::Result<Self> {
        Self::start(&["hold", &to.to_string(), &bytes.to_string()])
    }

    /// Opens connections until it holds `count`.
    ///
    /// # Errors
    /// When one fails.
    pub fn hold_until(&mut self, count: usize) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("it was not asked to end")?;
        writeln!(input, "{count}")?;
        let line = self.line().context("a connection failed")?;
        anyhow::ensure!(line == format!("held {count}"), "{line}");
        Ok(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.input = None;
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Ends this process when standard input ends: its owner is gone.
pub fn end_with_owner() {
    std::thread::spawn(|| {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        std::process::exit(0);
    });
}

/// Runs a client; it ends with the future.
///
/// # Errors
/// When it measures nothing; says what the client said.
pub async fn client(job: &Job) -> anyhow::Result<Outcome> {
    let command = own(&["client", &serde_json::to_string(job)?])?;
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(job.warm + job.time + SLACK, command.output()).await;
    let output = output.context("the client does not come to an end")??;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}", said.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}
