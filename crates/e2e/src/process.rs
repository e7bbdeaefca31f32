//! A child process that ends with its owner, with its output kept for the test's failure message.

use std::ffi::OsStr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Most output that is kept, in bytes.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// A running child.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<String>>,
}

impl Process {
    /// Starts `command`; its output is collected. The kernel ends it when the test process ends.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        end_with_parent(&mut command);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} ({command:?}): {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().expect("piped"), &output);
        collect(child.stderr.take().expect("piped"), &output);
        Self {
            name: name.to_owned(),
            child,
            output,
        }
    }

    /// Everything it printed so far, both streams.
    pub fn output(&self) -> String {
        self.output.lock().expect("no holder panics").clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("pids fit");
        kill(Pid::from_raw(pid), signal).expect("the child is ours");
    }

    /// Waits for the end, at most `patience`; `None` when it still runs then.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => pause(),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        let status = self.wait(Duration::from_secs(10)).expect("SIGKILL ends it");
        assert_eq!(status.signal(), Some(9));
    }

    /// Asks it to end and waits; its exit status.
    ///
    /// # Panics
    /// When it does not end in `patience`.
    pub fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(patience)
            .unwrap_or_else(|| panic!("{} did not end:\n{}", self.name, self.output()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(Signal::SIGTERM);
            if self.wait(Duration::from_secs(5)).is_none() {
                self.signal(Signal::SIGKILL);
                self.wait(Duration::from_secs(5));
            }
        }
        if std::thread::panicking() {
            eprintln!("--- output of {}\n{}\n---", self.name, self.output());
        }
    }
}

/// Runs a command to its end and gives its output.
///
/// # Panics
/// When it cannot be started, takes longer than `patience`, or fails.
pub fn run<S: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = S>,
    patience: Duration,
) -> String {
    let mut command = Command::new(program);
    command.args(args);
    let (status, output) = finish(program, command, patience);
    assert!(status.success(), "{program} ended with {status}:\n{output}");
    output
}

/// Runs a command to its end, whatever its exit status.
///
/// # Panics
/// When it cannot be started or takes longer than `patience`.
pub fn finish(name: &str, command: Command, patience: Duration) -> (ExitStatus, String) {
    let mut process = Process::start(name, command);
    let status = process.wait(patience);
    let status = status.unwrap_or_else(|| {
        panic!(
            "{name} took longer than {patience:?}:\n{}",
            process.output()
        )
    });
    // The collecting threads see the end of the pipes right after the process's end.
    let deadline = Instant::now() + Duration::from_secs(5);
    while Arc::strong_count(&process.output) > 1 && Instant::now() < deadline {
        pause();
    }
    (status, process.output())
}

fn collect(mut stream: impl std::io::Read + Send + 'static, output: &Arc<Mutex<String>>) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            let mut kept = output.lock().expect("no holder panics");
            if kept.len() < OUTPUT_BYTES_MAX {
                kept.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        }
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at a child, outside any runtime"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

#[expect(
    unsafe_code,
    reason = "the kernel's own way to end children with their parent"
)]
fn end_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches nothing that the parent shares.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}
