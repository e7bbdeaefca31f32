//! Tests of health checks: the written form, its bounds, and the machine.

use serde_json::json;

use super::*;

#[test]
fn a_word_is_a_check_with_every_default() {
    for word in [
        "tcp", "postgres", "mysql", "redis", "smtp", "ssh", "http", "tls",
    ] {
        let check = HealthCheck::read(&json!(word)).expect(word);
        assert_eq!(check.probe.as_str(), word);
        assert_eq!((check.interval, check.timeout), (INTERVAL, TIMEOUT));
        assert_eq!((check.rise, check.fall), (2, 3));
        assert_eq!(HealthCheck::read(&check.written()), Ok(check), "{word}");
    }
}

#[test]
fn maps_and_text_are_read_and_written_alike() {
    for written in [
        json!({"check": "http", "path": "/ready?x=1", "host": "a.example", "status": "204-299",
            "interval": "500ms", "timeout": "1s", "rise": 1, "fall": 1}),
        json!({"check": "expect", "send": "PING\r\n", "expect": "PONG", "interval": "1m",
            "timeout": "2s", "rise": 2, "fall": 3}),
        json!({"check": "expect", "expect_base64": "/wA=", "interval": "10s", "timeout": "2s",
            "rise": 2, "fall": 3}),
    ] {
        let check = HealthCheck::read(&written).expect("valid");
        assert_eq!(HealthCheck::read(&check.written()), Ok(check.clone()));
        let text = serde_json::to_string(&check).expect("plain data");
        assert_eq!(HealthCheck::read_text(&text), Ok(check.clone()));
        assert_eq!(serde_json::from_str::<HealthCheck>(&text).ok(), Some(check));
    }
    let check = HealthCheck::read_text("http:/healthz").expect("a path");
    assert_eq!(
        check.probe,
        Probe::Http {
            path: "/healthz".to_owned(),
            host: None,
            status: (200, 399)
        }
    );
    let one = HealthCheck::read(&json!({"check": "http", "status": 204})).expect("one status");
    assert!(matches!(
        one.probe,
        Probe::Http {
            status: (204, 204),
            ..
        }
    ));
}

#[test]
fn what_is_wrong_names_its_field() {
    for (written, field) in [
        (json!("ldap"), "check:"),
        (json!(3), "health:"),
        (json!({}), "check:"),
        (json!({"check": "tcp", "path": "/"}), "path:"),
        (json!({"check": "tcp", "interval": "1ms"}), "interval:"),
        (json!({"check": "tcp", "interval": "2h"}), "interval:"),
        (json!({"check": "tcp", "interval": "soon"}), "interval:"),
        (json!({"check": "tcp", "interval": "-10s"}), "interval:"),
        (json!({"check": "tcp", "timeout": "61s"}), "timeout:"),
        (json!({"check": "tcp", "timeout": 2}), "timeout:"),
        (json!({"check": "tcp", "rise": 0}), "rise:"),
        (json!({"check": "tcp", "fall": 101}), "fall:"),
        (json!({"check": "tcp", "fall": "three"}), "fall:"),
        (json!({"check": "expect"}), "expect:"),
        (json!({"check": "expect", "expect": ""}), "expect:"),
        (
            json!({"check": "expect", "expect_base64": "?"}),
            "expect_base64:",
        ),
        (
            json!({"check": "expect", "expect": "a", "expect_base64": "YQ=="}),
            "expect_base64:",
        ),
        (
            json!({"check": "expect", "expect": "a", "send": "x".repeat(5000)}),
            "send:",
        ),
        (json!({"check": "http", "path": "ready"}), "path:"),
        (json!({"check": "http", "path": "/a\r\nX: y"}), "path:"),
        (json!({"check": "http", "host": "a b"}), "host:"),
        (json!({"check": "http", "status": "399-200"}), "status:"),
        (json!({"check": "http", "status": 99}), "status:"),
        (json!({"check": "http", "status": "ok"}), "status:"),
    ] {
        let error = HealthCheck::read(&written).expect_err("wrong");
        assert_eq!(error.code, Code::HealthInvalid);
        assert!(error.message.starts_with(field), "{written}: {error}");
    }
    assert!(HealthCheck::read_text("{\"check\":").is_err());
    assert!(HealthCheck::read_text("http:ready").is_err());
    for (address, proposal) in [
        ("http://x/nope", "http:/nope"),
        ("https://x:8443/a/b?c", "http:/a/b?c"),
        ("http://x", "http:/"),
        ("http:///healthz", "http:/healthz"),
        ("http://x//y", "http:/y"),
    ] {
        let error = HealthCheck::read_text(address).expect_err("a host in it");
        assert_eq!(error.code, Code::HealthInvalid);
        let told = format!("write `{proposal}`");
        assert!(error.message.contains(&told), "{address}: {error}");
        assert!(HealthCheck::read_text(proposal).is_ok(), "{proposal}");
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1000)
}

fn bad() -> Result<(), Error> {
    Err(failure("tcp: refused"))
}

#[test]
fn the_first_answer_decides_and_then_it_takes_some_in_a_row() {
    let mut tracker = Tracker::new(&HealthCheck::new(Probe::Tcp));
    assert_eq!(tracker.health(), None);
    assert!(tracker.note(Ok(()), at(0)), "the first decides");
    assert!(!tracker.note(bad(), at(1)));
    assert!(tracker.health().is_some_and(Health::is_shaky));
    assert!(!tracker.note(bad(), at(2)));
    assert!(
        !tracker.note(Ok(()), at(3)),
        "a good one begins the count anew"
    );
    for second in 4..6 {
        assert!(!tracker.note(bad(), at(second)));
    }
    assert!(tracker.note(bad(), at(6)), "the third in a row");
    let health = tracker.health().expect("known").clone();
    assert_eq!((health.healthy, health.failures), (false, 3));
    assert_eq!((health.since, health.checked_at), (at(6), at(6)));
    assert_eq!(health.reason.expect("told").message, "tcp: refused");

    assert!(!tracker.note(Ok(()), at(7)));
    let health = tracker.health().expect("known");
    assert!(
        health.reason.is_some(),
        "until it is healthy it has a reason"
    );
    assert!(!tracker.note(bad(), at(8)));
    assert!(!tracker.note(Ok(()), at(9)));
    assert!(tracker.note(Ok(()), at(10)), "two in a row");
    let health = tracker.health().expect("known");
    assert_eq!((health.healthy, health.since), (true, at(10)));
    assert_eq!((health.reason.as_ref(), health.failures), (None, 0));
}

#[test]
fn a_first_answer_that_is_bad_makes_it_unhealthy_at_once() {
    let mut tracker = Tracker::new(&HealthCheck::new(Probe::Tcp));
    assert!(tracker.note(bad(), at(0)));
    assert!(tracker.health().is_some_and(|health| !health.healthy));
}

#[test]
fn a_reason_is_short_and_cannot_steer_a_terminal() {
    let error = failure(&format!("\x1b[2J{}é", "x".repeat(REASON_BYTES_MAX)));
    assert!(error.message.len() <= REASON_BYTES_MAX);
    assert!(!error.message.contains('\x1b'));
}
