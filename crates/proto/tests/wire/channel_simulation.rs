//! Recycled channels, both ends: resets with data in flight at every byte position, many independent
//! channels in any order, aborts, and peers that break the rules.

use std::collections::VecDeque;

use portcullis_proto::defaults::{FRAME_PAYLOAD_BYTES_MAX, OPEN_FIRST_BYTES_MAX};
use portcullis_proto::{ChannelState, FrameType, Header, Incoming, Role, Violation};

use crate::pair::{End, Script, check_bytes};
use crate::seeds::{Rng, each_seed};

const SCRIPTS: [Script; 5] = [
    Script {
        edge: &[7, 1, 9],
        agent: &[5, 8],
        refuses: false,
        last_to_end: None,
    },
    Script {
        edge: &[4],
        agent: &[6, 6, 6],
        refuses: false,
        last_to_end: Some(Role::Agent),
    },
    Script {
        edge: &[6, 6, 6],
        agent: &[4],
        refuses: false,
        last_to_end: Some(Role::Edge),
    },
    Script {
        edge: &[],
        agent: &[],
        refuses: false,
        last_to_end: None,
    },
    Script {
        edge: &[5],
        agent: &[5],
        refuses: true,
        last_to_end: None,
    },
];
const OPENS: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    Nobody,
    Edge,
    Agent,
    Both,
}

/// Runs two ends until nothing moves; `who` resets once `at` bytes have arrived in all. `every` says
/// how many ticks a byte takes in each direction. Returns the ends and the bytes moved.
fn run(script: Script, who: Who, at: usize, every: [usize; 2]) -> (End, End, usize) {
    let (mut edge, mut agent) = (
        End::new(Role::Edge, script, OPENS),
        End::new(Role::Agent, script, 0),
    );
    let mut moved = 0;
    let mut tick = 0_usize;
    let mut fired = false;
    loop {
        if moved >= at && !fired {
            fired = true;
            if matches!(who, Who::Edge | Who::Both) {
                edge.reset();
            }
            if matches!(who, Who::Agent | Who::Both) {
                agent.reset();
            }
        }
        let idle = !(edge.step() | agent.step()) && edge.wire.is_empty() && agent.wire.is_empty();
        tick += 1;
        if tick.is_multiple_of(every[0])
            && let Some(byte) = edge.wire.pop_front()
        {
            agent.receive(byte);
            moved += 1;
        }
        if tick.is_multiple_of(every[1])
            && let Some(byte) = agent.wire.pop_front()
        {
            edge.receive(byte);
            moved += 1;
        }
        if idle {
            return (edge, agent, moved);
        }
    }
}

fn check_free(edge: &End, agent: &End) {
    check_bytes(edge, agent);
    check_bytes(agent, edge);
    assert!(
        edge.state.is_free() && agent.state.is_free(),
        "{:?} {:?}",
        edge.state,
        agent.state
    );
    assert_eq!(edge.opens_left, 0, "every client had its turn");
}

#[test]
fn undisturbed_opens_deliver_everything() {
    for script in SCRIPTS {
        let (edge, agent, _) = run(script, Who::Nobody, 0, [1, 1]);
        check_free(&edge, &agent);
        assert_eq!(agent.delivered.len(), 2);
        if !script.refuses {
            assert_eq!(agent.delivered, edge.sent);
            assert_eq!(edge.delivered, agent.sent);
            assert_eq!(edge.complete, [1, 2].into());
        }
    }
}

#[test]
fn a_reset_at_every_byte_leaves_a_free_channel_and_nothing_for_the_next_open() {
    for script in SCRIPTS {
        for every in [[1, 1], [1, 7], [7, 1]] {
            let (_, _, bytes) = run(script, Who::Nobody, 0, every);
            for who in [Who::Edge, Who::Agent, Who::Both] {
                for at in 0..=bytes {
                    let (edge, agent, _) = run(script, who, at, every);
                    check_free(&edge, &agent);
                }
            }
        }
    }
}

/// A channel, its connection, and the two directions of the control connection's aborts.
struct Link {
    edge: End,
    agent: End,
    /// Aborts in flight; a slot per direction is enough, a channel dies only once.
    abort_to: [VecDeque<()>; 2],
}

impl Link {
    fn end(&mut self, role: Role) -> &mut End {
        if role == Role::Edge {
            &mut self.edge
        } else {
            &mut self.agent
        }
    }

    /// A RESET that can't be flushed: tell the peer on the control connection, drop the channel. What
    /// was in flight may still arrive before the RST.
    fn clog(&mut self, role: Role, rng: &mut Rng) {
        if self.end(role).state.current().is_none() {
            return;
        }
        self.end(role).state.close();
        let kept = rng.below(self.end(role).wire.len() + 1);
        self.end(role).wire.truncate(kept);
        self.abort_to[usize::from(role == Role::Edge)].push_back(());
    }

    fn tick(&mut self, rng: &mut Rng) {
        let role = if rng.one_in(2) {
            Role::Edge
        } else {
            Role::Agent
        };
        match rng.below(40) {
            0 => self.end(role).reset(),
            1 if rng.one_in(20) => self.clog(role, rng),
            2..=15 => {
                self.end(role).step();
            }
            _ => self.carry(role, 1 + rng.below(12)),
        }
        let slot = usize::from(role == Role::Agent);
        if rng.one_in(10) && self.abort_to[slot].pop_front().is_some() {
            self.end(role).state.close();
        }
    }

    fn carry(&mut self, from: Role, count: usize) {
        let (source, sink) = match from {
            Role::Edge => (&mut self.edge, &mut self.agent),
            Role::Agent => (&mut self.agent, &mut self.edge),
        };
        for byte in source.wire.drain(..count.min(source.wire.len())) {
            sink.receive(byte);
        }
    }

    /// Lets everything arrive.
    fn settle(&mut self) {
        while self.edge.step()
            | self.agent.step()
            | !self.edge.wire.is_empty()
            | !self.agent.wire.is_empty()
        {
            self.carry(Role::Edge, 1000);
            self.carry(Role::Agent, 1000);
        }
        for (slot, role) in [Role::Edge, Role::Agent].into_iter().enumerate() {
            if self.abort_to[slot].pop_front().is_some() {
                self.end(role).state.close();
            }
        }
    }
}

#[test]
fn independent_channels_in_any_order_keep_their_clients_apart() {
    each_seed("channels", 400, |rng| {
        let mut links: Vec<Link> = (0..8)
            .map(|_| {
                let script = SCRIPTS[rng.below(SCRIPTS.len())];
                let (edge, agent) = (
                    End::new(Role::Edge, script, 6),
                    End::new(Role::Agent, script, 0),
                );
                Link {
                    edge,
                    agent,
                    abort_to: [VecDeque::new(), VecDeque::new()],
                }
            })
            .collect();
        for _ in 0..8_000 {
            let chosen = rng.below(links.len());
            links[chosen].tick(rng);
        }
        for link in &mut links {
            link.settle();
            check_bytes(&link.edge, &link.agent);
            check_bytes(&link.agent, &link.edge);
            let free = link.edge.state.is_free() && link.agent.state.is_free();
            let closed = link.edge.state.is_closed() && link.agent.state.is_closed();
            assert!(
                free || closed,
                "{:?} {:?}",
                link.edge.state,
                link.agent.state
            );
        }
    });
}

#[test]
fn frames_that_nobody_may_send_close_the_channel_and_deliver_nothing() {
    each_seed("hostile", 2_000, |rng| {
        let role = if rng.one_in(2) {
            Role::Edge
        } else {
            Role::Agent
        };
        let mut state = ChannelState::new(role);
        for _ in 0..200 {
            let kind = FrameType::ALL[rng.below(FrameType::ALL.len())];
            let near = state.current().unwrap_or(0);
            let open = near.saturating_add(u32::try_from(rng.below(3)).unwrap());
            let was = state.clone();
            if rng.one_in(2) {
                let (length, _) = kind.payload_bounds();
                let taken = state.on_recv(&Header::new(kind, open, length).unwrap());
                if taken == Ok(Incoming::Deliver) {
                    assert_eq!(was.current(), Some(open));
                    assert!(!was.is_discarding());
                }
                assert_eq!(taken.is_err(), state.is_closed());
            } else if state.clone().on_send(&header(kind, open)).is_ok() {
                state.on_send(&header(kind, open)).unwrap();
            }
            if state.is_closed() {
                let end = Header::new(FrameType::End, open, 0).unwrap();
                assert_eq!(state.on_recv(&end), Err(Violation::Closed));
                assert!(!state.is_free() && state.current().is_none() && !state.may_release());
                break;
            }
        }
    });
}

fn header(kind: FrameType, open: u32) -> Header {
    Header::new(kind, open, kind.payload_bounds().0).unwrap()
}

/// An edge's end with open 1 accepted.
fn opened() -> ChannelState {
    let mut edge = ChannelState::new(Role::Edge);
    assert_eq!(edge.open_next(), Ok(1));
    assert_eq!(
        edge.on_recv(&header(FrameType::Opened, 1)),
        Ok(Incoming::Opened)
    );
    edge
}

#[test]
fn another_number_closes_the_channel() {
    for found in [0, 2, u32::MAX] {
        let mut edge = opened();
        let refused = Violation::WrongOpen {
            kind: FrameType::Data,
            expected: 1,
            found,
        };
        assert_eq!(edge.on_recv(&header(FrameType::Data, found)), Err(refused));
        assert!(edge.is_closed());
    }
    let mut agent = ChannelState::new(Role::Agent);
    assert!(
        agent.on_recv(&header(FrameType::Open, 2)).is_err(),
        "opens count from 1"
    );
}

#[test]
fn an_open_before_both_released_closes_the_channel() {
    let mut agent = ChannelState::new(Role::Agent);
    agent.on_recv(&header(FrameType::Open, 1)).unwrap();
    agent.on_send(&header(FrameType::Refused, 1)).unwrap();
    agent.on_send(&header(FrameType::Released, 1)).unwrap();
    assert!(!agent.is_free());
    assert!(agent.clone().on_recv(&header(FrameType::Open, 2)).is_err());
    agent.on_recv(&header(FrameType::Released, 1)).unwrap();
    assert!(agent.is_free());
    assert_eq!(
        agent.on_recv(&header(FrameType::Open, 2)),
        Ok(Incoming::Open)
    );
}

#[test]
fn data_after_the_end_closes_the_channel() {
    let mut edge = opened();
    assert_eq!(edge.on_recv(&header(FrameType::End, 1)), Ok(Incoming::End));
    let refused = Violation::NotAllowed {
        kind: FrameType::Data,
        open: 1,
    };
    assert_eq!(edge.on_recv(&header(FrameType::Data, 1)), Err(refused));
}

#[test]
fn a_side_that_ended_releases_only_behind_the_peers_end() {
    let mut edge = opened();
    edge.on_send(&header(FrameType::End, 1)).unwrap();
    assert!(!edge.may_release());
    assert!(
        edge.clone()
            .on_send(&header(FrameType::Released, 1))
            .is_err()
    );
    edge.on_recv(&header(FrameType::End, 1)).unwrap();
    assert!(edge.may_release());
    // Nor does the peer, while this side may still send.
    let mut edge = opened();
    edge.on_recv(&header(FrameType::End, 1)).unwrap();
    assert!(edge.on_recv(&header(FrameType::Released, 1)).is_err());
}

#[test]
fn a_reset_may_follow_an_end() {
    let mut edge = opened();
    edge.on_recv(&header(FrameType::End, 1)).unwrap();
    assert_eq!(
        edge.on_recv(&header(FrameType::Reset, 1)),
        Ok(Incoming::Reset)
    );
    assert!(edge.clone().on_recv(&header(FrameType::Reset, 1)).is_err());
    edge.on_send(&header(FrameType::Reset, 1)).unwrap();
    edge.on_send(&header(FrameType::Released, 1)).unwrap();
    edge.on_recv(&header(FrameType::Released, 1)).unwrap();
    assert!(edge.is_free());
}

#[test]
fn data_after_an_own_reset_is_thrown_away() {
    let mut edge = opened();
    edge.on_send(&header(FrameType::Reset, 1)).unwrap();
    assert_eq!(
        edge.on_recv(&header(FrameType::Data, 1)),
        Ok(Incoming::Discard)
    );
    edge.on_send(&header(FrameType::Released, 1)).unwrap();
    assert_eq!(
        edge.on_recv(&header(FrameType::Data, 1)),
        Ok(Incoming::Discard)
    );
    edge.on_recv(&header(FrameType::End, 1)).unwrap();
    edge.on_recv(&header(FrameType::Released, 1)).unwrap();
    assert!(edge.is_free());
    assert!(
        edge.on_recv(&header(FrameType::Data, 1)).is_err(),
        "after the peer's last word"
    );
}

fn data(open: u32, length: usize) -> Header {
    Header::new(FrameType::Data, open, length).unwrap()
}

#[test]
fn only_so_many_bytes_precede_the_verdict() {
    let (mut edge, mut agent) = (
        ChannelState::new(Role::Edge),
        ChannelState::new(Role::Agent),
    );
    edge.open_next().unwrap();
    agent.on_recv(&header(FrameType::Open, 1)).unwrap();
    assert_eq!(edge.room(), 0, "the first bytes are not known yet");
    assert!(agent.clone().on_recv(&data(1, 1)).is_err());
    edge.note_first_bytes(OPEN_FIRST_BYTES_MAX - 5);
    agent.note_first_bytes(OPEN_FIRST_BYTES_MAX - 5);
    assert_eq!(edge.room(), 5);
    assert!(edge.clone().on_send(&data(1, 6)).is_err());
    assert_eq!(
        agent.clone().on_recv(&data(1, 6)),
        Err(Violation::EarlyExceeded)
    );
    edge.on_send(&data(1, 5)).unwrap();
    assert_eq!(agent.on_recv(&data(1, 5)), Ok(Incoming::Deliver));
    assert_eq!(edge.room(), 0);
    assert!(
        edge.clone().on_recv(&data(1, 1)).is_err(),
        "the agent's bytes follow its verdict"
    );
    assert!(agent.clone().on_send(&data(1, 1)).is_err());
    agent.on_send(&header(FrameType::Opened, 1)).unwrap();
    edge.on_recv(&header(FrameType::Opened, 1)).unwrap();
    assert_eq!(edge.room(), FRAME_PAYLOAD_BYTES_MAX);
    assert!(edge.on_send(&data(1, 65_535)).is_ok() && agent.on_recv(&data(1, 65_535)).is_ok());
}

#[test]
fn early_bytes_and_their_end_are_waste_behind_a_refusal() {
    let (mut edge, mut agent) = (
        ChannelState::new(Role::Edge),
        ChannelState::new(Role::Agent),
    );
    edge.open_next().unwrap();
    edge.note_first_bytes(0);
    edge.on_send(&data(1, 9)).unwrap();
    edge.on_send(&header(FrameType::End, 1)).unwrap();
    agent.on_recv(&header(FrameType::Open, 1)).unwrap();
    agent.note_first_bytes(0);
    agent.on_send(&header(FrameType::Refused, 1)).unwrap();
    assert_eq!(agent.on_recv(&data(1, 9)), Ok(Incoming::Discard));
    agent.on_recv(&header(FrameType::End, 1)).unwrap();
    edge.on_recv(&header(FrameType::Refused, 1)).unwrap();
    assert_eq!(edge.room(), 0);
    edge.on_send(&header(FrameType::Released, 1)).unwrap();
    agent.on_send(&header(FrameType::Released, 1)).unwrap();
    edge.on_recv(&header(FrameType::Released, 1)).unwrap();
    agent.on_recv(&header(FrameType::Released, 1)).unwrap();
    assert!(edge.is_free() && agent.is_free());
}

#[test]
fn only_the_edge_opens_and_only_the_agent_answers() {
    let mut agent = ChannelState::new(Role::Agent);
    assert!(agent.open_next().is_err());
    let mut edge = ChannelState::new(Role::Edge);
    assert!(edge.clone().on_recv(&header(FrameType::Open, 1)).is_err());
    edge.open_next().unwrap();
    assert!(edge.on_send(&header(FrameType::Opened, 1)).is_err());
}
