//! One end of the session: its links, its connections, and what it does with what arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_proto::defaults::WINDOW_BUDGET;
use portcullis_proto::{Answer, Budget, FrameType, Leg, LinkKind, OpenState, Place, Role};

use super::Fault;
use super::connection::{Connection, Script, Waiting};
use super::link::{Item, LinkEnd};

const RTT: Duration = Duration::from_millis(50);

/// What each connection is, by the leg on which it began.
pub(crate) type Registry = BTreeMap<Leg, (u32, Script)>;

/// One end.
pub(crate) struct Side {
    pub(crate) role: Role,
    pub(crate) links: BTreeMap<u64, LinkEnd>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) fault: Fault,
    pub(crate) budget: Budget,
    pub(crate) now: Duration,
    /// Legs that were resumed for a connection that had no use for them.
    declined: Vec<Leg>,
}

fn wrong(words: impl std::fmt::Display) -> String {
    words.to_string()
}

impl Side {
    pub(crate) fn new(role: Role, links: &[(u64, LinkKind)], fault: Fault) -> Self {
        let links = links
            .iter()
            .map(|(number, kind)| (*number, LinkEnd::new(*number, *kind, role)))
            .collect();
        Self {
            role,
            links,
            connections: Vec::new(),
            fault,
            budget: Budget::new(WINDOW_BUDGET),
            now: Duration::ZERO,
            declined: Vec::new(),
        }
    }

    pub(crate) fn state(&self, leg: Leg) -> Option<OpenState> {
        self.links[&leg.link].state(leg.open)
    }

    fn state_at(&self, at: usize, place: Place) -> Option<OpenState> {
        self.state(self.connections[at].leg(place)?)
    }

    /// The current leg's state; one that is gone is free.
    fn current(&self, at: usize) -> OpenState {
        self.state_at(at, Place::Current)
            .unwrap_or(OpenState::free(self.role, LinkKind::Channel))
    }

    fn link(&mut self, leg: Leg) -> &mut LinkEnd {
        self.links.get_mut(&leg.link).expect("a known link")
    }

    fn put(&mut self, leg: Leg, kind: FrameType, payload: &[u8]) -> Result<(), String> {
        let put = self.link(leg).put(kind, leg.open, payload);
        put.map_err(|e| format!("own {kind}: {e}"))
    }

    /// Edge: begins a connection on a link.
    pub(crate) fn open(&mut self, id: u32, script: &Script, link: u64) -> Leg {
        let first = (0..script.first)
            .map(|index| super::connection::byte(id, Role::Edge, index))
            .collect::<Vec<_>>();
        let end = self.links.get_mut(&link).expect("a known link");
        let open = end.begin(None, &first);
        let leg = end.leg(open);
        let connection = Connection::new(id, Role::Edge, script.clone(), leg);
        self.connections.push(connection);
        leg
    }

    /// Edge: begins a move of a connection, if it may now.
    pub(crate) fn start_move(&mut self, at: usize, link: u64) -> Result<bool, String> {
        let Some(current) = self.state_at(at, Place::Current) else {
            return Ok(false);
        };
        let mover = &self.connections[at].mover;
        if !mover.may_move(&current) || !self.links[&link].has_room() {
            return Ok(false);
        }
        let from = mover.current();
        let end = self.links.get_mut(&link).expect("a known link");
        let open = end.begin(Some(from), &[]);
        let leg = end.leg(open);
        let answer = self.connections[at].mover.start(leg);
        self.connections[at].moves += 1;
        self.act(at, leg, answer)?;
        Ok(true)
    }

    fn act(&mut self, at: usize, leg: Leg, answer: Answer) -> Result<(), String> {
        let now = self.now;
        match answer {
            Answer::Wait => self.connections[at].attach(leg, now),
            Answer::Switch { to, end } => {
                let current = self.connections[at].mover.current();
                let wrong_by = u64::from(self.fault == Fault::CountsWrong);
                let switched = self.link(current).put_switch(current.open, to, wrong_by);
                switched.map_err(wrong)?;
                self.connections[at].attach(to, now);
                if end && self.fault != Fault::ForgetsEnd {
                    self.put(to, FrameType::End, b"")?;
                }
            }
            Answer::Decline(kind) => self.decline(leg, kind)?,
        }
        Ok(())
    }

    fn decline(&mut self, leg: Leg, kind: FrameType) -> Result<(), String> {
        if self.fault != Fault::IgnoresResume {
            self.put(leg, kind, b"")?;
        }
        self.declined.push(leg);
        Ok(())
    }

    /// This side's connection is reset locally.
    pub(crate) fn reset(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if !connection.done && !connection.mover.is_complete() {
            connection.spared = connection.mover.next();
            connection.mover.reset();
            connection.undecided = false;
        }
    }

    /// A link is gone, with what was in flight.
    pub(crate) fn lose(&mut self, link: u64) {
        for at in 0..self.connections.len() {
            let current = self.current(at);
            let connection = &mut self.connections[at];
            for place in [Place::Next, Place::Current] {
                let on_it = connection.leg(place).is_some_and(|leg| leg.link == link);
                if on_it && !connection.done {
                    connection.mover.on_lost(place, &current);
                    connection.mover.on_gone(place);
                    connection.undecided &= !connection.mover.is_reset();
                }
            }
        }
        self.declined.retain(|leg| leg.link != link);
        let end = self.links.get_mut(&link).expect("a known link");
        end.broken = true;
        end.wire.clear();
    }

    /// Whether this side takes bytes off a link now. From a channel they are read when the reader of its
    /// connection gets there, from a carrier always.
    pub(crate) fn reads_from(&self, link: u64) -> bool {
        let end = &self.links[&link];
        let Some(open) = end.current() else {
            return true;
        };
        let leg = end.leg(open);
        let mut owner = self.connections.iter();
        let Some(owner) = owner.find(|connection| connection.place(leg).is_some()) else {
            return true;
        };
        owner.mover.is_reset()
            || owner.mover.is_complete()
            || self.fault == Fault::ReadsEarly
            || owner.mover.reads() == owner.place(leg) && owner.inbox[&leg].len() < 4
    }

    pub(crate) fn receive(
        &mut self,
        link: u64,
        bytes: &[u8],
        registry: &Registry,
    ) -> Result<(), String> {
        let end = self.links.get_mut(&link).expect("a known link");
        let items = end.receive(bytes).map_err(wrong)?;
        for (open, item) in items {
            self.take(Leg { link, open }, item, registry)?;
        }
        Ok(())
    }

    fn take(&mut self, leg: Leg, item: Item, registry: &Registry) -> Result<(), String> {
        match item {
            Item::Open(first) => {
                let (id, script) = registry[&leg].clone();
                let mut connection = Connection::new(id, self.role, script, leg);
                connection.delivered.extend(first);
                self.connections.push(connection);
                return Ok(());
            }
            Item::Resume(continues) => return self.take_resume(leg, continues),
            _ => {}
        }
        let mut owners = (0..self.connections.len()).rev();
        let Some(at) = owners.find(|at| self.connections[*at].place(leg).is_some()) else {
            return Ok(());
        };
        let current = self.current(at);
        let late = self.fault == Fault::HeedsLateReset;
        let connection = &mut self.connections[at];
        let place = connection.place(leg).expect("it was found by it");
        let inbox = connection.inbox.get_mut(&leg).expect("it is attached");
        match item {
            Item::Bytes(bytes) => inbox.push_back(Waiting::Bytes(bytes)),
            Item::End => inbox.push_back(Waiting::End),
            Item::Switch(to) => {
                inbox.push_back(Waiting::Switched);
                let answer = connection.mover.on_switch(to, &current).map_err(wrong)?;
                if answer != Answer::Wait {
                    self.act(at, to, answer)?;
                }
            }
            Item::Refused => connection.mover.reset(),
            Item::Reset if late => connection.mover.reset(),
            Item::Reset => {
                connection.mover.on_reset(place, &current);
                connection.undecided &= !connection.mover.is_reset();
            }
            Item::Released => self.check_gone(at),
            Item::Opened | Item::Credit | Item::Move | Item::Open(_) | Item::Resume(_) => {}
        }
        Ok(())
    }

    fn take_resume(&mut self, leg: Leg, continues: Leg) -> Result<(), String> {
        let mut owners = (0..self.connections.len()).rev();
        let owner = owners.find(|at| {
            let connection = &self.connections[*at];
            !connection.done && connection.mover.current() == continues
        });
        let Some(at) = owner else {
            let entry = self.state(continues);
            let kind = entry.map_or(FrameType::Reset, |open| open.answer_to_resume());
            return self.decline(leg, kind);
        };
        let current = self.current(at);
        let mover = &mut self.connections[at].mover;
        let answer = mover.on_resume(leg, &current).map_err(wrong)?;
        self.act(at, leg, answer)
    }

    /// One thing that a connection does: closes what is due, reads, or sends. False when it has nothing
    /// to do now.
    pub(crate) fn step(&mut self, at: usize) -> Result<bool, String> {
        if self.connections[at].done {
            return Ok(false);
        }
        self.check_gone(at);
        // In whatever order it comes to them.
        for turn in 0..3 {
            let did = match (self.now.as_millis() + turn) % 3 {
                0 => self.close_due(at)?,
                1 => self.read(at)?,
                _ => self.send(at)?,
            };
            if did {
                return Ok(true);
            }
        }
        Ok(self.finish(at))
    }

    /// Settles legs that no connection had a use for.
    pub(crate) fn settle_declined(&mut self) -> Result<bool, String> {
        let mut moved = false;
        for leg in std::mem::take(&mut self.declined) {
            match self.state(leg) {
                Some(state) if state.may_release() => {
                    self.put(leg, FrameType::Released, b"")?;
                    moved = true;
                }
                Some(state) if !state.has_released() => self.declined.push(leg),
                _ => {}
            }
        }
        Ok(moved)
    }

    fn check_gone(&mut self, at: usize) {
        let mover = self.connections[at].mover;
        let current = self.state_at(at, Place::Current);
        if mover.next().is_some() && current.is_none_or(|leg| mover.is_gone(&leg)) {
            let connection = &mut self.connections[at];
            connection.inbox.remove(&mover.current());
            if let Some(mut window) = connection.windows.remove(&mover.current()) {
                window.close(&self.budget);
            }
            connection.mover.on_gone(Place::Current);
        }
    }

    fn close_due(&mut self, at: usize) -> Result<bool, String> {
        let (current, next) = (
            self.state_at(at, Place::Current),
            self.state_at(at, Place::Next),
        );
        let due = self.connections[at]
            .mover
            .due(current.as_ref(), next.as_ref());
        let Some((place, kind)) = due else {
            return Ok(false);
        };
        let leg = self.connections[at].leg(place).expect("due on a leg");
        let skips = match self.fault {
            Fault::ResetsOneLeg => {
                kind == FrameType::Reset && self.connections[at].spared == Some(leg)
            }
            Fault::ForgetsEnd => kind == FrameType::End,
            _ => false,
        };
        if skips {
            return Ok(false);
        }
        self.put(leg, kind, b"")?;
        Ok(true)
    }

    fn read(&mut self, at: usize) -> Result<bool, String> {
        let connection = &mut self.connections[at];
        let place = match connection.mover.next() {
            Some(next)
                if self.fault == Fault::ReadsEarly && !connection.inbox[&next].is_empty() =>
            {
                Some(Place::Next)
            }
            _ => connection.mover.reads(),
        };
        let leg = place.and_then(|place| connection.leg(place));
        if connection.mover.is_reset() {
            return Ok(false);
        }
        let Some(leg) = leg else {
            return Ok(false);
        };
        let waiting = connection
            .inbox
            .get_mut(&leg)
            .and_then(|inbox| inbox.pop_front());
        match waiting {
            None => return Ok(false),
            Some(Waiting::End) => {
                connection.mover.on_end();
                connection.peer_ended = true;
            }
            Some(Waiting::Switched) => connection.mover.on_read_through(),
            Some(Waiting::Bytes(bytes)) => {
                connection.mover.on_data().map_err(wrong)?;
                connection.delivered.extend(&bytes);
                let count = u32::try_from(bytes.len()).expect("a frame");
                let window = connection.windows.get_mut(&leg).expect("an attached leg");
                let carrier = self.links[&leg.link].kind() == LinkKind::Carrier;
                let grant = carrier
                    .then(|| window.consume(self.now, count, RTT, &self.budget))
                    .flatten();
                let part = if self.fault == Fault::GrantsHalf {
                    2
                } else {
                    1
                };
                if let Some(bytes) = grant {
                    self.link(leg).grant(leg.open, bytes / part);
                }
            }
        }
        Ok(true)
    }

    fn send(&mut self, at: usize) -> Result<bool, String> {
        let connection = &mut self.connections[at];
        let wrote = match self.fault {
            Fault::WritesOld => Place::Current,
            _ => connection.mover.writes(),
        };
        let leg = connection.leg(wrote).expect("it writes somewhere");
        if connection.undecided {
            connection.undecided = false;
            let refuses = connection.script.refuses;
            if refuses {
                connection.mover.reset();
                return self.put(leg, FrameType::Refused, b"{}").map(|()| true);
            }
            return self.put(leg, FrameType::Opened, b"").map(|()| true);
        }
        let Some(state) = self.state(leg) else {
            return Ok(false);
        };
        let connection = &mut self.connections[at];
        if connection.mover.is_reset() || connection.ended {
            return Ok(false);
        }
        if let Some(size) = connection.frames.front().copied() {
            return self.send_data(at, leg, &state, size);
        }
        let first = connection.script.last_to_end != Some(self.role) || connection.peer_ended;
        if !first || !state.may_end() {
            return Ok(false);
        }
        connection.ended = true;
        connection.mover.end();
        self.put(leg, FrameType::End, b"").map(|()| true)
    }

    fn send_data(
        &mut self,
        at: usize,
        leg: Leg,
        state: &OpenState,
        size: usize,
    ) -> Result<bool, String> {
        let reckless = match self.fault {
            Fault::IgnoresCredit => state.may_send_data(),
            Fault::WritesOld => self.connections[at].mover.writes() != Place::Current,
            _ => false,
        };
        let count = if reckless {
            size
        } else {
            size.min(state.room())
        };
        if count == 0 {
            return Ok(false);
        }
        let connection = &mut self.connections[at];
        connection.frames.pop_front();
        if count < size {
            connection.frames.push_front(size - count);
        }
        let bytes = connection.produce(count);
        if reckless {
            self.link(leg)
                .put_wrongly(FrameType::Data, leg.open, &bytes);
            return Ok(true);
        }
        self.put(leg, FrameType::Data, &bytes).map(|()| true)
    }

    /// Lets the connection go when it has said its last word on every leg.
    fn finish(&mut self, at: usize) -> bool {
        let mover = self.connections[at].mover;
        let live = [Place::Current, Place::Next].into_iter().any(|place| {
            let state = self.state_at(at, place);
            state.is_some_and(|state| !state.has_released())
        });
        let over = mover.is_complete() || mover.is_reset();
        if live || !over {
            return false;
        }
        let connection = &mut self.connections[at];
        connection.done = true;
        for window in connection.windows.values_mut() {
            window.close(&self.budget);
        }
        true
    }
}
