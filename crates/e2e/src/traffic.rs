//! Upstreams and clients made by the tests themselves, where a real server would hide what is looked
//! at: echo, sink and source with checksums, resets, half-closes.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An upstream that ends with its owner.
pub struct Upstream {
    /// Where it listens.
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// `host:port`.
    pub fn hostport(&self) -> String {
        self.addr.to_string()
    }

    /// Serves every connection with `serve`, each in a task of its own.
    ///
    /// # Panics
    /// When no port can be opened.
    pub async fn serve<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::serve_at(SocketAddr::from(([127, 0, 0, 1], 0)), serve).await
    }

    /// The same at an address of choice.
    ///
    /// # Panics
    /// When it is taken.
    pub async fn serve_at<F, Fut>(at: SocketAddr, serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(at).await.expect("the address is free");
        Self::serve_on(listener, serve)
    }

    /// The same on a listener of the test's.
    ///
    /// # Panics
    /// When it has no address.
    pub fn serve_on<F, Fut>(listener: TcpListener, serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Self { addr, task }
    }

    /// Sends back what it gets and ends when the client ends.
    pub async fn echo() -> Self {
        Self::serve(echo).await
    }
}

/// Sends back what it gets and ends when the client ends.
pub async fn echo(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    if tokio::io::copy(&mut from, &mut to).await.is_ok() {
        // A client that is gone already makes this fail; the echo has nothing left to say.
        drop(to.shutdown().await);
    }
}

/// Bytes that differ from place to place and from seed to seed.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// SHA-256 in hexadecimal.
pub fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Sends `bytes`, ends its own direction, and reads to the end.
///
/// # Errors
/// Whatever the socket says.
pub async fn exchange(addr: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    exchange_over(TcpStream::connect(addr).await?, bytes).await
}

/// The same over a connection that is there already.
///
/// # Errors
/// Whatever the socket says.
pub async fn exchange_over(stream: TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let (mut from, mut to) = stream.into_split();
    let mut answer = Vec::new();
    let write = async {
        to.write_all(bytes).await?;
        to.shutdown().await
    };
    let (written, read) = tokio::join!(write, from.read_to_end(&mut answer));
    // The kernel tells of a reset once, to whichever of the two asks first; the other hears less.
    let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
    match (written, read) {
        (Ok(()), Ok(_)) => Ok(answer),
        (Err(error), _) | (_, Err(error)) if reset(&error) => Err(error),
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
    }
}

/// Makes the next close of `stream` a reset.
///
/// # Panics
/// When the socket option cannot be set.
pub fn reset_on_close(stream: &TcpStream) {
    socket2::SockRef::from(stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .expect("SO_LINGER");
}
