//! A session: two sides, links of both kinds, bytes in flight, and what happens to them when.

use std::time::Duration;

use portcullis_proto::defaults::WINDOW_BUDGET;
use portcullis_proto::{LinkKind, Role};

use super::Fault;
use super::connection::Script;
use super::side::{Registry, Side};

/// Ticks that `bytes` take on a link, in the directions from the edge and from the agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speeds {
    /// On carriers.
    pub(crate) carrier: [usize; 2],
    /// On channels.
    pub(crate) channel: [usize; 2],
    /// Bytes that pass at once.
    pub(crate) bytes: usize,
}

/// What happens to a connection when so many bytes have arrived in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// Its end at this side resets it.
    Reset(Role),
    /// The edge moves it to a link of this kind, as soon as it may.
    Move(LinkKind),
    /// The link of its current leg at the edge breaks; what is in flight is lost at both ends.
    Lose,
}

/// Which disturbance of which connection, when.
pub(crate) type Plan = Vec<(usize, usize, Disturbance)>;

/// Both ends of a session.
pub(crate) struct World {
    pub(crate) edge: Side,
    pub(crate) agent: Side,
    pub(crate) moved: usize,
    registry: Registry,
    speeds: Speeds,
    tick: usize,
    /// Whether the last tick did anything.
    changed: bool,
    plan: Plan,
}

/// Two carriers and three channels.
const LINKS: [(u64, LinkKind); 5] = [
    (1, LinkKind::Carrier),
    (2, LinkKind::Channel),
    (3, LinkKind::Channel),
    (4, LinkKind::Carrier),
    (5, LinkKind::Channel),
];

impl World {
    pub(crate) fn new(speeds: Speeds, plan: Plan, faults: [Fault; 2]) -> Self {
        Self {
            edge: Side::new(Role::Edge, &LINKS, faults[0]),
            agent: Side::new(Role::Agent, &LINKS, faults[1]),
            moved: 0,
            registry: Registry::new(),
            speeds,
            tick: 0,
            changed: true,
            plan,
        }
    }

    /// Begins a connection on a link; its number is its place.
    pub(crate) fn open(&mut self, script: &Script, link: u64) {
        let id = u32::try_from(self.edge.connections.len()).expect("few");
        let leg = self.edge.open(id, script, link);
        self.changed = true;
        self.registry.insert(leg, (id, script.clone()));
    }

    /// Whether a link can take another connection now.
    pub(crate) fn has_room(&self, link: u64) -> bool {
        self.edge.links[&link].has_room()
    }

    /// Runs until nothing moves, and checks what must hold then.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        while self.turn()? {
            if self.tick > 4_000_000 {
                return Err("it never comes to rest".to_owned());
            }
        }
        self.check_end()
    }

    /// One tick: what the plan says, a step of every connection, bytes over every link.
    pub(crate) fn turn(&mut self) -> Result<bool, String> {
        self.tick += 1;
        let now = Duration::from_millis(self.tick as u64);
        (self.edge.now, self.agent.now) = (now, now);
        let mut busy = self.disturb()?;
        // Between two arrivals nobody has anything new to do.
        if busy || std::mem::take(&mut self.changed) {
            for side in [&mut self.edge, &mut self.agent] {
                for at in 0..side.connections.len() {
                    busy |= side.step(at)?;
                }
                busy |= side.settle_declined()?;
            }
        }
        for (link, kind) in LINKS {
            let every = match kind {
                LinkKind::Carrier => self.speeds.carrier,
                LinkKind::Channel => self.speeds.channel,
            };
            if self.tick.is_multiple_of(every[0]) {
                busy |= self.carry(link, Role::Edge)?;
            }
            if self.tick.is_multiple_of(every[1]) {
                busy |= self.carry(link, Role::Agent)?;
            }
        }
        self.changed = busy;
        if busy {
            self.check_credit()?;
        }
        Ok(busy || LINKS.iter().any(|(link, _)| self.in_flight(*link)))
    }

    fn in_flight(&self, link: u64) -> bool {
        let waits =
            |from: &Side, to: &Side| !from.links[&link].wire.is_empty() && to.reads_from(link);
        waits(&self.edge, &self.agent) || waits(&self.agent, &self.edge)
    }

    fn carry(&mut self, link: u64, from: Role) -> Result<bool, String> {
        let (source, sink) = match from {
            Role::Edge => (&mut self.edge, &mut self.agent),
            Role::Agent => (&mut self.agent, &mut self.edge),
        };
        let source = source.links.get_mut(&link).expect("a known link");
        if source.broken || source.wire.is_empty() || !sink.reads_from(link) {
            return Ok(false);
        }
        let count = self.speeds.bytes.min(source.wire.len());
        let bytes = source.wire.drain(..count).collect::<Vec<_>>();
        self.moved += count;
        let words = |e| format!("{from:?} to its peer: {e}");
        sink.receive(link, &bytes, &self.registry).map_err(words)?;
        Ok(true)
    }

    fn disturb(&mut self) -> Result<bool, String> {
        let mut later = Plan::new();
        let mut did = false;
        for (at, connection, what) in std::mem::take(&mut self.plan) {
            if at > self.moved || !self.do_now(connection, what)? {
                later.push((at, connection, what));
            } else {
                did = true;
            }
        }
        self.plan = later;
        Ok(did)
    }

    /// Returns false when it must wait.
    fn do_now(&mut self, connection: usize, what: Disturbance) -> Result<bool, String> {
        match what {
            Disturbance::Reset(role) => {
                let side = match role {
                    Role::Edge => &mut self.edge,
                    Role::Agent => &mut self.agent,
                };
                let number = u32::try_from(connection).expect("few");
                let at = side.connections.iter().position(|c| c.id == number);
                if let Some(at) = at {
                    side.reset(at);
                }
                Ok(at.is_some())
            }
            Disturbance::Move(kind) => {
                let wanted = LINKS.into_iter().find(|(link, of)| {
                    *of == kind && self.edge.links[link].has_room() && self.idle_or_shared(*link)
                });
                match wanted {
                    Some((link, _)) => self.edge.start_move(connection, link),
                    None => Ok(false),
                }
            }
            Disturbance::Lose => {
                let link = self.edge.connections[connection].mover.current().link;
                self.edge.lose(link);
                self.agent.lose(link);
                Ok(true)
            }
        }
    }

    fn idle_or_shared(&self, link: u64) -> bool {
        let end = &self.edge.links[&link];
        end.kind() == LinkKind::Carrier || end.is_free()
    }

    /// When nothing is in flight on a carrier, what one end may send is what the other has granted.
    fn check_credit(&self) -> Result<(), String> {
        for (link, end) in &self.edge.links {
            let other = &self.agent.links[link];
            if !(end.wire.is_empty() && other.wire.is_empty()) || end.kind() == LinkKind::Channel {
                continue;
            }
            for (open, ours) in end.states() {
                let Some(theirs) = other.state(open) else {
                    continue;
                };
                let kept = ours.is_discarding() || theirs.is_discarding();
                let same = ours.credit() == theirs.granted() && ours.granted() == theirs.credit();
                if !same && !kept {
                    return Err(format!(
                        "credit of {link}/{open} differs: {ours:?} {theirs:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_end(&self) -> Result<(), String> {
        let all = self.edge.connections.iter().chain(&self.agent.connections);
        for connection in all {
            if !connection.done {
                return Err(format!(
                    "connection {} hangs at the {:?}: {:?}",
                    connection.id, connection.role, connection.mover
                ));
            }
        }
        for end in self.edge.links.values().chain(self.agent.links.values()) {
            if !end.is_free() && !end.broken {
                return Err(format!(
                    "link {} is not free at the {:?}: {:?}",
                    end.number,
                    end.role(),
                    end.states()
                ));
            }
        }
        for side in [&self.edge, &self.agent] {
            if side.budget.left() != WINDOW_BUDGET {
                return Err(format!("{} bytes of budget are left", side.budget.left()));
            }
        }
        self.check_bytes()
    }

    pub(crate) fn check_bytes(&self) -> Result<(), String> {
        for edge in &self.edge.connections {
            let mut agents = self.agent.connections.iter();
            let Some(agent) = agents.find(|agent| agent.id == edge.id) else {
                continue;
            };
            edge.check_prefix(agent)?;
            agent.check_prefix(edge)?;
        }
        Ok(())
    }
}
