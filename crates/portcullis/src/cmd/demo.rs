//! `portcullis demo`: a small TCP service to try things with. It greets and echoes lines.
//!
//! Must never: hold more than one line of a client, or more clients than its limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args as ClapArgs;
use portcullis_model::{Code, Error};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::block_on;
use crate::failure::Failure;
use crate::{defaults, output};

/// `demo`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Where to listen; port 0 draws one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7400")]
    listen: SocketAddr,
}

/// Runs it until a signal comes.
///
/// # Errors
/// `PTC_BIND_FAILED` or `PTC_PORT_TAKEN`.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    block_on(async move {
        let demo = Demo::bind(args.listen).await?;
        output::line(&format!(
            "demo service on {}; try: nc {} {}",
            demo.addr,
            demo.addr.ip(),
            demo.addr.port()
        ));
        let mut signals = crate::signals::Signals::new()?;
        tokio::select! {
            biased; // the signal first: it ends everything
            () = signals.terminated() => {}
            () = demo.serve() => {}
        }
        Ok(())
    })
}

/// The service, listening.
#[derive(Debug)]
pub(crate) struct Demo {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    listener: TcpListener,
}

impl Demo {
    /// Opens the listener.
    ///
    /// # Errors
    /// `PTC_BIND_FAILED` or `PTC_PORT_TAKEN`.
    pub(crate) async fn bind(addr: SocketAddr) -> Result<Self, Error> {
        let refuse = |error: std::io::Error| {
            let code = if error.kind() == std::io::ErrorKind::AddrInUse {
                Code::PortTaken
            } else {
                Code::BindFailed
            };
            Error::new(
                code,
                format!("the demo service cannot listen on {addr}: {error}"),
            )
        };
        let listener = TcpListener::bind(addr).await.map_err(refuse)?;
        Ok(Self {
            addr: listener.local_addr().map_err(refuse)?,
            listener,
        })
    }

    /// Serves for ever; clients end with it.
    pub(crate) async fn serve(self) {
        let slots = Arc::new(Semaphore::new(defaults::DEMO_CLIENTS_MAX));
        let mut clients = tokio::task::JoinSet::new();
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "demo: accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Over the limit the stream is dropped, which closes it.
            if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                clients.spawn(async move {
                    let ended = talk(stream).await;
                    drop(slot);
                    tracing::debug!(%peer, ?ended, "demo: client left");
                });
            }
            while clients.try_join_next().is_some() {}
        }
    }
}

/// Greets, then gives every line back until the client has said all.
async fn talk(stream: TcpStream) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    write
        .write_all(b"Hello from Portcullis. Type a line and get it back; \"quit\" ends.\n")
        .await?;
    let mut lines = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut lines).take(defaults::DEMO_LINE_BYTES_MAX);
        let read =
            tokio::time::timeout(defaults::DEMO_IDLE, limited.read_until(b'\n', &mut line)).await;
        match read {
            Ok(Ok(1..)) if line.trim_ascii() != b"quit" => write.write_all(&line).await?,
            Ok(Ok(_)) | Err(_) => break,
            Ok(Err(error)) => return Err(error),
        }
    }
    write.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_greets_echoes_and_ends_when_told() {
        let demo = Demo::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = demo.addr;
        let serving = tokio::spawn(demo.serve());
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"one\nquit\n").await.unwrap();
        let mut all = String::new();
        client.read_to_string(&mut all).await.unwrap();
        assert!(
            all.starts_with("Hello from Portcullis") && all.ends_with("\none\n"),
            "{all}"
        );
        serving.abort();
    }
}
