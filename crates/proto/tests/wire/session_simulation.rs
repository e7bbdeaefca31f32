//! Sessions, both ends in virtual time: handshake, requests, heartbeats over good and bad networks,
//! stop, drain, goodbye, and peers that break the rules.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_model::{Code, Error};
use portcullis_proto::defaults::{
    HANDSHAKE_TIMEOUT, NEED_CHANNELS_MAX, REQUEST_TIMEOUT, REQUESTS_PENDING_MAX, STOP_TIMEOUT,
};
use portcullis_proto::message::{
    Bind, HealthReport, HeartbeatAck, NeedChannels, Unbound, Update, Updated,
};
use portcullis_proto::session::{
    Action, AgentEvent, AgentSettings, Cause, EdgeEvent, EdgeSettings, Ending, NotSent,
};
use portcullis_proto::{AgentMachine, AgentMessage, EdgeMachine, EdgeMessage, VersionRange, codec};

use crate::samples;
use crate::seeds::each_seed;
use crate::world::{Answer, DETECTION, End, MILLI, SECOND, World, welcome_spec};

fn ending(end: &Option<(Duration, End)>) -> &Ending {
    match end {
        Some((_, End::Closed(ending))) => ending,
        other => panic!("not ended by the machine: {other:?}"),
    }
}

#[test]
fn hello_and_welcome_establish_both_ends() {
    let mut world = World::new(20 * MILLI);
    world.run_for(100 * MILLI);
    let (at, event) = &world.agent_events[0];
    assert_eq!(*at, 40 * MILLI);
    let AgentEvent::Welcome(welcome) = event else {
        panic!("{event:?}")
    };
    assert_eq!(
        (welcome.version, welcome.heartbeat_interval_ms),
        (1, 10_000)
    );
    assert!(world.agent.is_established() && world.edge.is_established());
}

#[test]
fn the_newest_common_version_is_chosen() {
    let settings = EdgeSettings {
        versions: VersionRange { min: 1, max: 4 },
        ..EdgeSettings::default()
    };
    for (min, max, expected) in [(1, 1, 1), (2, 3, 3), (4, 9, 4), (3, 9, 4)] {
        let mut hello = samples::hello();
        hello.versions = VersionRange { min, max };
        let mut world = World::with(MILLI, &hello, settings).unwrap();
        assert_eq!(world.edge.version(), expected);
        world.run_for(SECOND);
        assert!(world.agent.is_established());
    }
}

#[test]
fn a_version_mismatch_is_refused_on_both_sides() {
    for (min, max) in [(2, 3), (0, 0), (3, 2), (1, 0)] {
        let mut hello = samples::hello();
        hello.versions = VersionRange { min, max };
        let error =
            EdgeMachine::accept(Duration::ZERO, &hello, EdgeSettings::default()).unwrap_err();
        assert_eq!(error.code, Code::VersionUnsupported);
    }
    // An edge that answers with a version that was not offered.
    let mut agent = AgentMachine::new(Duration::ZERO, AgentSettings::of(&samples::hello()));
    let mut welcome = samples::welcome();
    welcome.version = 2;
    let actions = agent.handle_message(SECOND, welcome.into());
    let [Action::Close(ending)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (ending.cause, ending.error.code, ending.retry),
        (Cause::Violation, Code::VersionUnsupported, false)
    );
}

#[test]
fn heartbeats_out_of_range_are_refused() {
    for (interval, tolerance) in [
        (999, 15_000),
        (300_001, 15_000),
        (10_000, 0),
        (10_000, u64::MAX),
    ] {
        let mut hello = samples::hello();
        (hello.heartbeat_interval_ms, hello.heartbeat_tolerance_ms) = (interval, tolerance);
        let error =
            EdgeMachine::accept(Duration::ZERO, &hello, EdgeSettings::default()).unwrap_err();
        assert_eq!(error.code, Code::HeartbeatInvalid);
    }
}

#[test]
fn a_refused_hello_ends_the_agent_with_code_and_retry() {
    for retry in [false, true] {
        let mut world = World::new(20 * MILLI);
        let actions = world.edge.fail(Error::of(Code::AuthtokenUnknown), retry);
        world.edge_does(actions);
        world.run_for(SECOND);
        let ending = ending(&world.agent_end);
        assert_eq!(
            (ending.cause, ending.error.code, ending.retry),
            (Cause::Peer, Code::AuthtokenUnknown, retry)
        );
    }
}

#[test]
fn a_server_that_never_answers_the_hello_is_given_up() {
    let mut agent = AgentMachine::new(SECOND, AgentSettings::of(&samples::hello()));
    assert_eq!(agent.next_deadline(), Some(SECOND + HANDSHAKE_TIMEOUT));
    assert!(
        agent.handle_timeout(HANDSHAKE_TIMEOUT).is_empty(),
        "not yet"
    );
    let actions = agent.handle_timeout(SECOND + HANDSHAKE_TIMEOUT);
    let [Action::Close(ending)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (ending.cause, ending.error.code, ending.retry),
        (Cause::Lost, Code::ServerUnreachable, true)
    );
}

#[test]
fn heartbeats_measure_the_round_trip() {
    let mut world = World::established(70 * MILLI);
    world.run_for(60 * SECOND);
    let agent: Vec<_> = world
        .agent_events
        .iter()
        .map(|(_, event)| event.clone())
        .collect();
    assert_eq!(agent, vec![AgentEvent::Latency(140 * MILLI); 5]);
    assert!(
        world
            .edge_events
            .iter()
            .all(|(_, event)| *event == EdgeEvent::Latency(140 * MILLI))
    );
    assert!(world.agent_end.is_none() && world.edge_end.is_none());
}

#[test]
fn a_lost_peer_is_noticed_within_interval_and_tolerance() {
    for silent in 0..100 {
        let mut world = World::established(10 * MILLI);
        world.run_for(5 * SECOND + silent * 333 * MILLI);
        let died = world.now;
        (world.to_agent.dead, world.to_edge.dead) = (true, true);
        world.run_for(60 * SECOND);
        for end in [&world.agent_end, &world.edge_end] {
            assert_eq!(ending(end).cause, Cause::Lost);
            let at = end.as_ref().unwrap().0;
            assert!(at <= died + DETECTION + 20 * MILLI, "{:?} after", at - died);
        }
        assert!(ending(&world.agent_end).retry);
    }
}

#[test]
fn one_dead_direction_ends_both_sides() {
    for towards_agent in [false, true] {
        let mut world = World::established(10 * MILLI);
        let pipe = if towards_agent {
            &mut world.to_agent
        } else {
            &mut world.to_edge
        };
        pipe.dead = true;
        world.run_for(2 * DETECTION + SECOND);
        assert!(world.agent_end.is_some() && world.edge_end.is_some());
    }
}

#[test]
fn a_slow_peer_within_the_tolerance_is_kept() {
    let mut world = World::established(4 * SECOND);
    (world.to_agent.delay, world.to_edge.delay) = (7 * SECOND, 7 * SECOND);
    world.run_for(600 * SECOND);
    assert!(world.agent_end.is_none() && world.edge_end.is_none());
    let measured = |seen: &Duration| *seen == 14 * SECOND;
    let latencies = world
        .agent_events
        .iter()
        .filter_map(|(_, event)| match event {
            AgentEvent::Latency(latency) => Some(latency),
            _ => None,
        });
    assert!(
        latencies
            .skip(2)
            .inspect(|seen| assert!(measured(seen), "{seen:?}"))
            .count()
            > 10
    );
}

#[test]
fn a_peer_slower_than_the_tolerance_is_lost() {
    let mut world = World::established(4 * SECOND);
    world.run_for(SECOND);
    (world.to_agent.delay, world.to_edge.delay) = (60 * SECOND, 60 * SECOND);
    world.run_for(120 * SECOND);
    assert_eq!(ending(&world.agent_end).cause, Cause::Lost);
    assert_eq!(ending(&world.edge_end).cause, Cause::Lost);
}

#[test]
fn a_suspended_process_asks_before_it_gives_up() {
    let mut world = World::established(MILLI);
    world.run_for(3 * SECOND);
    let late = world.now + 3600 * SECOND;
    let actions = world.agent.handle_timeout(late);
    assert!(
        matches!(
            actions.as_slice(),
            [Action::Send(AgentMessage::Heartbeat(_))]
        ),
        "{actions:?}"
    );
    assert!(world.agent.next_deadline().unwrap() > late);
}

#[test]
fn messages_in_pieces_of_any_size_arrive_whole() {
    for piece in [1, 2, 3, 5, 8, 100] {
        let mut world = World::new(MILLI);
        world.piece = piece;
        world.run_for(SECOND);
        let (req, actions) = world.agent.bind(world.now, samples::bind()).unwrap();
        world.agent_does(actions);
        world.run_for(SECOND);
        assert_eq!(
            world.agent_events.last().unwrap().1,
            AgentEvent::Bound(samples::bound(req))
        );
    }
}

#[test]
fn answers_in_any_order_find_their_requests() {
    let mut world = World::established(5 * MILLI);
    world.answers = [
        (3 * SECOND, Answer::Grant),
        (SECOND, Answer::Refuse),
        (2 * SECOND, Answer::Grant),
    ]
    .into();
    let now = world.now;
    let (bind, actions) = world.agent.bind(now, samples::bind()).unwrap();
    world.agent_does(actions);
    let (update, actions) = world
        .agent
        .update(now, Update::of(samples::endpoint()))
        .unwrap();
    world.agent_does(actions);
    let (unbind, actions) = world.agent.unbind(now, samples::endpoint()).unwrap();
    world.agent_does(actions);
    assert_eq!((bind, update, unbind), (1, 2, 3));
    world.run_for(4 * SECOND);
    let seen: Vec<_> = world
        .agent_events
        .iter()
        .map(|(_, event)| event.clone())
        .collect();
    let refused = AgentEvent::Refused {
        req: 2,
        error: Error::of(Code::AddressTaken),
    };
    assert_eq!(
        seen,
        [
            refused,
            AgentEvent::Unbound { req: 3 },
            AgentEvent::Bound(samples::bound(1))
        ]
    );
}

#[test]
fn an_unanswered_request_ends_the_session() {
    let mut world = World::established(5 * MILLI);
    world.answers = [(SECOND, Answer::Never)].into();
    let asked = world.now;
    let (_, actions) = world.agent.bind(asked, samples::bind()).unwrap();
    world.agent_does(actions);
    world.run_for(60 * SECOND);
    let (at, _) = world.agent_end.as_ref().unwrap();
    assert_eq!(*at, asked + REQUEST_TIMEOUT);
    let ending = ending(&world.agent_end);
    assert!(
        ending.retry && ending.error.message.contains("bind 1"),
        "{}",
        ending.error
    );
    assert_eq!(world.edge_end.as_ref().unwrap().1, End::Disconnected);
}

#[test]
fn answers_to_what_was_not_asked_are_violations() {
    let wrong: [EdgeMessage; 4] = [
        samples::bound(1).into(),
        Updated { req: 7 }.into(),
        HeartbeatAck { nonce: 9 }.into(),
        samples::welcome().into(),
    ];
    for message in wrong {
        let mut world = World::established(MILLI);
        let actions = world.agent.handle_message(world.now, message);
        world.agent_does(actions);
        world.run_for(SECOND);
        let ending = ending(&world.agent_end);
        assert_eq!(
            (ending.cause, ending.error.code),
            (Cause::Violation, Code::ProtocolViolation)
        );
        assert!(world.edge_end.is_some());
    }
    let mut world = World::established(MILLI);
    world.agent.bind(world.now, samples::bind()).unwrap();
    let actions = world
        .agent
        .handle_message(world.now, Unbound { req: 1 }.into());
    assert!(
        matches!(actions.last(), Some(Action::Close(_))),
        "{actions:?}"
    );
}

#[test]
fn a_request_number_that_does_not_count_up_is_a_violation() {
    let mut world = World::established(MILLI);
    let ask = |req| {
        AgentMessage::from(Bind {
            req,
            ..samples::bind()
        })
    };
    assert!(matches!(
        world.edge.handle_message(world.now, ask(5)).as_slice(),
        [Action::Event(_)]
    ));
    let actions = world.edge.handle_message(world.now, ask(5));
    let [Action::Send(EdgeMessage::Error(fatal)), Action::Close(_)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!((fatal.code, fatal.retry), (Code::ProtocolViolation, true));
}

#[test]
fn requests_without_answers_are_bounded_on_both_sides() {
    let mut world = World::established(MILLI);
    for req in 1..=REQUESTS_PENDING_MAX as u64 {
        assert_eq!(
            world
                .agent
                .unbind(world.now, samples::endpoint())
                .unwrap()
                .0,
            req
        );
        world.edge.handle_message(
            world.now,
            Bind {
                req,
                ..Bind::default()
            }
            .into(),
        );
    }
    assert_eq!(
        world.agent.bind(world.now, samples::bind()),
        Err(NotSent::TooMany(REQUESTS_PENDING_MAX))
    );
    let req = REQUESTS_PENDING_MAX as u64 + 1;
    let actions = world.edge.handle_message(
        world.now,
        Bind {
            req,
            ..Bind::default()
        }
        .into(),
    );
    assert!(
        matches!(actions.as_slice(), [Action::Send(EdgeMessage::Refused(_))]),
        "{actions:?}"
    );
}

#[test]
fn a_request_that_does_not_fit_is_not_sent() {
    let mut world = World::established(MILLI);
    let bind = Bind {
        traffic_policy: "x".repeat(70_000),
        ..samples::bind()
    };
    let refused = world.agent.bind(world.now, bind).unwrap_err();
    assert!(matches!(refused, NotSent::TooLarge(_)));
    assert_eq!(Error::from(refused).code, Code::MessageTooLarge);
    assert_eq!(
        world.agent.bind(world.now, samples::bind()).unwrap().0,
        1,
        "the session goes on"
    );
}

#[test]
fn oversized_and_malformed_messages_end_the_session_with_their_code() {
    let unknown = br#"{"type":"teleport"}"#;
    let framed = |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat();
    let cases = [
        (
            vec![0xff, 0xff, 0xff, 0xff, b'x'],
            Code::MessageTooLarge,
            "larger",
        ),
        (framed(b"{nonsense"), Code::ProtocolViolation, "JSON"),
        (framed(unknown), Code::ProtocolViolation, "teleport"),
        (framed(b""), Code::ProtocolViolation, "JSON"),
    ];
    for (bytes, code, word) in cases {
        let mut world = World::established(MILLI);
        world.to_edge.push(world.now, Some(bytes.clone()));
        world.run_for(SECOND);
        let edge = ending(&world.edge_end);
        assert_eq!((edge.cause, edge.error.code), (Cause::Violation, code));
        let told = ending(&world.agent_end);
        assert_eq!(
            (told.cause, told.error.code, told.retry),
            (Cause::Peer, code, true)
        );
        assert!(told.error.message.contains(word), "{}", told.error);

        let mut world = World::established(MILLI);
        world.to_agent.push(world.now, Some(bytes));
        world.run_for(SECOND);
        assert_eq!(ending(&world.agent_end).error.code, code);
        assert_eq!(ending(&world.edge_end).cause, Cause::Peer, "goodbye");
    }
}

#[test]
fn health_is_told_to_an_edge_that_takes_it_and_to_no_other() {
    let report = || HealthReport {
        endpoint_id: samples::endpoint(),
        healthy: true,
        failures: 0,
        age_ms: 7,
        code: None,
        reason: String::new(),
    };
    let mut world = World::established(MILLI);
    let actions = world.agent.health(report());
    assert_eq!(actions.len(), 1);
    world.agent_does(actions);
    world.run_for(10 * MILLI);
    let heard = EdgeEvent::Health(report());
    assert!(world.edge_events.iter().any(|(_, event)| *event == heard));

    // An edge of a release before it says nothing of it in its welcome.
    let mut agent = AgentMachine::new(Duration::ZERO, AgentSettings::of(&samples::hello()));
    assert!(agent.health(report()).is_empty(), "nobody is there yet");
    let mut written = serde_json::to_value(EdgeMessage::from(samples::welcome())).unwrap();
    written.as_object_mut().unwrap().remove("health");
    let older: EdgeMessage = serde_json::from_value(written).unwrap();
    agent.handle_message(SECOND, older);
    assert!(agent.is_established() && agent.health(report()).is_empty());
}

#[test]
fn nothing_but_welcome_or_error_may_come_first() {
    let mut agent = AgentMachine::new(Duration::ZERO, AgentSettings::of(&samples::hello()));
    let actions = agent.handle_message(SECOND, NeedChannels { count: 1 }.into());
    assert!(
        matches!(actions.as_slice(), [Action::Close(ending)] if ending.cause == Cause::Violation)
    );
    let mut edge =
        EdgeMachine::accept(Duration::ZERO, &samples::hello(), EdgeSettings::default()).unwrap();
    let actions = edge.handle_message(SECOND, samples::bind().into());
    assert!(matches!(
        actions.as_slice(),
        [Action::Send(EdgeMessage::Error(_)), Action::Close(_)]
    ));
    assert!(
        edge.welcome(SECOND, welcome_spec()).is_empty(),
        "closed is closed"
    );
}

#[test]
fn stop_and_restart_end_the_session_with_a_goodbye() {
    for restart in [false, true] {
        let mut world = World::established(30 * MILLI);
        let actions = world
            .edge
            .stop(world.now, Error::of(Code::AgentStopped), restart);
        world.edge_does(actions);
        world.run_for(100 * MILLI);
        let agent = ending(&world.agent_end);
        assert_eq!(
            (agent.cause, agent.error.code, agent.retry),
            (Cause::Peer, Code::AgentStopped, restart)
        );
        assert_eq!(ending(&world.edge_end).cause, Cause::Local);
    }
}

#[test]
fn an_agent_that_ignores_stop_is_closed() {
    let mut world = World::established(30 * MILLI);
    world.to_agent.dead = true;
    let stopped = world.now;
    let actions = world
        .edge
        .stop(stopped, Error::of(Code::CredentialRevoked), false);
    world.edge_does(actions);
    // What it asks meanwhile is void.
    let (_, actions) = world.agent.bind(stopped, samples::bind()).unwrap();
    world.agent_does(actions);
    world.run_for(10 * SECOND);
    assert_eq!(world.edge_end.as_ref().unwrap().0, stopped + STOP_TIMEOUT);
    assert_eq!(ending(&world.edge_end).error.code, Code::CredentialRevoked);
    assert!(
        world
            .edge_events
            .iter()
            .all(|(_, event)| !matches!(event, EdgeEvent::Bind(_)))
    );
}

#[test]
fn a_draining_session_takes_no_bind_and_goes_on_until_goodbye() {
    let mut world = World::established(30 * MILLI);
    // Crosses the drain on its way.
    let (early, actions) = world.agent.bind(world.now, samples::bind()).unwrap();
    world.agent_does(actions);
    let actions = world.edge.drain(&Error::of(Code::ServerDraining));
    world.edge_does(actions);
    assert!(
        world
            .edge
            .drain(&Error::of(Code::ServerDraining))
            .is_empty(),
        "told once"
    );
    world.run_for(SECOND);
    assert!(world.agent.is_draining() && world.edge.is_draining());
    let refused = AgentEvent::Refused {
        req: early,
        error: Error::of(Code::ServerDraining),
    };
    let seen: Vec<_> = world
        .agent_events
        .iter()
        .map(|(_, event)| event.clone())
        .collect();
    assert_eq!(
        seen,
        [AgentEvent::Drain(Error::of(Code::ServerDraining)), refused]
    );
    assert_eq!(
        world.agent.bind(world.now, samples::bind()),
        Err(NotSent::Draining)
    );
    let (req, actions) = world.agent.unbind(world.now, samples::endpoint()).unwrap();
    world.agent_does(actions);
    world.run_for(120 * SECOND);
    assert!(
        world
            .agent_events
            .iter()
            .any(|(_, event)| *event == AgentEvent::Unbound { req })
    );
    let actions = world.agent.goodbye("drained");
    world.agent_does(actions);
    world.run_for(SECOND);
    assert_eq!(ending(&world.edge_end).cause, Cause::Peer);
    assert!(ending(&world.edge_end).error.message.contains("drained"));
}

#[test]
fn the_edge_tells_and_the_agent_hears() {
    let mut world = World::established(MILLI);
    for actions in [
        world.edge.need_channels(8),
        world.edge.need_channels(u32::MAX),
        world
            .edge
            .stop_endpoint(samples::endpoint(), &Error::new(Code::AddressInUse, "gone")),
        world.edge.abort(3, 12),
    ] {
        world.edge_does(actions);
    }
    let actions = world.agent.abort(4, 13);
    world.agent_does(actions);
    world.run_for(SECOND);
    let abort = |channel, open| portcullis_proto::message::Abort { channel, open };
    let seen: Vec<_> = world
        .agent_events
        .iter()
        .map(|(_, event)| event.clone())
        .collect();
    let error = Error::new(Code::AddressInUse, "gone");
    assert_eq!(
        seen,
        [
            AgentEvent::NeedChannels(8),
            AgentEvent::NeedChannels(NEED_CHANNELS_MAX),
            AgentEvent::EndpointStopped {
                endpoint_id: samples::endpoint(),
                error
            },
            AgentEvent::Abort(abort(3, 12)),
        ]
    );
    assert_eq!(
        world.edge_events.last().unwrap().1,
        EdgeEvent::Abort(abort(4, 13))
    );
}

#[test]
fn a_closed_machine_says_and_takes_nothing() {
    let mut world = World::established(MILLI);
    let now = world.now;
    assert!(!world.agent.goodbye("done").is_empty());
    assert!(world.agent.goodbye("done").is_empty());
    assert!(
        world
            .agent
            .handle_message(now, samples::bound(1).into())
            .is_empty()
    );
    assert!(world.agent.handle_timeout(now + 3600 * SECOND).is_empty());
    assert!(world.agent.abort(1, 1).is_empty());
    assert_eq!(
        world.agent.bind(now, samples::bind()),
        Err(NotSent::NotEstablished)
    );
    assert!(!world.edge.fail(Error::of(Code::Internal), true).is_empty());
    assert!(world.edge.fail(Error::of(Code::Internal), true).is_empty());
    assert!(
        world
            .edge
            .handle_message(now, samples::bind().into())
            .is_empty()
    );
    assert!(world.edge.handle_timeout(now + 3600 * SECOND).is_empty());
    assert!(
        world
            .edge
            .stop(now, Error::of(Code::Internal), true)
            .is_empty()
    );
    assert!(
        world
            .edge
            .handle_undecodable(codec::CodecError::NoType)
            .is_empty()
    );
}

#[test]
fn sessions_on_changing_networks_answer_each_request_once_or_end() {
    each_seed("sessions", 300, |rng| {
        let mut world = World::new(Duration::from_millis(rng.next() % 500));
        world.piece = 1 + rng.below(300);
        let mut asked: BTreeMap<u64, u32> = BTreeMap::new();
        for _ in 0..60 {
            let answer = if rng.one_in(3) {
                Answer::Refuse
            } else {
                Answer::Grant
            };
            world.answers = [(Duration::from_millis(rng.next() % 9_000), answer)].into();
            (world.to_edge.delay, world.to_agent.delay) = (
                Duration::from_millis(rng.next() % 3_000),
                Duration::from_millis(rng.next() % 3_000),
            );
            let now = world.now;
            let request = match rng.below(60) {
                0..=15 => world.agent.bind(now, samples::bind()).ok(),
                16..=20 => world
                    .agent
                    .update(now, Update::of(samples::endpoint()))
                    .ok(),
                21..=25 => world.agent.unbind(now, samples::endpoint()).ok(),
                26 => {
                    let actions = world.edge.drain(&Error::of(Code::ServerDraining));
                    world.edge_does(actions);
                    None
                }
                27 => {
                    let actions = world.edge.stop(now, Error::of(Code::AgentStopped), true);
                    world.edge_does(actions);
                    None
                }
                28 => {
                    let actions = world.agent.goodbye("enough");
                    world.agent_does(actions);
                    None
                }
                29 => {
                    world.to_edge.dead = true;
                    None
                }
                _ => None,
            };
            if let Some((req, actions)) = request {
                asked.insert(req, 0);
                world.agent_does(actions);
            }
            world.run_for(Duration::from_millis(rng.next() % 20_000));
        }
        world.run_for(2 * REQUEST_TIMEOUT);
        for (_, event) in &world.agent_events {
            let req = match event {
                AgentEvent::Bound(bound) => bound.req,
                AgentEvent::Updated { req }
                | AgentEvent::Unbound { req }
                | AgentEvent::Refused { req, .. } => *req,
                _ => continue,
            };
            *asked.get_mut(&req).expect("an answer to a request") += 1;
        }
        assert!(
            asked.values().all(|count| *count <= 1),
            "answered twice: {asked:?}"
        );
        let ended = world.agent_end.is_some();
        assert!(
            ended || asked.values().all(|count| *count == 1),
            "unanswered: {asked:?}"
        );
        assert_eq!(
            ended,
            world.edge_end.is_some(),
            "{:?} {:?}",
            world.agent_end,
            world.edge_end
        );
        for end in [&world.agent_end, &world.edge_end] {
            let honest = !matches!(
                end,
                Some((
                    _,
                    End::Closed(Ending {
                        cause: Cause::Violation,
                        ..
                    })
                ))
            );
            assert!(honest, "honest ends never see a violation: {end:?}");
        }
    });
}
