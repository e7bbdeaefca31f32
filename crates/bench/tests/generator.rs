//! The load generator and the delay relay, against each other on loopback. What takes at least so long is
//! asserted; how fast anything is, is not.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use portcullis_bench::delay::{self, Link};
use portcullis_bench::load::{self, Direction, ECHO, Job, Outcome, Work, backend};

const LONG: Duration = Duration::from_millis(40);
/// Ten times what anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A backend on a thread that ends with the process.
fn a_backend() -> SocketAddr {
    started(backend::serve)
}

fn a_link(to: SocketAddr, round_trip: Duration, rate: Option<u64>) -> SocketAddr {
    let link = Link {
        listen: None,
        to,
        round_trip,
        rate,
    };
    started(move |tell| delay::serve(link, tell))
}

type Tell = Box<dyn FnOnce(SocketAddr) + Send>;

fn started(serve: impl FnOnce(Tell) -> anyhow::Result<()> + Send + 'static) -> SocketAddr {
    let (told, wait) = mpsc::channel();
    let tell: Tell = Box::new(move |addr| told.send(addr).expect("somebody waits"));
    std::thread::spawn(move || serve(tell).expect("it serves until the process ends"));
    wait.recv_timeout(PATIENCE).expect("it listens")
}

fn measured(to: SocketAddr, backend: SocketAddr, work: Work) -> Outcome {
    let job = Job {
        work,
        to,
        backend,
        warm: Duration::from_millis(50),
        time: Duration::from_millis(150),
        pids: vec![],
        known: vec![],
    };
    load::run(&job).expect("something is measured")
}

#[test]
fn every_kind_of_work_counts_something_and_fails_nowhere() {
    let backend = a_backend();
    for work in [
        Work::Bulk {
            streams: 2,
            direction: Direction::Up,
        },
        Work::Bulk {
            streams: 2,
            direction: Direction::Down,
        },
        Work::Connections { at_once: 8 },
        Work::Bursts {
            at_once: 8,
            pause: Duration::from_millis(5),
        },
        Work::RoundTrips { at_once: 8 },
    ] {
        let outcome = measured(backend, backend, work);
        assert!(outcome.operations > 0, "{work:?}: {outcome:?}");
        assert_eq!((outcome.errors, outcome.stuck), (0, 0), "{work:?}");
        assert!(outcome.p50 <= outcome.p99 && outcome.p99 <= outcome.max);
    }
}

#[test]
fn bytes_count_where_they_arrive() {
    let backend = a_backend();
    // Far more fits into sockets and the relay than crosses this link in the time.
    let slow = a_link(backend, LONG, Some(100_000_000));
    let up = Work::Bulk {
        streams: 1,
        direction: Direction::Up,
    };
    let outcome = measured(slow, backend, up);
    let crossed = outcome.seconds * 100_000_000.0 / 8.0;
    // The relay hands on chunks of 256 KiB at most; at either end of the time one may count whole.
    let most = crossed + 512.0 * 1024.0;
    assert!((outcome.operations as f64) <= most, "{outcome:?}");
}

#[test]
fn nobody_there_is_an_error_and_not_a_figure() {
    let backend = a_backend();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = nobody.local_addr().unwrap();
    drop(nobody);
    let job = Job {
        work: Work::Connections { at_once: 2 },
        to: addr,
        backend,
        warm: Duration::from_millis(20),
        time: Duration::from_millis(50),
        pids: vec![],
        known: vec![],
    };
    assert!(load::run(&job).is_err());
}

#[test]
fn a_link_costs_a_round_trip_before_data_and_one_for_the_answer() {
    let backend = a_backend();
    let link = a_link(backend, LONG, None);
    let began = Instant::now();
    let mut stream = connected(link);
    let mut answer = [0];
    stream.write_all(&[ECHO]).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert!(began.elapsed() >= LONG * 2, "{:?}", began.elapsed());
    let again = Instant::now();
    stream.write_all(&[ECHO]).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert!(again.elapsed() >= LONG, "{:?}", again.elapsed());
}

#[test]
fn a_link_keeps_bytes_and_order_and_hands_the_end_on() {
    let backend = a_backend();
    let link = a_link(backend, LONG, None);
    let mut stream = connected(link);
    let bytes = portcullis_e2e::traffic::pattern(7, 3 << 20);
    // The first byte chooses the echo.
    let mut sent = vec![ECHO];
    sent.extend_from_slice(&bytes);
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
    });
    let mut answer = vec![0; sent.len()];
    stream.read_exact(&mut answer).unwrap();
    writing.join().unwrap();
    assert!(answer == sent);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut answer).unwrap(), 0);
}

#[test]
fn a_link_to_nobody_resets_its_clients() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = nobody.local_addr().unwrap();
    drop(nobody);
    let link = a_link(addr, LONG, None);
    let mut stream = connected(link);
    stream.write_all(&[ECHO]).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

fn connected(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("it listens");
    let set = stream.set_read_timeout(Some(PATIENCE));
    set.expect("a timeout that is not zero");
    stream
}
