//! Challenges under way, and who answers them: a path by HTTP, or a certificate by TLS. Nothing else is served.
//!
//! Must never: listen while no challenge is under way, or answer what was not asked of us.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_model::{Code, Error};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::{ACME_TLS_ALPN, AcmeChallenge, AcmeConfig};
use crate::defaults::{
    ACCEPT_BACKOFF_MIN, ACME_ANSWER_TIMEOUT, ACME_ANSWERS_MAX, ACME_REQUEST_BYTES_MAX,
};
use crate::socket::TcpConn;
use crate::task;
use crate::tls::provider;
use crate::tls::terminate::{ServerIdentity, Setup, Terminator, terminate};

/// Where an authority fetches a token.
const PATH: &str = "/.well-known/acme-challenge/";

/// Challenges under way. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    /// By token.
    texts: HashMap<String, String>,
    /// By name.
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

/// Without keys.
impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("texts", &self.texts.len())
            .field("certificates", &self.certificates.len())
            .finish()
    }
}

/// An answer that is in place until this is dropped.
pub(super) struct Answer<'a> {
    pending: &'a Pending,
    key: String,
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        let mut answers = self.pending.lock();
        // A token is never a name: it has no dot.
        answers.texts.remove(&self.key);
        answers.certificates.remove(&self.key);
    }
}

impl Pending {
    pub(super) fn add_text(&self, token: &str, text: &str) -> Answer<'_> {
        self.lock().texts.insert(token.to_owned(), text.to_owned());
        Answer {
            pending: self,
            key: token.to_owned(),
        }
    }

    /// A certificate with the digest in it that RFC 8737 asks for.
    pub(super) fn add_certificate(&self, name: &str, digest: &[u8]) -> Result<Answer<'_>, Error> {
        let key = KeyPair::generate().map_err(Error::internal)?;
        let mut params = CertificateParams::new([name.to_owned()]).map_err(Error::internal)?;
        params
            .custom_extensions
            .push(CustomExtension::new_acme_identifier(digest));
        let certificate = params.self_signed(&key).map_err(Error::internal)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialized_der().to_vec()));
        // Not checked against each other: the extension is one that no verifier knows, and critical.
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(Error::internal)?;
        let key = CertifiedKey::new(vec![certificate.der().clone()], key);
        self.lock()
            .certificates
            .insert(name.to_owned(), Arc::new(key));
        Ok(Answer {
            pending: self,
            key: name.to_owned(),
        })
    }

    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.lock().certificates.get(name).cloned()
    }

    fn text(&self, token: &str) -> Option<String> {
        self.lock().texts.get(token).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        // Only whole answers are stored under it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers `acme-tls/1` handshakes, and no others.
pub(super) fn terminator(pending: &Pending) -> Result<Terminator, Error> {
    Terminator::new(&Setup {
        only_13: false,
        only_12: false,
        identity: ServerIdentity::Resolver(Arc::new(pending.clone())),
        clients: None,
        alpn: vec![ACME_TLS_ALPN.to_vec()],
    })
}

impl ResolvesServerCert for Pending {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asks = hello
            .alpn()
            .is_some_and(|mut alpn| alpn.any(|protocol| protocol == ACME_TLS_ALPN));
        let name = hello.server_name()?.to_ascii_lowercase();
        asks.then(|| self.certificate(&name)).flatten()
    }
}

/// Listens for the authority until it is dropped.
pub(super) struct Responder(Vec<JoinHandle<()>>);

impl Drop for Responder {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Responder {
    /// Closes the ports, so that the next order finds them free.
    pub(super) async fn stop(mut self) {
        for task in self.0.drain(..) {
            task.abort();
            // Its outcome is that it was ended.
            drop(task.await);
        }
    }

    /// Opens the ports.
    pub(super) async fn start(
        config: &AcmeConfig,
        pending: &Pending,
        answering: &Terminator,
    ) -> Result<Self, Error> {
        let mut tasks = Self(Vec::new());
        for addr in &config.listen {
            let listener = match TcpListener::bind(addr).await {
                Ok(listener) => listener,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && config.others_answer => {
                    tracing::debug!(%addr, "taken: whoever listens there answers the challenge");
                    continue;
                }
                Err(error) => return Err(cannot_listen(*addr, &error)),
            };
            let answers = match config.challenge {
                AcmeChallenge::Http01 => Answering::Http(pending.clone()),
                AcmeChallenge::TlsAlpn01 => Answering::Tls(answering.clone()),
            };
            tasks.0.push(task::spawn("acme", serve(listener, answers)));
        }
        Ok(tasks)
    }
}

fn cannot_listen(addr: SocketAddr, error: &io::Error) -> Error {
    let text = format!("challenges of the ACME authority cannot be answered on {addr}: {error}");
    Error::new(Code::AcmeFailed, text)
}

/// How a connection is answered.
#[derive(Clone)]
enum Answering {
    Http(Pending),
    Tls(Terminator),
}

async fn serve(listener: TcpListener, answering: Answering) {
    let places = Arc::new(Semaphore::new(ACME_ANSWERS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return; // it is never closed
        };
        // The peer's fault, or no descriptor: neither is worth more than a pause.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_BACKOFF_MIN).await;
            continue;
        };
        let answering = answering.clone();
        // It ends at its deadline, whatever becomes of the listener.
        drop(task::spawn("acme answer", async move {
            let _place = place;
            let deadline = Instant::now() + ACME_ANSWER_TIMEOUT;
            match answering {
                // A client that goes away or takes too long has no answer, and nobody to tell.
                Answering::Http(pending) => {
                    drop(timeout_at(deadline, answer_http(stream, &pending)).await);
                }
                Answering::Tls(with) => {
                    let stream = TcpConn::new(stream);
                    if let Ok((mut tls, _)) = terminate(stream, Vec::new(), &with, deadline).await {
                        drop(timeout_at(deadline, tls.shutdown()).await);
                    }
                }
            }
        }));
    }
}

async fn answer_http(mut stream: TcpStream, pending: &Pending) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut some = [0; 1024];
        let read = stream.read(&mut some).await?;
        if read == 0 || head.len() + read > ACME_REQUEST_BYTES_MAX {
            return Ok(());
        }
        head.extend_from_slice(&some[..read]);
    }
    let text = token(&head).and_then(|token| pending.text(token));
    let (status, body) = match text {
        Some(text) => ("200 OK", text),
        None => ("404 Not Found", String::new()),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The token that a request's head asks for.
fn token(head: &[u8]) -> Option<&str> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    let is_get = method == "GET" && version.starts_with("HTTP/1.") && words.next().is_none();
    is_get.then(|| path.strip_prefix(PATH)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_challenges_path_is_read() {
        for (line, found) in [
            ("GET /.well-known/acme-challenge/abc HTTP/1.1", Some("abc")),
            ("GET /.well-known/acme-challenge/abc HTTP/1.0", Some("abc")),
            ("POST /.well-known/acme-challenge/abc HTTP/1.1", None),
            ("GET /.well-known/acme-challenge/abc HTTP/2", None),
            ("GET /.well-known/acme-challenge/abc", None),
            ("GET /.well-known/acme-challenge/a b HTTP/1.1", None),
            ("GET / HTTP/1.1", None),
            ("", None),
        ] {
            let head = format!("{line}\r\nHost: a\r\n\r\n");
            assert_eq!(token(head.as_bytes()), found, "{line}");
        }
    }

    #[test]
    fn an_answer_lasts_as_long_as_its_order() {
        let pending = Pending::default();
        let text = pending.add_text("abc", "abc.def");
        let certificate = pending.add_certificate("a.example", &[7; 32]).unwrap();
        assert_eq!(pending.text("abc").unwrap(), "abc.def");
        assert!(pending.certificate("a.example").is_some());
        drop((text, certificate));
        assert!(pending.text("abc").is_none() && pending.certificate("a.example").is_none());
    }
}
