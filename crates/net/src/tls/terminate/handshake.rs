//! The handshake with a client, and what it brought.
//!
//! Must never: lose the connection under a handshake that failed; its owner ends it.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use portcullis_model::{Code, Error};
use rustls::ProtocolVersion;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConnection};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::Terminator;
use super::stream::{Held, Slot, TlsServer};
use crate::defaults::TLS_ALERT_TIMEOUT;
use crate::relay::RelayIo;
use crate::tls::wire::Wire;

/// What a handshake brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handshake {
    /// The name that the client asked for, in lower case; empty: none.
    pub sni: String,
    /// `1.2` or `1.3`
    pub version: String,
    /// As IANA names it, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// The protocol agreed on by ALPN; empty: none.
    pub alpn: String,
    /// The client's certificate, DER.
    pub peer: Option<Vec<u8>>,
    /// The certificate that was shown to it, DER.
    pub server: Option<Vec<u8>>,
}

/// A handshake that came to nothing.
pub struct NotTerminated<IO> {
    /// The connection. A TLS alert, if one was due, has been written to it.
    pub io: Option<IO>,
    /// `PTC_TLS_HANDSHAKE` or `PTC_TLS_NO_CERTIFICATE`.
    pub error: Error,
}

impl<IO> fmt::Debug for NotTerminated<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotTerminated")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// The server's side of a handshake with a client of whose bytes some, `ahead`, were read already.
///
/// # Errors
/// Why there is no TLS, with the connection.
///
/// # Cancel safety
/// Dropping the future drops the connection.
pub async fn terminate<IO: RelayIo + 'static>(
    io: IO,
    ahead: Vec<u8>,
    with: &Terminator,
    deadline: Instant,
) -> Result<(TlsServer<IO>, Handshake), NotTerminated<IO>> {
    let slot = Slot::default();
    let wire = Wire::with_ahead(Held::new(io, Arc::clone(&slot)), ahead);
    // Boxed: a handshake's state is large and gone before the connection's life begins.
    let mut accept = Box::pin(TlsAcceptor::from(Arc::clone(&with.config)).accept(wire));
    let mut shown = Shown::NotAsked;
    let handshake = poll_fn(|cx| {
        SHOWN.set(Shown::NotAsked);
        let polled = Pin::new(&mut *accept).poll(cx);
        match SHOWN.take() {
            Shown::NotAsked => {}
            asked => shown = asked,
        }
        polled
    });
    let outcome = timeout_at(deadline, handshake).await;
    drop(accept);
    let why = match outcome {
        Ok(Ok(mut stream)) => {
            stream.get_mut().0.conn_mut().keep();
            let handshake = facts(stream.get_ref().1, shown);
            return Ok((TlsServer::new(stream), handshake));
        }
        Ok(Err(error)) => explain(&error, &shown),
        Err(_) => failed("it took too long"),
    };
    let mut io = slot
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .take();
    if let Some(io) = &mut io {
        // The alert. Nobody waits for a client that does not take it, and its error is no news.
        let until = Instant::now() + TLS_ALERT_TIMEOUT;
        drop(timeout_at(until, io.flush()).await);
    }
    Err(NotTerminated { io, error: why })
}

fn facts(session: &ServerConnection, shown: Shown) -> Handshake {
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "",
    };
    let suite = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .unwrap_or_default();
    let alpn = session.alpn_protocol().unwrap_or_default();
    let server = match shown {
        Shown::Certificate(key) => key.cert.first().map(|leaf| leaf.to_vec()),
        Shown::NotAsked | Shown::None => None,
    };
    Handshake {
        sni: session
            .server_name()
            .unwrap_or_default()
            .to_ascii_lowercase(),
        version: version.to_owned(),
        cipher_suite: suite.replacen("TLS13_", "TLS_", 1),
        alpn: String::from_utf8_lossy(alpn).into_owned(),
        peer: session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| leaf.to_vec()),
        server,
    }
}

fn failed(why: &str) -> Error {
    let text = format!("the TLS handshake with the client failed: {why}");
    Error::new(Code::TlsHandshake, text)
}

fn explain(error: &io::Error, shown: &Shown) -> Error {
    use rustls::Error as Tls;
    if matches!(shown, Shown::None) {
        return Error::of(Code::TlsNoCertificate);
    }
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Tls>());
    match inner {
        Some(Tls::NoCertificatesPresented) => failed("it shows no certificate, and has to"),
        Some(Tls::InvalidCertificate(why)) => {
            failed(&format!("its certificate is not good ({why})"))
        }
        Some(Tls::AlertReceived(alert)) => failed(&format!("it sent the alert {alert:?}")),
        Some(Tls::InvalidMessage(_)) => failed("it does not speak TLS"),
        Some(Tls::PeerIncompatible(why)) => failed(&format!("nothing in common ({why:?})")),
        Some(other) => failed(&other.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => failed("it went away"),
        None => failed(&error.to_string()),
    }
}

thread_local! {
    /// Which certificate a handshake of this thread has shown since someone looked. A resolver is called in the
    /// midst of a poll and knows no connection; who polls does.
    static SHOWN: Cell<Shown> = const { Cell::new(Shown::NotAsked) };
}

/// What a resolver answered.
#[derive(Default)]
enum Shown {
    /// It has not been asked.
    #[default]
    NotAsked,
    /// Nothing.
    None,
    /// This.
    Certificate(Arc<CertifiedKey>),
}

/// A resolver, and a note of what it answered.
#[derive(Debug)]
pub(super) struct Recording(pub(super) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Recording {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.0.resolve(hello);
        SHOWN.set(key.clone().map_or(Shown::None, Shown::Certificate));
        key
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}
