//! What the tests of this crate share: connected sockets, deadlines, and streams in memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::relay::RelayIo;
use crate::seal::MasterKey;
use crate::tls::{self, CertAuthority, Purpose, Trust, client_config, server_config};

/// Ten times what anything here may take.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Fails the test when `future` takes longer than [`SOON`].
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {SOON:?}"),
    }
}

/// Both ends of a TCP connection.
pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// Both ends of a TLS connection as between edge and agent.
pub(crate) async fn tls_pair() -> (tls::Stream, tls::Stream) {
    let dir = tempfile::tempdir().unwrap();
    let key = MasterKey::load_or_create(&dir.path().join("k")).unwrap();
    let authority = CertAuthority::load_or_create(dir.path(), &key).unwrap();
    let server = server_config(&authority, &[], &[], Purpose::Agents).unwrap();
    let client = client_config(&Trust::Pin(authority.pin())).unwrap();
    let (near, far) = tcp_pair().await;
    let deadline = Instant::now() + SOON;
    let (edge, agent) = tokio::join!(
        tls::accept(near, server, deadline),
        tls::connect(far, client, "localhost", deadline)
    );
    (edge.unwrap(), agent.unwrap())
}

/// Bytes that differ from place to place, so that a lost or doubled one shows.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
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

/// Reads to the end; the error if there is one in place of an end.
pub(crate) async fn read_all<R: AsyncRead + Unpin>(reader: &mut R) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let result = reader.read_to_end(&mut bytes).await.map(drop);
    (bytes, result)
}

/// Writes until the other side takes no more; how much it took.
pub(crate) async fn clog(stream: &TcpStream) -> usize {
    let chunk = vec![7; 64 * 1024];
    let mut sent = 0;
    // Clogged is: not writable for as long as a relay would need to make room many times over.
    while tokio::time::timeout(Duration::from_secs(1), stream.writable())
        .await
        .is_ok()
    {
        match stream.try_write(&chunk) {
            Ok(taken) => sent += taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("clog: {error}"),
        }
    }
    sent
}

/// A stream in memory, for tests in virtual time.
pub(crate) struct Pipe {
    io: DuplexStream,
    pub(crate) was_reset: Arc<AtomicBool>,
}

/// A relay's side and the peer that a test plays.
pub(crate) fn pipe() -> (Pipe, DuplexStream) {
    let (near, far) = tokio::io::duplex(1024);
    (
        Pipe {
            io: near,
            was_reset: Arc::default(),
        },
        far,
    )
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl RelayIo for Pipe {
    fn reset(&mut self) {
        self.was_reset.store(true, Ordering::Relaxed);
    }
    fn poll_broken(&mut self, _cx: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }
}
