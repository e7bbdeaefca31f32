//! Each check can fail: relays with one fault each, and exactly the cases that fail with them.

#[path = "support/relay.rs"]
mod relay;

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_conformance::{Options, Verdict, run};
use relay::Fault;

/// A relay with one fault, and how it does in the whole suite.
struct Expected {
    fault: Fault,
    /// These cases fail.
    must: &'static [&'static str],
    /// These may, as it falls.
    may: &'static [&'static str],
}

const EXPECTED: &[Expected] = &[
    Expected {
        fault: Fault::None,
        must: &[],
        may: &[],
    },
    Expected {
        fault: Fault::DropsHalfClose,
        must: &[
            "half-close-client",
            "half-close-target",
            "half-close-client-late-reply",
            "half-close-target-late-bytes",
            "reset-client-after-its-fin",
            "reset-target-after-its-fin",
            "reset-client-after-target-fin",
            "reset-target-after-client-fin",
            "clogged-client-ends",
            "clogged-target-ends",
        ],
        // Where both ends finish at a time, the later end may be in time.
        may: &["simultaneous-close"],
    },
    Expected {
        fault: Fault::ResetBecomesEnd,
        // Not those clogged both ways: a relay that closes with unread bytes makes its kernel send RST.
        must: &[
            "client-resets-before-accept",
            "reset-client",
            "reset-target",
            "reset-client-in-stream",
            "reset-target-in-stream",
            "reset-client-undelivered",
            "reset-target-undelivered",
            "reset-client-before-bytes",
            "reset-target-before-bytes",
            "reset-client-after-its-fin",
            "reset-target-after-its-fin",
            "reset-client-after-target-fin",
            "reset-target-after-client-fin",
            "clogged-one-way-client-resets",
            "clogged-one-way-target-resets",
        ],
        may: &[],
    },
    Expected {
        fault: Fault::Truncates,
        // All in which bytes stand right before an end.
        must: &[
            "upstream-accepts-late",
            "client-ends-before-accept",
            "half-close-client",
            "half-close-target",
            "half-close-client-late-reply",
            "half-close-target-late-bytes",
            "simultaneous-close",
            "reset-client-after-its-fin",
            "reset-target-after-its-fin",
            "reset-client-after-target-fin",
            "reset-target-after-client-fin",
            "clogged-client-ends",
            "clogged-target-ends",
            "urgent-close-client",
            "urgent-close-target",
            "urgent-close-many",
            "last-words",
            "out-of-band-byte",
            "out-of-band-in-bulk",
            "stalled-reader",
        ],
        may: &[],
    },
    Expected {
        fault: Fault::MixesConnections,
        must: &["isolation-under-resets"],
        may: &[],
    },
    Expected {
        fault: Fault::BuffersWithoutBound,
        must: &[
            "clogged-client-ends",
            "clogged-target-ends",
            "clogged-client-resets",
            "clogged-target-resets",
            "clogged-client-closes",
            "clogged-target-closes",
            "clogged-one-way-client-resets",
            "clogged-one-way-target-resets",
            "stalled-reader",
        ],
        may: &[],
    },
    Expected {
        fault: Fault::LooksOnlyWhenItReads,
        must: &[
            "reset-client-after-its-fin",
            "reset-target-after-its-fin",
            "clogged-one-way-client-resets",
            "clogged-one-way-target-resets",
        ],
        may: &[],
    },
];

// One test for all: they mostly wait, and cargo runs only as many tests at a time as there are cores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_fails_exactly_its_cases() {
    let mut running = tokio::task::JoinSet::new();
    for expected in EXPECTED {
        running.spawn(surprises(expected));
    }
    let surprises: Vec<_> = running.join_all().await.into_iter().flatten().collect();
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_proxy_nothing_fails() {
    let options = Options {
        quick: true,
        ..Options::direct()
    };
    let report = run(&options, |_| {}).await.expect("the run begins");
    assert!(report.passed(), "{}", report.table());
    assert_eq!(
        report.names(Verdict::NotApplicable),
        [
            "half-close-trickle",
            "half-close-silent",
            "close-with-unread"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_of_the_processes_is_looked_at() {
    let options = Options {
        only: vec!["stalled-reader".to_owned()],
        pids: vec![std::process::id()],
        ..options(Fault::BuffersWithoutBound).await
    };
    let report = run(&options, |_| {}).await.expect("the run begins");
    let table = report.table();
    assert!(table.contains("the proxy's memory grew by"), "{table}");
}

#[tokio::test]
async fn a_proxy_that_forwards_nothing_is_said_to() {
    let options = Options {
        patience: Duration::from_secs(1),
        ..Options::new(free().await, free().await)
    };
    let error = run(&options, |_| {}).await.expect_err("nothing listens");
    assert!(error.to_string().contains("nothing goes from"), "{error}");
}

/// What was not as expected, with the whole table.
async fn surprises(expected: &Expected) -> Option<String> {
    let Expected { fault, must, may } = expected;
    let mut options = options(*fault).await;
    if *fault == Fault::BuffersWithoutBound {
        // The sooner it is found the better; the kernel's buffers of this way hold less.
        options.stalled_bytes_max = 100 << 20;
    }
    let report = run(&options, |_| {}).await.expect("the run begins");
    let failed = report.names(Verdict::Fail);
    let missing: Vec<_> = must.iter().filter(|name| !failed.contains(name)).collect();
    let beyond: Vec<_> = failed
        .iter()
        .filter(|name| !must.contains(name) && !may.contains(name))
        .collect();
    (!missing.is_empty() || !beyond.is_empty()).then(|| {
        format!(
            "{fault:?} should have failed: {missing:?}; should have passed: {beyond:?}\n{}",
            report.table()
        )
    })
}

async fn options(fault: Fault) -> Options {
    let target = free().await;
    let listen = relay::start(target, fault).await;
    Options {
        name: format!("{fault:?}"),
        quick: true,
        patience: Duration::from_secs(3),
        ..Options::new(listen, target)
    }
}

async fn free() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    listener.local_addr().expect("bound")
}
