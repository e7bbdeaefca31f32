//! The client's side, and every way in which it is told goodbye: FIN, RST, an answer of the policy's own, or
//! a long silence first.
//!
//! Must never: wait without a bound, or let a cut stream look complete.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use portcullis_net::{Counters, RelayIo as _, Side, TcpConn};
use portcullis_telemetry::close::Farewell;
use portcullis_telemetry::{CloseReason, Ended, KillSwitch};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::ClientIo;
use crate::connection::{failed, killed};
use crate::defaults::{
    EARLY_READ_BYTES, RESPOND_DRAIN_BYTES_MAX, RESPOND_DRAIN_TIMEOUT, RESPOND_TIMEOUT, TARPIT_MAX,
};

/// Why a connection is not established, and how the client is told.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) ended: Ended,
    pub(crate) parting: Parting,
}

/// How a client that is refused is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parting {
    /// As the reason has it.
    Reason,
    /// With RST, whatever the reason has.
    Reset,
    /// Not at once: after so long, of which no more than [`TARPIT_MAX`] is kept.
    Tarpit(Duration),
    /// With these bytes, and FIN behind them.
    Say(Arc<[u8]>),
    /// With FIN behind what it has been told (an alert), which a reset could take away; then as the reason has it.
    Finish,
}

impl From<Ended> for Refused {
    fn from(ended: Ended) -> Self {
        Self {
            ended,
            parting: Parting::Reason,
        }
    }
}

impl From<CloseReason> for Refused {
    fn from(reason: CloseReason) -> Self {
        Ended::from(reason).into()
    }
}

/// What bounds a parting from outside.
pub(crate) struct Bounds<'a> {
    pub(crate) kill: &'a KillSwitch,
    pub(crate) counters: &'a Counters,
    /// Places of clients that are kept waiting.
    pub(crate) tarpits: &'a Semaphore,
    /// A node that stops keeps nobody waiting.
    pub(crate) draining: &'a CancellationToken,
}

/// The client's side. Dropped without a farewell (a panic, a task that was cut off) it is reset: such
/// a stream must not look complete.
pub(crate) struct Client {
    pub(crate) conn: ClientIo,
    told: bool,
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            conn: ClientIo::Plain(TcpConn::new(stream)),
            told: false,
        }
    }

    /// Closes it as the reason has it.
    pub(crate) fn farewell(mut self, ended: &Ended) {
        self.told = true;
        match ended.reason {
            // The relay has shut it down, after the last byte.
            CloseReason::ClientFinished | CloseReason::UpstreamFinished => {}
            reason => match reason.farewell() {
                Farewell::Reset => self.conn.reset(),
                Farewell::Fin => {
                    // A socket is shut down at once. An error means that the client has gone: there is
                    // nobody to say goodbye to.
                    let mut cx = Context::from_waker(Waker::noop());
                    drop(pin!(&mut self.conn).poll_shutdown(&mut cx));
                }
            },
        }
    }

    /// Closes it in mid-stream.
    pub(crate) fn cut(mut self) {
        self.told = true;
        self.conn.reset();
    }

    /// Closes it as the refusal has it. How it really ended: a client that goes before it has been told
    /// everything is its own reason.
    pub(crate) async fn part(mut self, refused: Refused, bounds: Bounds<'_>) -> Ended {
        let Refused { ended, parting } = refused;
        let ended = match parting {
            Parting::Reason => ended,
            Parting::Reset => {
                self.told = true;
                self.conn.reset();
                return ended;
            }
            Parting::Tarpit(hold) => {
                bounds.keep_waiting(hold).await;
                ended
            }
            Parting::Finish => {
                // How that ends changes nothing: the reason is there already.
                drop(Box::pin(self.say(&[], &bounds)).await);
                ended
            }
            // Boxed: hardly anybody is told anything, and everybody would make room for it.
            Parting::Say(bytes) => match Box::pin(self.say(&bytes, &bounds)).await {
                Ok(()) => ended,
                Err(instead) => instead,
            },
        };
        self.farewell(&ended);
        ended
    }

    /// Writes, ends, and reads on for a moment: what a client sent and nobody read would make the kernel
    /// reset the connection, and a reset takes away what the client has not read yet.
    async fn say(&mut self, bytes: &[u8], bounds: &Bounds<'_>) -> Result<(), Ended> {
        let (kill, conn) = (bounds.kill, &mut self.conn);
        let told = async {
            conn.write_all(bytes).await?;
            bounds.counters.add(Side::Upstream, bytes.len() as u64);
            conn.shutdown().await
        };
        tokio::select! {
            biased;
            () = kill.killed() => return Err(killed(kill, false)),
            told = told => told.map_err(|error| failed(CloseReason::ClientReset, &error))?,
            () = sleep(RESPOND_TIMEOUT) => {
                let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(failed(CloseReason::ClientFailed, &late));
            }
        }
        let drained = timeout(RESPOND_DRAIN_TIMEOUT, self.drain(bounds.counters));
        tokio::select! {
            biased;
            () = kill.killed() => Err(killed(kill, false)),
            // It has been told: whether it listened to the end is not known either way.
            _ = drained => Ok(()),
        }
    }

    /// Reads and forgets, until the client ends or has said more than it may.
    async fn drain(&mut self, counters: &Counters) {
        let (mut chunk, mut drained) = ([0; EARLY_READ_BYTES], 0);
        while drained < RESPOND_DRAIN_BYTES_MAX {
            match self.conn.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    drained += read;
                    counters.add(Side::Client, read as u64);
                }
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.told {
            self.conn.reset();
        }
    }
}

impl Bounds<'_> {
    /// Lets the time pass, within the server's bound and only while there are not too many others.
    async fn keep_waiting(&self, hold: Duration) {
        let Ok(_place) = self.tarpits.try_acquire() else {
            return;
        };
        tokio::select! {
            biased;
            () = self.kill.killed() => {}
            () = self.draining.cancelled() => {}
            () = sleep(hold.min(TARPIT_MAX)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    struct Ground {
        kill: KillSwitch,
        counters: Counters,
        tarpits: Semaphore,
        draining: CancellationToken,
    }

    impl Ground {
        fn with(tarpits: usize) -> Self {
            Self {
                kill: KillSwitch::default(),
                counters: Counters::new(),
                tarpits: Semaphore::new(tarpits),
                draining: CancellationToken::new(),
            }
        }

        fn bounds(&self) -> Bounds<'_> {
            Bounds {
                kill: &self.kill,
                counters: &self.counters,
                tarpits: &self.tarpits,
                draining: &self.draining,
            }
        }
    }

    fn refused(reason: CloseReason, parting: Parting) -> Refused {
        Refused {
            ended: reason.into(),
            parting,
        }
    }

    async fn pair() -> (TcpStream, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("address");
        let outside = TcpStream::connect(at).await.expect("connected");
        let (inside, _) = listener.accept().await.expect("accepted");
        (outside, Client::new(inside))
    }

    #[tokio::test]
    async fn an_answer_reaches_a_client_that_is_still_talking() {
        let (mut outside, client) = pair().await;
        let ground = Ground::with(1);
        let bytes: Arc<[u8]> = Arc::from(&b"no"[..]);
        let answer = refused(CloseReason::PolicyResponded, Parting::Say(bytes));
        let talk = async {
            outside.write_all(&[b'x'; 200_000]).await.expect("write");
            let mut heard = Vec::new();
            outside.read_to_end(&mut heard).await.expect("a clean end");
            drop(outside);
            heard
        };
        let (ended, heard) = tokio::join!(client.part(answer, ground.bounds()), talk);
        assert_eq!(ended.reason, CloseReason::PolicyResponded);
        assert_eq!(heard, b"no");
        assert_eq!(ground.counters.from(Side::Upstream), 2);
        assert_eq!(ground.counters.from(Side::Client), 200_000);
    }

    #[tokio::test]
    async fn who_is_ended_while_it_is_answered_is_reset() {
        let (mut outside, client) = pair().await;
        let ground = Ground::with(1);
        ground.kill.kill(CloseReason::EndedByOperator);
        let bytes: Arc<[u8]> = Arc::from(&b"no"[..]);
        let answer = refused(CloseReason::PolicyResponded, Parting::Say(bytes));
        let ended = client.part(answer, ground.bounds()).await;
        assert_eq!(ended.reason, CloseReason::EndedByOperator);
        let error = outside.read(&mut [0]).await.expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tarpit_is_bounded_in_time_and_in_number() {
        let ground = Ground::with(1);
        let began = tokio::time::Instant::now();
        ground.bounds().keep_waiting(Duration::MAX).await;
        assert_eq!(began.elapsed(), TARPIT_MAX);
        let _all = ground.tarpits.acquire().await.expect("open");
        ground.bounds().keep_waiting(Duration::MAX).await;
        assert_eq!(began.elapsed(), TARPIT_MAX, "there is no place: at once");
    }

    #[tokio::test]
    async fn a_tarpit_ends_with_its_node() {
        let ground = Ground::with(1);
        ground.draining.cancel();
        ground.bounds().keep_waiting(Duration::MAX).await;
        let ground = Ground::with(1);
        ground.kill.kill(CloseReason::Drained);
        ground.bounds().keep_waiting(Duration::MAX).await;
    }
}
