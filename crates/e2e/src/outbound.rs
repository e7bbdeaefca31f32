//! Outgoing proxies for agents: HTTP CONNECT and SOCKS5, as small as the test needs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::traffic::Upstream;

/// A running proxy.
pub struct Proxy {
    /// What `--proxy-url` takes.
    pub url: String,
    served: Arc<AtomicUsize>,
    _listener: Upstream,
}

impl Proxy {
    /// Connections that it carried so far.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

/// An HTTP CONNECT proxy.
pub async fn http_connect() -> Proxy {
    start("http", |mut client| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?;
        let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
        let server = TcpStream::connect(target).await.ok()?;
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
            .ok()?;
        Some((client, server))
    })
    .await
}

/// A SOCKS5 proxy without authentication (RFC 1928).
pub async fn socks5() -> Proxy {
    start("socks5", |mut client| async move {
        let (version, methods) = (client.read_u8().await.ok()?, client.read_u8().await.ok()?);
        let mut skipped = vec![0; methods.into()];
        client.read_exact(&mut skipped).await.ok()?;
        client.write_all(&[version, 0]).await.ok()?;
        let mut head = [0; 4];
        client.read_exact(&mut head).await.ok()?;
        let host = match head[3] {
            1 => std::net::Ipv4Addr::from(client.read_u32().await.ok()?).to_string(),
            3 => {
                let mut name = vec![0; client.read_u8().await.ok()?.into()];
                client.read_exact(&mut name).await.ok()?;
                String::from_utf8(name).ok()?
            }
            _ => return None,
        };
        let server = TcpStream::connect((host, client.read_u16().await.ok()?))
            .await
            .ok()?;
        client
            .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
            .await
            .ok()?;
        Some((client, server))
    })
    .await
}

async fn start<F, Fut>(scheme: &str, handshake: F) -> Proxy
where
    F: Fn(TcpStream) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Option<(TcpStream, TcpStream)>> + Send + 'static,
{
    let served = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&served);
    let listener = Upstream::serve(move |client| {
        let counter = Arc::clone(&counter);
        async move {
            if let Some((mut client, mut server)) = handshake(client).await {
                counter.fetch_add(1, Ordering::Relaxed);
                // Ends when either side does; how is not the proxy's business.
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            }
        }
    })
    .await;
    Proxy {
        url: format!("{scheme}://{}", listener.addr),
        served,
        _listener: listener,
    }
}
