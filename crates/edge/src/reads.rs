//! Waiting for a client's first bytes because a policy asks for them: bounded in bytes and in time. What
//! is read stays in [`Early`], and is replayed to whatever the connection is forwarded to.
//!
//! Must never: take bytes away that were not answered, or wait where no rule asked for it.

use std::future::poll_fn;
use std::time::Duration;

use portcullis_net::Side;
use portcullis_policy::sniff::{self, First, Head, Looked, Protocol, Request};
use portcullis_policy::{Given, Need};
use portcullis_telemetry::{CloseReason, Ended, KillSwitch};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::client::ClientIo;
use crate::connection::{Record, failed, killed};
use crate::defaults::{
    ENCRYPTION_ANSWERS_MAX, FIRST_BYTES_MAX, REQUEST_HEAD_BYTES_MAX, REQUEST_TIMEOUT,
};
use crate::early::Early;

/// A client that is waited for.
pub(crate) struct Waiting<'a> {
    pub(crate) client: &'a mut ClientIo,
    pub(crate) early: &'a Early<'a>,
    pub(crate) kill: &'a KillSwitch,
    began: Instant,
    pub(crate) within: Instant,
}

impl<'a> Waiting<'a> {
    /// No wait but a handshake's lasts longer than the establishment may, which counts from `began`.
    pub(crate) fn of(
        client: &'a mut ClientIo,
        early: &'a Early<'a>,
        record: &'a Record,
        began: Instant,
        connect_timeout: Duration,
    ) -> Self {
        Self {
            client,
            early,
            kill: record.kill(),
            began,
            within: began + connect_timeout,
        }
    }

    /// A policy says how long the establishment may take.
    pub(crate) fn set_connect_timeout(&mut self, connect_timeout: Duration) {
        self.within = self.began + connect_timeout;
    }

    /// The client took this long for a handshake, which is not counted against the upstream.
    pub(crate) fn extend(&mut self, took: Duration) {
        self.began += took;
        self.within += took;
    }

    /// Gets what is needed.
    ///
    /// # Errors
    /// The client is gone, somebody ended the connection, or no request came in time. `internal` when it is
    /// asked for what it has given: that would go on for ever.
    pub(crate) async fn get(&mut self, need: Need, given: &mut Given) -> Result<(), Ended> {
        match need {
            Need::First { .. } if given.first.is_some() => return Err(CloseReason::Internal.into()),
            Need::Request if given.request.is_some() => return Err(CloseReason::Internal.into()),
            Need::First { wait } => {
                let deadline = Instant::now().checked_add(wait);
                let deadline = deadline.unwrap_or(self.within).min(self.within);
                let first = hello(self.client, self.early, self.kill, deadline).await?;
                given.first = Some(first);
            }
            // It takes more than reading: see `terminate.rs`.
            Need::Tls(_) => return Err(CloseReason::Internal.into()),
            Need::Request => {
                let deadline = (Instant::now() + REQUEST_TIMEOUT).min(self.within);
                given.request = Some(self.request(deadline).await?);
            }
        }
        Ok(())
    }

    /// The request's head; `None` when what came is none.
    async fn request(&mut self, deadline: Instant) -> Result<Option<Request>, Ended> {
        loop {
            match self.early.look(|bytes, _| sniff::http_head(bytes)) {
                Head::Whole(request, _) => return Ok(Some(request)),
                Head::Not => return Ok(None),
                Head::Bad => return Err(CloseReason::RequestInvalid.into()),
                Head::More => {}
            }
            if is_at_end(self.early, REQUEST_HEAD_BYTES_MAX) {
                return Ok(None);
            }
            let most = REQUEST_HEAD_BYTES_MAX;
            if !more(self.client, self.early, self.kill, most, deadline).await? {
                return Err(CloseReason::RequestTimeout.into());
            }
        }
    }
}

/// What the first bytes of a client are. Silence is an answer: then they are whatever came so far. Also for who
/// must know before anything is routed; whoever asks again is answered from what was read.
///
/// Who asks PostgreSQL's way for encryption more often than a client does is not answered any more: what it asks
/// then is its upstream's to answer, and one that asks for ever would be answered for ever.
///
/// # Errors
/// The client is gone, or somebody ended the connection.
pub(crate) async fn hello<C: AsyncRead + AsyncWrite + Unpin>(
    client: &mut C,
    early: &Early<'_>,
    kill: &KillSwitch,
    deadline: Instant,
) -> Result<First, Ended> {
    let (mut over, mut answers) = (false, 0);
    loop {
        let asked = early.asked();
        match early.look(|bytes, ended| sniff::look(bytes, ended || over, asked)) {
            Looked::Found(first) => return Ok(first),
            Looked::Answer { .. } if answers >= ENCRYPTION_ANSWERS_MAX => {
                return Ok(First {
                    protocol: Protocol::Postgres,
                    ..First::default()
                });
            }
            Looked::Answer { taken, say, then } if taken > 0 => {
                answers += 1;
                answer(client, early, kill, (say, deadline)).await?;
                early.answered(taken, then);
            }
            Looked::Answer { .. } | Looked::More if over => return Ok(First::default()),
            Looked::Answer { .. } | Looked::More => {
                over = !more(client, early, kill, FIRST_BYTES_MAX, deadline).await?;
            }
        }
    }
}

fn is_at_end(early: &Early<'_>, most: usize) -> bool {
    early.look(|bytes, ended| ended || bytes.len() >= most)
}

/// Reads more, up to so many bytes in all. `false`: there is no more, or not in time.
async fn more<C: AsyncRead + Unpin>(
    client: &mut C,
    early: &Early<'_>,
    kill: &KillSwitch,
    most: usize,
    deadline: Instant,
) -> Result<bool, Ended> {
    if is_at_end(early, most) {
        return Ok(false);
    }
    // The kill goes first, as in every wait; bytes that are there go before the end of the time.
    tokio::select! {
        biased;
        () = kill.killed() => Err(killed(kill, false)),
        read = poll_fn(|cx| early.poll_read(cx, client, most)) => match read {
            Ok(()) => Ok(true),
            Err(error) => Err(failed(CloseReason::ClientReset, &error)),
        },
        () = tokio::time::sleep_until(deadline) => Ok(false),
    }
}

/// Says a byte or two, by a time, to a client that waits for them.
async fn answer<C: AsyncWrite + Unpin>(
    client: &mut C,
    early: &Early<'_>,
    kill: &KillSwitch,
    (say, deadline): (&[u8], Instant),
) -> Result<(), Ended> {
    let said = async {
        client.write_all(say).await?;
        client.flush().await
    };
    tokio::select! {
        biased;
        () = kill.killed() => Err(killed(kill, false)),
        said = said => match said {
            Ok(()) => {
                early.counters().add(Side::Upstream, say.len() as u64);
                Ok(())
            }
            Err(error) => Err(failed(CloseReason::ClientReset, &error)),
        },
        () = tokio::time::sleep_until(deadline) => Err(CloseReason::EstablishTimeout.into()),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_net::{Counters, TcpConn};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What a need comes to for a client that says this and then nothing, and how long that took. The clock
    /// goes on by itself when nothing else can.
    async fn needs(need: Need, says: &[u8], within: Duration) -> (Result<Given, Ended>, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("address");
        let mut outside = TcpStream::connect(at).await.expect("connected");
        let (inside, _) = listener.accept().await.expect("accepted");
        outside.write_all(says).await.expect("write");
        let (mut client, counters) = (ClientIo::Plain(TcpConn::new(inside)), Counters::new());
        let (early, kill, accepted) =
            (Early::new(&counters), KillSwitch::default(), Instant::now());
        let mut waiting = Waiting {
            client: &mut client,
            early: &early,
            kill: &kill,
            began: accepted,
            within: accepted + within,
        };
        let mut given = Given::default();
        let got = waiting.get(need, &mut given).await;
        (got.map(|()| given), accepted.elapsed())
    }

    /// Asking for encryption is answered as often as a client asks: once for GSSAPI, once for TLS.
    #[tokio::test(start_paused = true)]
    async fn who_asks_for_encryption_again_and_again_is_answered_twice_and_speaks_postgresql() {
        const ASKS_GSSAPI: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
        const ASKS_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("address");
        let mut outside = TcpStream::connect(at).await.expect("connected");
        let (inside, _) = listener.accept().await.expect("accepted");
        let asks = [&ASKS_GSSAPI[..], &ASKS_TLS.repeat(100)].concat();
        outside.write_all(&asks).await.expect("write");
        let (mut client, counters) = (ClientIo::Plain(TcpConn::new(inside)), Counters::new());
        let (early, kill, accepted) =
            (Early::new(&counters), KillSwitch::default(), Instant::now());
        let mut waiting = Waiting {
            client: &mut client,
            early: &early,
            kill: &kill,
            began: accepted,
            within: accepted + MINUTE,
        };
        let mut given = Given::default();
        let wait = Duration::from_secs(1);
        let got = waiting.get(Need::First { wait }, &mut given).await;
        got.expect("an answer");
        assert_eq!(given.first.expect("given").protocol, Protocol::Postgres);
        assert_eq!(accepted.elapsed(), Duration::ZERO, "nothing is waited for");
        // What was not answered is there for the upstream.
        let left = early.look(|bytes, _| bytes.to_vec());
        assert_eq!(left, ASKS_TLS.repeat(99));
        drop(client);
        let mut heard = Vec::new();
        // A reset may follow: not all that it said was read.
        drop(outside.read_to_end(&mut heard).await);
        assert_eq!(heard, b"NS");
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_ends_the_connection_after_its_time() {
        for says in [&b""[..], b"GET / HTTP/1.1\r\nHost:"] {
            let (got, after) = needs(Need::Request, says, MINUTE).await;
            let reason = got.map_err(|ended| ended.reason);
            assert_eq!(reason, Err(CloseReason::RequestTimeout));
            assert_eq!(after, REQUEST_TIMEOUT);
        }
        let (got, after) = needs(Need::Request, b"", Duration::from_secs(2)).await;
        assert_eq!(
            got.map_err(|ended| ended.reason),
            Err(CloseReason::RequestTimeout)
        );
        assert_eq!(after, Duration::from_secs(2), "the establishment's own end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_request_is_known_at_once() {
        let (got, after) = needs(Need::Request, b"SSH-2.0-x\r\n", MINUTE).await;
        assert_eq!(got.expect("an answer").request, Some(None));
        assert_eq!(after, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_cannot_be_read_ends_the_connection() {
        let long = [b"GET /".to_vec(), vec![b'x'; REQUEST_HEAD_BYTES_MAX]].concat();
        for says in [&b"GET  / HTTP/1.1\r\n\r\n"[..], &long] {
            let (got, _) = needs(Need::Request, says, MINUTE).await;
            let reason = got.map_err(|ended| ended.reason);
            assert_eq!(reason, Err(CloseReason::RequestInvalid));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_unknown_when_the_rules_time_is_over() {
        let wait = Duration::from_secs(1);
        let (got, after) = needs(Need::First { wait }, b"", MINUTE).await;
        let first = got.expect("an answer").first.expect("given");
        assert_eq!(first.protocol, Protocol::Unknown);
        assert_eq!(after, wait);
        let forever = Need::First {
            wait: Duration::MAX,
        };
        let (got, after) = needs(forever, b"", MINUTE).await;
        assert!(got.is_ok());
        assert_eq!(after, MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_decide_are_not_waited_behind() {
        let wait = Duration::from_secs(1);
        let (got, after) = needs(Need::First { wait }, b"SSH-2.0-x\r\n", MINUTE).await;
        let first = got.expect("an answer").first.expect("given");
        assert_eq!(first.protocol, Protocol::Ssh);
        assert_eq!(after, Duration::ZERO);
    }
}
