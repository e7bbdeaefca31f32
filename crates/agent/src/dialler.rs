//! Connecting to internal endpoints of the account, from a place that runs no agent: each connection has a
//! link of its own, which is let in by the credential and then carries one open as a data channel does.
//!
//! Must never: print a token, or let a cut stream look whole.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use portcullis_model::id::ConnectionId;
use portcullis_model::{Code, EndpointUrl, Error};
use portcullis_net::channel::{Channel, TunnelStream};
use portcullis_net::control::{Reader, Writer};
use portcullis_net::{Counters, RelayEnd, RelayIo, RelayLimits, Side, relay, tls};
use portcullis_proto::defaults::VERSIONS;
use portcullis_proto::message::{Dial, DialAnswer, FirstMessage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::dial;
use crate::settings::Settings;

/// Connects to internal endpoints. Clones share what they know of the server.
#[derive(Debug, Clone)]
pub struct Dialler {
    settings: Arc<Settings>,
}

impl Dialler {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
        }
    }

    /// Asks whether an endpoint can be connected to; its URL, complete. Nothing is opened.
    ///
    /// # Errors
    /// As [`Self::dial`], except for what only the endpoint's policy or upstream could say.
    pub async fn check(&self, url: &str) -> Result<EndpointUrl, Error> {
        let deadline = Instant::now() + self.settings.connect_timeout;
        let stream = ask(&self.settings, url, true, deadline).await?;
        let mut reader = Reader::new(stream);
        let answer = timeout_at(deadline, reader.next::<DialAnswer>()).await;
        match answer.map_err(|_| silent())?? {
            Some(DialAnswer::Ready(ready)) => Ok(ready.url),
            Some(DialAnswer::Error(fatal)) => Err(understood(fatal.error())),
            None => Err(silent()),
        }
    }

    /// Connects to an endpoint such as `tcp://db.internal:5432`. That the server lets it in says nothing of the
    /// endpoint's policy and upstream yet: what they refuse is a reset, whose reason [`Dialled::reason`] has.
    ///
    /// # Errors
    /// `PTC_DIAL_NOT_INTERNAL`, `PTC_FORWARD_TARGET_MISSING`, `PTC_AUTHTOKEN_…`, `PTC_CREDENTIAL_ACL`,
    /// `PTC_SERVER_…`, `PTC_VERSION_UNSUPPORTED` for a server that is too old.
    pub async fn dial(&self, url: &str) -> Result<Dialled, Error> {
        dial(&self.settings, url).await
    }
}

/// See [`Dialler::dial`].
pub(crate) async fn dial(settings: &Settings, url: &str) -> Result<Dialled, Error> {
    let deadline = Instant::now() + settings.connect_timeout;
    let stream = ask(settings, url, false, deadline).await?;
    let opening = async {
        let (header, _, opening) = Channel::agent(0, stream).accept().await?;
        let stream = opening.opened().await?;
        Ok::<_, Error>(Dialled {
            stream,
            id: header.connection_id,
        })
    };
    let opened = timeout_at(deadline, opening).await;
    opened.map_err(|_| silent())?.map_err(understood)
}

/// Connects, and says what is wanted.
async fn ask(
    settings: &Settings,
    url: &str,
    check: bool,
    deadline: Instant,
) -> Result<tls::Stream, Error> {
    let stream = dial::connect(settings, deadline).await?;
    let dial = Dial {
        versions: VERSIONS,
        authtoken: settings.server.authtoken.clone(),
        url: url.to_owned(),
        check,
        agent_version: settings.agent_version.clone(),
        hostname: settings.hostname.clone(),
    };
    let mut writer = Writer::new(stream);
    let sent = timeout_at(deadline, writer.send(&FirstMessage::from(dial))).await;
    sent.map_err(|_| silent())??;
    Ok(writer.into_inner())
}

fn silent() -> Error {
    Error::new(
        Code::ServerUnreachable,
        "the server did not answer the dial in time",
    )
}

/// A server that does not know the message says so by its name.
fn understood(error: Error) -> Error {
    if error.code == Code::ProtocolViolation && error.message.contains("message type `dial`") {
        let message = "the server is too old to be connected to its internal endpoints; upgrade it";
        return Error::new(Code::VersionUnsupported, message);
    }
    error
}

/// How a connection ended that [`Dialled::carry`] carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// Both directions came to their end.
    Whole,
    /// One side reset it, as TCP does, or it was killed.
    Reset,
}

/// A connection to an internal endpoint. To end it whole, shut it down, read to its end, and
/// [`finish`](Self::finish) it; dropped before, it is a reset.
#[derive(Debug)]
pub struct Dialled {
    stream: TunnelStream,
    id: ConnectionId,
}

impl Dialled {
    /// The connection, as the server's records name it.
    pub fn connection_id(&self) -> &ConnectionId {
        &self.id
    }

    /// Why the server reset the connection, once it has, and if it said so.
    pub fn reason(&self) -> Option<Error> {
        self.stream.peer_reason()
    }

    /// Settles the end with the server.
    pub async fn finish(self) {
        // The link was for this one connection: what is left of it is dropped.
        drop(self.stream.finish().await);
    }

    /// Moves bytes between it and somebody here until both directions have ended, or one side reset it; `kill`
    /// resets both.
    ///
    /// # Errors
    /// Why it was cut short: what the server says, or that the server is gone.
    pub async fn carry<L: RelayIo>(
        self,
        mut local: L,
        kill: &CancellationToken,
    ) -> Result<Carried, Error> {
        let Self { mut stream, .. } = self;
        let (limits, counters) = (RelayLimits::default(), Counters::new());
        let end = relay(&mut local, &mut stream, &limits, &counters, kill).await;
        drop(local); // its drop may be its end
        let outcome = match end {
            RelayEnd::Reset { by: Side::Upstream } => {
                stream.peer_reason().map_or(Ok(Carried::Reset), Err)
            }
            RelayEnd::Failed {
                side: Side::Upstream,
                source,
            } => Err(stream.peer_reason().unwrap_or_else(|| {
                let what = "the connection to the server broke";
                Error::new(Code::ServerUnreachable, what).with_internal(source)
            })),
            RelayEnd::Finished { .. } => Ok(Carried::Whole),
            _ => Ok(Carried::Reset),
        };
        drop(stream.finish().await);
        outcome
    }
}

impl AsyncRead for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_know_the_message_is_too_old() {
        use portcullis_proto::codec::CodecError;
        let old = Error::from(CodecError::UnknownType("dial".to_owned()));
        assert_eq!(understood(old).code, Code::VersionUnsupported);
        for other in [
            Error::from(CodecError::UnknownType("hello".to_owned())),
            Error::of(Code::AuthtokenUnknown),
        ] {
            assert_eq!(understood(other.clone()), other);
        }
    }
}
