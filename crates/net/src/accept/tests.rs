//! Silent peers, floods, resets in the queue, and errors of `accept` in their order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::testing::{soon, tcp_pair};

/// Counts what it hears.
#[derive(Default)]
struct Count {
    accepted: AtomicUsize,
    shed: AtomicUsize,
    peer_errors: AtomicUsize,
    pauses: std::sync::Mutex<Vec<Duration>>,
}

impl AcceptObserver for Count {
    fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }
    fn shed(&self) {
        self.shed.fetch_add(1, Ordering::Relaxed);
    }
    fn peer_error(&self, _error: &io::Error) {
        self.peer_errors.fetch_add(1, Ordering::Relaxed);
    }
    fn backoff(&self, _error: &io::Error, pause: Duration) {
        self.pauses.lock().unwrap().push(pause);
    }
}

type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

struct Loop {
    addr: SocketAddr,
    count: Arc<Count>,
    shutdown: CancellationToken,
    accepted: mpsc::Receiver<Accepted>,
    end: tokio::task::JoinHandle<io::Result<()>>,
}

async fn start(permits: usize) -> Loop {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (count, shutdown) = (Arc::new(Count::default()), CancellationToken::new());
    let options = AcceptOptions {
        permits: Arc::new(Semaphore::new(permits)),
        shutdown: shutdown.clone(),
        observer: Arc::clone(&count) as Arc<dyn AcceptObserver>,
    };
    let (send, accepted) = mpsc::channel(1000);
    let end = crate::task::spawn(
        "accept",
        run(listener, options, move |stream, peer, permit| {
            send.try_send((stream, peer, permit)).unwrap();
        }),
    );
    Loop {
        addr,
        count,
        shutdown,
        accepted,
        end,
    }
}

#[tokio::test]
async fn silent_peers_hold_up_nobody() {
    let mut under_test = start(100).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(under_test.addr).await.unwrap());
    }
    let talker = TcpStream::connect(under_test.addr).await.unwrap();
    let mut held = Vec::new();
    loop {
        let accepted = soon("every connection", under_test.accepted.recv())
            .await
            .unwrap();
        let ours = accepted.1 == talker.local_addr().unwrap();
        held.push(accepted);
        if ours {
            break;
        }
    }
    assert_eq!(held.len(), 51);
}

#[tokio::test]
async fn flood_over_the_cap_is_reset_and_counted() {
    let mut under_test = start(3).await;
    let (mut open, mut reset) = (Vec::new(), 0);
    for _ in 0..20 {
        match TcpStream::connect(under_test.addr).await {
            Ok(stream) => open.push(stream),
            // So quick that the handshake's end already finds the reset.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => reset += 1,
            Err(error) => panic!("{error}"),
        }
    }
    let held: Vec<_> = [
        under_test.accepted.recv().await.unwrap(),
        under_test.accepted.recv().await.unwrap(),
        under_test.accepted.recv().await.unwrap(),
    ]
    .into();
    for stream in &mut open[3..] {
        let read = soon("a reset", stream.read(&mut [0; 1])).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        reset += 1;
    }
    assert_eq!(
        (reset, under_test.count.shed.load(Ordering::Relaxed)),
        (17, 17)
    );
    assert_eq!(under_test.count.accepted.load(Ordering::Relaxed), 3);
    drop(held);
    let _next = TcpStream::connect(under_test.addr).await.unwrap();
    drop(
        soon("a permit came back", under_test.accepted.recv())
            .await
            .unwrap(),
    );
}

#[tokio::test]
async fn reset_in_the_backlog_hurts_nobody_else() {
    let listener = crate::listen::listen(
        "127.0.0.1:0".parse().unwrap(),
        crate::listen::ListenOptions::default(),
    );
    let listener = listener.unwrap();
    let addr = listener.local_addr().unwrap();
    for _ in 0..10 {
        let stream = TcpStream::connect(addr).await.unwrap();
        reset_on_drop(&stream);
    }
    let survivor = TcpStream::connect(addr).await.unwrap();
    let ours = survivor.local_addr().unwrap();
    let (send, mut accepted) = mpsc::channel(1000);
    let options = AcceptOptions {
        permits: Arc::new(Semaphore::new(100)),
        shutdown: CancellationToken::new(),
        observer: Arc::new(()),
    };
    let end = crate::task::spawn(
        "accept",
        run(listener, options.clone(), move |_, peer, _| {
            send.try_send(peer).unwrap();
        }),
    );
    while soon("the survivor", accepted.recv()).await.unwrap() != ours {}
    options.shutdown.cancel();
    soon("shutdown", end).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_closes_the_listener() {
    let under_test = start(1).await;
    under_test.shutdown.cancel();
    soon("the loop's end", under_test.end)
        .await
        .unwrap()
        .unwrap();
    let refused = TcpStream::connect(under_test.addr).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

/// To its client a connection in the queue is established: closing the listener would reset it.
#[tokio::test]
async fn shutdown_hands_on_what_waits() {
    let mut under_test = start(10).await;
    // Without a turn of the runtime, so that the loop has not heard of them.
    let waiting: Vec<_> = (0..5)
        .map(|_| std::net::TcpStream::connect(under_test.addr).unwrap())
        .collect();
    under_test.shutdown.cancel();
    soon("the loop's end", under_test.end)
        .await
        .unwrap()
        .unwrap();
    for client in &waiting {
        let (_, peer, _) = soon("a connection", under_test.accepted.recv())
            .await
            .unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }
}

/// Gives the errors of a list, then one connection, then nothing.
struct Script {
    errors: VecDeque<i32>,
    last: Option<(TcpStream, SocketAddr)>,
}

impl Source for Script {
    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        match self.errors.pop_front() {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => match self.last.take() {
                Some(last) => Ok(last),
                None => std::future::pending().await,
            },
        }
    }

    fn shed(&mut self) -> usize {
        1
    }

    fn rest(self) -> Vec<(TcpStream, SocketAddr)> {
        Vec::new()
    }
}

async fn run_script(errors: &[i32]) -> (Arc<Count>, io::Result<()>, Duration) {
    let (near, _far) = tcp_pair().await;
    let peer = near.peer_addr().unwrap();
    let script = Script {
        errors: errors.iter().copied().collect(),
        last: Some((near, peer)),
    };
    let (count, shutdown) = (Arc::new(Count::default()), CancellationToken::new());
    let options = AcceptOptions {
        permits: Arc::new(Semaphore::new(1)),
        shutdown: shutdown.clone(),
        observer: Arc::clone(&count) as Arc<dyn AcceptObserver>,
    };
    tokio::time::pause();
    let begun = Instant::now();
    let end = run_source(script, options, move |_, _, _| shutdown.cancel()).await;
    (count, end, begun.elapsed())
}

#[tokio::test]
async fn lack_of_descriptors_backs_off_and_recovers() {
    let (count, end, took) = run_script(&[libc::EMFILE; 6]).await;
    end.unwrap();
    let pauses = [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis);
    assert_eq!(*count.pauses.lock().unwrap(), pauses);
    assert!(
        took.as_millis().abs_diff(3500) < 20,
        "{took:?}: a timer is exact to a millisecond"
    );
    assert_eq!(count.accepted.load(Ordering::Relaxed), 1);
    assert_eq!(
        count.shed.load(Ordering::Relaxed),
        5,
        "the first pause sheds nobody"
    );
}

#[tokio::test]
async fn the_peers_faults_cost_no_pause() {
    let faults = [
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::EPERM,
        libc::ENETUNREACH,
        libc::ECONNRESET,
    ];
    let (count, end, took) = run_script(&faults).await;
    end.unwrap();
    assert_eq!(count.peer_errors.load(Ordering::Relaxed), faults.len());
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test]
async fn a_dead_listener_ends_the_loop() {
    let (_, end, _) = run_script(&[libc::EINVAL]).await;
    assert_eq!(end.unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

/// The real thing: a child process of this test lowers its limit, is flooded, and must go on when
/// descriptors come back. It runs alone, because the limit is the process's.
#[test]
fn out_of_descriptors_goes_on_when_they_come_back() {
    const CHILD: &str = "PORTCULLIS_TEST_EMFILE_CHILD";
    let is_child = std::env::var_os(CHILD).is_some();
    if is_child {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(exhaust());
        return;
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "accept::tests::out_of_descriptors_goes_on_when_they_come_back",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

async fn exhaust() {
    use std::os::fd::AsRawFd as _;

    use nix::sys::resource::{Resource, setrlimit};
    let mut under_test = start(100).await;
    let mut client = TcpStream::connect(under_test.addr).await.unwrap();
    let held = soon("first", under_test.accepted.recv()).await.unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // The limit is one above the highest descriptor; files fill the holes below it.
    let limit = u64::try_from(socket.as_raw_fd()).unwrap() + 8;
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).unwrap();
    let _filler: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    let mut waiting = socket.connect(under_test.addr).await.unwrap();
    let shed = soon("its reset", waiting.read(&mut [0; 1])).await;
    assert_eq!(shed.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(under_test.count.pauses.lock().unwrap().len() >= 2);
    assert_eq!(under_test.count.shed.load(Ordering::Relaxed), 1);
    drop((held, waiting));
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    let next = TcpStream::connect(under_test.addr).await.unwrap();
    let (_, peer, _) = soon("the next", under_test.accepted.recv()).await.unwrap();
    assert_eq!(peer, next.local_addr().unwrap());
}
