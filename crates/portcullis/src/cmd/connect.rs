//! `portcullis connect`: an internal endpoint of the account on a port of this machine, or on standard input
//! and output.
//!
//! Must never: listen beyond this machine.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;
use clap::builder::NonEmptyStringValueParser;
use portcullis_agent::{AgentConfig, Carried, Dialler, Overrides};
use portcullis_model::errors::EXIT_FAILURE;
use portcullis_model::{Code, EndpointUrl, Error, Secret};
use portcullis_net::accept::{self, AcceptOptions};
use portcullis_net::listen::{ListenOptions, listen};
use portcullis_net::{RelayIo as _, TcpConn, UnixConn, task};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::block_on;
use crate::agent_process::explained;
use crate::config::LogFormat;
use crate::defaults::{CONNECT_CONNECTIONS_MAX, CONNECT_CUT_WAIT, STDIO_BYTES, STDIO_LAST_WAIT};
use crate::failure::{Failure, render};
use crate::logging::Target;
use crate::signals::Signals;
use crate::{cmd, environment, logging, output};

/// `connect`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  portcullis connect tcp://db.internal:5432            psql -h 127.0.0.1
  portcullis connect tcp://db.internal:5432 15432
  ssh -o ProxyCommand='portcullis connect tcp://host.internal:22 -' host")]
pub(crate) struct Args {
    /// The internal endpoint, tcp://NAME.internal:PORT.
    #[arg(value_name = "URL")]
    url: String,
    /// Port of this machine to listen on; left out or 0, the endpoint's own if it is free, else any. `-` carries
    /// one connection on standard input and output.
    #[arg(value_name = "LOCALPORT", value_parser = local_port, default_value = "0")]
    local: Local,
    /// Carry one connection on standard input and output.
    #[arg(long)]
    stdio: bool,
    /// Authtoken or join string; else PORTCULLIS_AUTHTOKEN, the configuration, or a local server's.
    #[arg(long, value_name = "TOKEN", value_parser = NonEmptyStringValueParser::new())]
    authtoken: Option<String>,
    /// The agent's configuration file; repeatable, later ones win.
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Where to connect, HOST[:PORT]; wins over the join string's.
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Proxy on the way out: http://… (CONNECT) or socks5://….
    #[arg(long, value_name = "URL")]
    proxy_url: Option<String>,
    /// Which log lines are written: error, warn, info, debug, or a filter; PORTCULLIS_LOG is stronger.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Where the connections come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Local {
    Port(u16),
    Stdio,
}

fn local_port(text: &str) -> Result<Local, String> {
    match text {
        "-" => Ok(Local::Stdio),
        text => text
            .parse()
            .map(Local::Port)
            .map_err(|_| "a port, or `-` for standard input and output, is expected".to_owned()),
    }
}

/// Connects until a signal comes.
///
/// # Errors
/// Why the endpoint cannot be connected to, or what ended it.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    block_on(serve(args))
}

async fn serve(args: Args) -> Result<(), Failure> {
    let level = args.log_level.as_deref().unwrap_or(logging::LEVEL_QUIET);
    logging::start(level, LogFormat::Text, &Target::Stderr)?;
    let overrides = Overrides {
        authtoken: args
            .authtoken
            .map(Secret::new)
            .or_else(environment::authtoken),
        api_key: None,
        connect_url: args.server.or_else(environment::server),
        proxy_url: args.proxy_url.map(Secret::new),
    };
    let config = AgentConfig::load(&cmd::config::files(&args.config), &overrides)?;
    for note in &config.notes {
        tracing::warn!("configuration: {note}");
    }
    let builder = config.builder().data_dirs(environment::local_data_dirs());
    let dialler = builder.dialler().map_err(explained)?;
    let port = match args.local {
        Local::Port(port) if !args.stdio => port,
        Local::Port(_) | Local::Stdio => return on_stdio(&dialler, &args.url).await,
    };
    let mut signals = Signals::new()?;
    // What is wrong with the URL, the token or the server is told now, not to the first connection.
    let url = tokio::select! {
        biased; // a signal ends the wait
        () = signals.terminated() => return Ok(()),
        url = dialler.check(&args.url) => url?,
    };
    let listener = local_listener(port, &url)?;
    let at = listener.local_addr().map_err(Error::internal)?;
    output::line(&format!("{at} -> {url}"));
    cmd::notify_ready();
    let open = Open::default();
    let ended = tokio::select! {
        biased; // a signal ends everything
        () = signals.terminated() => Ok(()),
        ended = accept_all(listener, dialler, url, &open) => ended,
    };
    cmd::notify_stopping();
    tokio::select! {
        biased; // a second signal does not wait
        () = signals.terminated() => {}
        () = open.cut() => {}
    }
    ended
}

/// The connections that are open.
#[derive(Clone, Default)]
struct Open {
    kill: CancellationToken,
    tasks: TaskTracker,
}

impl Open {
    /// Resets them: one that just went with the process would look whole.
    async fn cut(&self) {
        self.kill.cancel();
        self.tasks.close();
        // A server that does not answer is told nothing.
        drop(tokio::time::timeout(CONNECT_CUT_WAIT, self.tasks.wait()).await);
    }
}

async fn on_stdio(dialler: &Dialler, url: &str) -> Result<(), Failure> {
    let dialled = dialler.dial(url).await?;
    tracing::info!(connection = %dialled.connection_id(), "connected");
    let Stdio { stream, written } = Stdio::open().map_err(Error::internal)?;
    match dialled.carry(stream, &CancellationToken::new()).await {
        Ok(Carried::Whole) => {
            // A thread that vanished has said so already.
            drop(written.await);
            Ok(())
        }
        // What came before the cut goes out if somebody takes it.
        cut => {
            drop(tokio::time::timeout(STDIO_LAST_WAIT, written).await);
            // As a client's socket would show a reset; there is nothing to add.
            cut.map_or_else(
                |error| Err(error.into()),
                |_| Err(Failure::Said(EXIT_FAILURE)),
            )
        }
    }
}

/// On the port that was asked for; where none was, on the endpoint's own, else on any.
fn local_listener(port: u16, url: &EndpointUrl) -> Result<TcpListener, Error> {
    let on = |port| {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        listen(at, ListenOptions::default())
    };
    match port {
        0 => on(url.port()).or_else(|_| on(0)),
        port => on(port),
    }
}

/// Serves local connections until one of them finds that none can be served any more.
async fn accept_all(
    listener: TcpListener,
    dialler: Dialler,
    url: EndpointUrl,
    open: &Open,
) -> Result<(), Failure> {
    let options = AcceptOptions {
        permits: Arc::new(Semaphore::new(CONNECT_CONNECTIONS_MAX)),
        shutdown: CancellationToken::new(),
        observer: Arc::new(()),
    };
    // Only the first is of interest.
    let (last_words, mut over) = mpsc::channel(1);
    let url = Arc::<str>::from(url.to_string());
    let accepting = accept::run(listener, options, move |local, peer, permit| {
        let (dialler, url) = (dialler.clone(), Arc::clone(&url));
        let (last_words, kill) = (last_words.clone(), open.kill.clone());
        let serving = async move {
            if let Err(error) = carry(&dialler, &url, local, &kill).await {
                let hopeless = is_hopeless(error.code);
                if !hopeless || last_words.try_send(error.clone()).is_err() {
                    output::note(&format!("connection from {peer}: {}", render(&error)));
                }
            }
            drop(permit);
        };
        drop(task::spawn(
            "local connection",
            open.tasks.track_future(serving),
        ));
    });
    tokio::select! {
        biased; // a refusal for good is the better reason
        Some(error) = over.recv() => Err(error.into()),
        done = accepting => Ok(done.map_err(Error::internal)?),
    }
}

async fn carry(
    dialler: &Dialler,
    url: &str,
    local: TcpStream,
    kill: &CancellationToken,
) -> Result<(), Error> {
    let mut local = TcpConn::new(local);
    let dialled = tokio::select! {
        biased;
        () = kill.cancelled() => {
            local.reset();
            return Ok(());
        }
        dialled = dialler.dial(url) => dialled,
    };
    match dialled {
        // A reset has reached the local side as one.
        Ok(dialled) => dialled.carry(local, kill).await.map(drop),
        Err(error) => {
            local.reset();
            Err(error)
        }
    }
}

/// Whether no further connection can be let in either.
fn is_hopeless(code: Code) -> bool {
    matches!(
        code,
        Code::AuthtokenMissing
            | Code::AuthtokenMalformed
            | Code::AuthtokenUnknown
            | Code::CredentialRevoked
            | Code::AccountSuspended
            | Code::VersionUnsupported
            | Code::ServerUntrusted
    )
}

/// Standard input and output as one stream: a pair of sockets, with a thread for each direction, which reads
/// and writes without disturbing who else has them. It knows no reset: the exit status tells.
struct Stdio {
    stream: UnixConn,
    /// Comes when all that the endpoint said is written.
    written: oneshot::Receiver<()>,
}

impl Stdio {
    fn open() -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let (done, written) = oneshot::channel();
        let (mut input, mut output) = (theirs.try_clone()?, theirs);
        let spawn = |name: &str| std::thread::Builder::new().name(name.to_owned());
        // Ends with the process: nothing wakes who reads a terminal.
        spawn("stdin").spawn(move || {
            let copied = io::copy(&mut io::stdin().lock(), &mut input);
            // A broken input is its end; so is a relay that does not want it any more.
            drop(copied.and_then(|_| input.shutdown(Shutdown::Write)));
        })?;
        spawn("stdout").spawn(move || {
            if copy_out(&mut output).is_err() {
                // Nobody reads: the relay finds that out by its next write.
                drop(output.shutdown(Shutdown::Both));
            }
            done.send(()).ok(); // who was cut does not wait
        })?;
        Ok(Self {
            stream: UnixConn::new(UnixStream::from_std(ours)?),
            written,
        })
    }
}

/// Writes each piece at once, and closes standard output at the end, so that whoever reads it sees the end
/// while the other direction goes on.
fn copy_out(from: &mut StdStream) -> io::Result<()> {
    let mut chunk = vec![0; STDIO_BYTES];
    let mut output = io::stdout().lock();
    loop {
        match from.read(&mut chunk)? {
            0 => break,
            read => {
                output.write_all(&chunk[..read])?;
                output.flush()?;
            }
        }
    }
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    Ok(nix::unistd::dup2_stdout(&nowhere)?)
}
