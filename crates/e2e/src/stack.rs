//! One server and its agents, from the built binary, on ports and in a directory of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::api::Api;
use crate::ports;
use crate::process::Process;
use crate::wait::eventually;

/// Public ports that one stack may draw from.
const PUBLIC_PORTS: u16 = 24;

static AGENTS: AtomicU32 = AtomicU32::new(0);

/// The binary under test: `PORTCULLIS_BIN`, else the debug build beside this test.
///
/// # Panics
/// When it is not there.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("PORTCULLIS_BIN").map_or_else(
        || {
            let here = std::env::current_exe().expect("a test knows its own path");
            let target = here.ancestors().nth(2).expect("target/debug/deps/test");
            target.join("portcullis")
        },
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "{} is missing; `cargo build -p portcullis` makes it",
        path.display()
    );
    path
}

/// The binary with an environment of its own: nothing of the developer's home reaches it.
pub fn portcullis(home: &Path) -> Command {
    wrapped(&[], home)
}

/// The same behind another command that ends by running its arguments.
fn wrapped(wrapper: &[String], home: &Path) -> Command {
    let mut command = match wrapper {
        [] => Command::new(binary()),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(binary());
            command
        }
    };
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("RUST_BACKTRACE", "1").current_dir(home);
    command
}

/// A command that runs its arguments with at most `descriptors` open files, for [`Launch::wrapper`].
pub fn few_descriptors(descriptors: u32) -> Vec<String> {
    let line = format!("ulimit -n {descriptors}; exec \"$@\"");
    ["bash", "-c", &line, "bash"].map(String::from).to_vec()
}

/// How a server is started where the plain way will not do.
#[derive(Default)]
pub struct Launch<'a> {
    /// What stands before the binary and ends by running it.
    pub wrapper: Vec<String>,
    /// The configuration file's text.
    pub yaml: &'a str,
    /// Further arguments; they win over the usual ones.
    pub extra: &'a [&'a str],
    /// Where this process reaches the API, if not where the server listens.
    pub api_url: Option<String>,
}

/// A running server.
pub struct Stack {
    dir: TempDir,
    data: PathBuf,
    wrapper: Vec<String>,
    args: Vec<String>,
    /// The server's process; `None` while it is down.
    pub server: Option<Process>,
    /// Client with the first admin key.
    pub api: Api,
    /// Where agents connect.
    pub agents: SocketAddr,
    /// The public range.
    pub ports: std::ops::RangeInclusive<u16>,
}

impl Stack {
    /// A server with defaults.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with further arguments.
    pub async fn start_with(extra: &[&str]) -> Self {
        Self::launch(Launch {
            extra,
            ..Launch::default()
        })
        .await
    }

    /// A server with its data in a directory of the test's.
    pub async fn start_on(data: &Path) -> Self {
        Self::start_in(directory(), data.to_owned(), Launch::default()).await
    }

    /// A server with a configuration file beside its arguments.
    pub async fn start_configured(yaml: &str, extra: &[&str]) -> Self {
        Self::launch(Launch {
            yaml,
            extra,
            ..Launch::default()
        })
        .await
    }

    /// A server as `launch` says.
    pub async fn launch(launch: Launch<'_>) -> Self {
        let dir = directory();
        let data = dir.path().join("data");
        Self::start_in(dir, data, launch).await
    }

    async fn start_in(dir: TempDir, data: PathBuf, launch: Launch<'_>) -> Self {
        let range = ports::block(PUBLIC_PORTS + 2);
        let (first, last) = (*range.start(), *range.end());
        let mut args: Vec<String> = vec!["server".into()];
        for (flag, value) in [
            ("--host", "localhost".to_owned()),
            ("--data-dir", data.display().to_string()),
            ("--agents-listen", format!("127.0.0.1:{}", last - 1)),
            ("--api-listen", format!("127.0.0.1:{last}")),
            ("--port-range", format!("{first}-{}", last - 2)),
        ] {
            if !launch.extra.contains(&flag) {
                args.extend([flag.to_owned(), value]);
            }
        }
        if !launch.yaml.is_empty() {
            let path = dir.path().join("server.yml");
            std::fs::write(&path, launch.yaml).expect("the directory is ours");
            args.extend(["--config".into(), path.display().to_string()]);
        }
        args.extend(launch.extra.iter().map(|arg| (*arg).to_owned()));
        let api_url = launch.api_url;
        let api_url = api_url.unwrap_or_else(|| format!("http://127.0.0.1:{last}"));
        let api = Api::new(&api_url, "");
        let agents = SocketAddr::from(([127, 0, 0, 1], last - 1));
        let mut stack = Self {
            dir,
            data,
            wrapper: launch.wrapper,
            args,
            server: None,
            api,
            agents,
            ports: first..=last - 2,
        };
        stack.up().await;
        stack
    }

    /// Starts the server (again) and waits until it is ready.
    pub async fn up(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let mut command = wrapped(&self.wrapper, self.dir.path());
        command.args(&self.args);
        let mut process = Process::start("server", command);
        let url = self.api.url.clone();
        let probe = Api::new(&url, "");
        let key_file = self.data().join("admin.key");
        eventually("the server is ready", || {
            assert!(
                process.is_running(),
                "the server ended:\n{}",
                process.output()
            );
            let probe = probe.clone();
            let key_file = key_file.clone();
            async move {
                let ready = probe
                    .send("GET", "/readyz", None)
                    .await
                    .is_ok_and(|(status, _)| status == 200);
                (ready && key_file.exists()).then_some(())
            }
        })
        .await;
        let key = std::fs::read_to_string(&key_file).expect("the first start writes the admin key");
        self.api = Api::new(&url, &key);
        self.server = Some(process);
    }

    /// The stack's directory, also the home of its processes.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The server's data directory.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// The join string that the first start wrote.
    pub fn join(&self) -> String {
        std::fs::read_to_string(self.data().join("join"))
            .expect("the first start writes it")
            .trim()
            .to_owned()
    }

    /// A command of the binary, in this stack's directory with its API and key.
    pub fn cli(&self, args: &[&str]) -> Command {
        let mut command = portcullis(self.dir.path());
        command
            .env("PORTCULLIS_API_URL", &self.api.url)
            .env("PORTCULLIS_API_KEY", &self.api.key);
        command.args(args);
        command
    }

    /// Runs a command of the binary to its end: exit status and output.
    pub fn run(&self, args: &[&str]) -> (i32, String) {
        let (status, output) =
            crate::process::finish("portcullis", self.cli(args), Duration::from_secs(60));
        (status.code().unwrap_or(-1), output)
    }

    /// Starts `portcullis tcp UPSTREAM` with a state directory of its own and waits for its endpoint.
    pub async fn tcp(&self, upstream: &str) -> AgentProcess {
        self.tcp_with(upstream, &[]).await
    }

    /// The same with further arguments.
    pub async fn tcp_with(&self, upstream: &str, extra: &[&str]) -> AgentProcess {
        let mut agent = self.agent(upstream, extra);
        agent.online().await;
        agent
    }

    /// Starts `portcullis tcp UPSTREAM` and does not wait.
    pub fn agent(&self, upstream: &str, extra: &[&str]) -> AgentProcess {
        self.agent_behind(Vec::new(), upstream, extra)
    }

    /// The same behind a command that ends by running its arguments.
    pub fn agent_behind(
        &self,
        wrapper: Vec<String>,
        upstream: &str,
        extra: &[&str],
    ) -> AgentProcess {
        self.started("tcp", wrapper, upstream, extra)
    }

    /// Starts `portcullis tls UPSTREAM` and waits for its endpoint.
    pub async fn tls_with(&self, upstream: &str, extra: &[&str]) -> AgentProcess {
        let mut agent = self.started("tls", Vec::new(), upstream, extra);
        agent.online().await;
        agent
    }

    fn started(
        &self,
        command: &str,
        wrapper: Vec<String>,
        upstream: &str,
        extra: &[&str],
    ) -> AgentProcess {
        let number = AGENTS.fetch_add(1, Ordering::Relaxed);
        let name = format!("agent-{number}");
        let state = self.dir.path().join(&name).display().to_string();
        let mut args = vec![command.to_owned(), upstream.to_owned()];
        args.extend(extra.iter().map(|arg| (*arg).to_owned()));
        for (flag, value) in [
            ("--authtoken", self.join()),
            ("--name", name.clone()),
            ("--state-dir", state),
            ("--web-addr", "false".to_owned()),
        ] {
            if !extra.contains(&flag) {
                args.extend([flag.to_owned(), value]);
            }
        }
        let mut agent = AgentProcess {
            name,
            wrapper,
            args,
            home: self.dir.path().to_owned(),
            api: self.api.clone(),
            process: None,
            url: String::new(),
        };
        agent.up();
        agent
    }

    /// Opened connections are closed connections and open ones; asked for after each test.
    ///
    /// # Panics
    /// When they are not.
    pub async fn balanced(&self) {
        eventually("opened = closed + open", || async {
            let opened = self.api.metric("portcullis_connections_opened_total").await;
            let closed = self.api.metric("portcullis_connections_closed_total").await;
            let open = self.api.metric("portcullis_connections_open").await;
            ((opened - closed - open).abs() < 0.5).then_some(())
        })
        .await;
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        self.server
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }
}

fn directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("ptc-")
        .tempdir()
        .expect("a directory")
}

/// A running agent with one endpoint.
pub struct AgentProcess {
    /// The endpoint's name.
    pub name: String,
    wrapper: Vec<String>,
    args: Vec<String>,
    home: PathBuf,
    api: Api,
    /// The process; `None` while it is down.
    pub process: Option<Process>,
    /// The endpoint's URL once online.
    pub url: String,
}

impl AgentProcess {
    /// Starts it (again) with the same state directory.
    pub fn up(&mut self) {
        let mut command = wrapped(&self.wrapper, &self.home);
        command.args(&self.args);
        self.process = Some(Process::start(&self.name, command));
    }

    /// Waits for the endpoint; its record.
    pub async fn online(&mut self) -> Value {
        let endpoint = eventually("the endpoint is online", || {
            let process = self.process.as_mut().expect("the agent was started");
            assert!(
                process.is_running(),
                "the agent ended:\n{}",
                process.output()
            );
            let (api, name) = (self.api.clone(), self.name.clone());
            async move {
                api.endpoint_named(&name)
                    .await
                    .filter(|endpoint| endpoint["status"] == "programmed")
            }
        })
        .await;
        self.url = endpoint["url"]
            .as_str()
            .expect("an endpoint has a URL")
            .to_owned();
        endpoint
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        let port = self.url.rsplit_once(':').expect("tcp://host:port").1;
        SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")))
    }

    /// The port of its endpoint, as text.
    pub fn port(&self) -> String {
        self.addr().port().to_string()
    }

    /// The directory with its identity and the token of its local API.
    pub fn state_dir(&self) -> PathBuf {
        self.home.join(&self.name)
    }

    /// Its output so far.
    pub fn output(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }
}
