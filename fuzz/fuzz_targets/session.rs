//! Both session machines against a peer that sends any bytes at any time. They never panic, close once,
//! say nothing afterwards, and always have a deadline while they live.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use portcullis_model::{AgentId, Secret};
use portcullis_proto::defaults::VERSIONS;
use portcullis_proto::message::{Bind, Hello};
use portcullis_proto::session::{Action, AgentSettings, EdgeSettings};
use portcullis_proto::{AgentMachine, Decoder, EdgeMachine, FirstMessage};

fn hello() -> Hello {
    Hello {
        versions: VERSIONS,
        authtoken: Secret::new(String::new()),
        agent_id: AgentId::new(1_700_000_000, [4; 16]),
        agent_secret: Secret::new(String::new()),
        generation: 1,
        agent_version: String::new(),
        os: String::new(),
        arch: String::new(),
        hostname: String::new(),
        metadata: String::new(),
        heartbeat_interval_ms: 10_000,
        heartbeat_tolerance_ms: 15_000,
        remote_management: false,
        carriers: true,
    }
}

/// Whether the session is over; `Close` must come last and only once.
fn check<M, E>(actions: &[Action<M, E>]) -> bool {
    let closes = actions
        .iter()
        .filter(|action| matches!(action, Action::Close(_)))
        .count();
    assert!(closes <= 1);
    assert!(closes == 0 || matches!(actions.last(), Some(Action::Close(_))));
    closes == 1
}

fn agent(data: &[u8]) {
    let mut machine = AgentMachine::new(Duration::ZERO, AgentSettings::of(&hello()));
    let mut decoder = Decoder::new();
    let mut now = Duration::ZERO;
    for (turn, mut part) in data.chunks(64).enumerate() {
        now += Duration::from_millis(u64::from(part[0]) * 100);
        let mut over = check(&machine.handle_timeout(now));
        if turn % 3 == 0
            && let Ok((_, actions)) = machine.bind(now, Bind::default())
        {
            over |= check(&actions);
        }
        while !over {
            over = match decoder.next(&mut part) {
                Ok(Some(message)) => check(&machine.handle_message(now, message)),
                Ok(None) => break,
                Err(error) => check(&machine.handle_undecodable(error)),
            };
        }
        assert_eq!(over, machine.is_closed());
        assert_eq!(over, machine.next_deadline().is_none());
        if over {
            assert!(machine.handle_timeout(now).is_empty() && machine.goodbye("").is_empty());
            return;
        }
    }
}

fn edge(data: &[u8]) {
    let mut part = data;
    let mut decoder = Decoder::new();
    let first = decoder.next::<FirstMessage>(&mut part);
    let hello = match first {
        Ok(Some(FirstMessage::Hello(theirs))) => theirs,
        _ => hello(),
    };
    let Ok(mut machine) = EdgeMachine::accept(Duration::ZERO, &hello, EdgeSettings::default())
    else {
        return;
    };
    machine.welcome(Duration::ZERO, spec());
    let mut decoder = Decoder::new();
    let mut now = Duration::ZERO;
    for mut part in data.chunks(64) {
        now += Duration::from_millis(u64::from(part[0]) * 100);
        let mut over = check(&machine.handle_timeout(now));
        while !over {
            over = match decoder.next(&mut part) {
                Ok(Some(message)) => check(&machine.handle_message(now, message)),
                Ok(None) => break,
                Err(error) => check(&machine.handle_undecodable(error)),
            };
        }
        assert_eq!(over, machine.is_closed());
        assert_eq!(over, machine.next_deadline().is_none());
        if over {
            assert!(machine.handle_timeout(now).is_empty());
            return;
        }
    }
}

fn spec() -> portcullis_proto::session::WelcomeSpec {
    portcullis_proto::session::WelcomeSpec {
        session_id: portcullis_model::SessionId::new(1_700_000_000, [1; 16]),
        session_key: portcullis_proto::SessionKey::new([2; 32]),
        node: String::new(),
        region: String::new(),
        account: portcullis_model::AccountId::new(1_700_000_000, [3; 16]),
        server_version: String::new(),
        channels_idle_min: 1,
        carriers: 2,
        plain_links: false,
        public_host: String::new(),
    }
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((side, rest)) if side % 2 == 0 => agent(rest),
        Some((_, rest)) => edge(rest),
        None => {}
    }
});
