//! One client connection at one end: what it sends, what it was handed, and where it is.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use portcullis_proto::{Leg, Mover, Place, Role, Window};

/// What both ends do when nothing disturbs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// Bytes that travel in OPEN.
    pub(crate) first: usize,
    /// Sizes of the edge's DATA frames.
    pub(crate) edge: Vec<usize>,
    /// Sizes of the agent's DATA frames.
    pub(crate) agent: Vec<usize>,
    /// Whether the agent refuses.
    pub(crate) refuses: bool,
    /// Whether this side ends its direction only after the other has.
    pub(crate) last_to_end: Option<Role>,
}

/// The byte at `index` of a direction; another connection has others.
pub(crate) fn byte(connection: u32, from: Role, index: usize) -> u8 {
    let side = usize::from(from == Role::Agent);
    let mixed = (index + 7919 * connection as usize + 104_729 * side).wrapping_mul(0x9E37_79B9);
    u8::try_from((mixed >> 16) & 0xFF).unwrap()
}

/// What waits for the reader on one leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waiting {
    Bytes(Vec<u8>),
    End,
    Switched,
}

/// One end of a connection.
pub(crate) struct Connection {
    pub(crate) id: u32,
    pub(crate) role: Role,
    pub(crate) script: Script,
    pub(crate) mover: Mover,
    pub(crate) frames: VecDeque<usize>,
    /// Whether the agent's verdict is still to be said.
    pub(crate) undecided: bool,
    pub(crate) sent: usize,
    pub(crate) delivered: Vec<u8>,
    pub(crate) inbox: BTreeMap<Leg, VecDeque<Waiting>>,
    pub(crate) windows: BTreeMap<Leg, Window>,
    pub(crate) ended: bool,
    /// The peer's END was read.
    pub(crate) peer_ended: bool,
    /// The connection is over, and its legs are the links' business.
    pub(crate) done: bool,
    pub(crate) moves: u32,
    /// The next leg when this side reset the connection, which a faulty side forgets.
    pub(crate) spared: Option<Leg>,
}

impl Connection {
    pub(crate) fn new(id: u32, role: Role, script: Script, leg: Leg) -> Self {
        let frames = match role {
            Role::Edge => script.edge.iter().copied().collect(),
            Role::Agent => script.agent.iter().copied().collect(),
        };
        let mut connection = Self {
            id,
            role,
            undecided: role == Role::Agent,
            sent: if role == Role::Edge { script.first } else { 0 },
            script,
            mover: Mover::new(role, leg),
            frames,
            delivered: Vec::new(),
            inbox: BTreeMap::new(),
            windows: BTreeMap::new(),
            ended: false,
            peer_ended: false,
            done: false,
            moves: 0,
            spared: None,
        };
        connection.attach(leg, Duration::ZERO);
        connection
    }

    pub(crate) fn attach(&mut self, leg: Leg, now: Duration) {
        self.inbox.entry(leg).or_default();
        self.windows.insert(leg, Window::new(now));
    }

    pub(crate) fn leg(&self, place: Place) -> Option<Leg> {
        match place {
            Place::Current => Some(self.mover.current()),
            Place::Next => self.mover.next(),
        }
    }

    pub(crate) fn place(&self, leg: Leg) -> Option<Place> {
        [Place::Current, Place::Next]
            .into_iter()
            .find(|place| !self.done && self.leg(*place) == Some(leg))
    }

    /// The next `count` bytes of this side's direction.
    pub(crate) fn produce(&mut self, count: usize) -> Vec<u8> {
        let bytes = (self.sent..self.sent + count)
            .map(|index| byte(self.id, self.role, index))
            .collect();
        self.sent += count;
        bytes
    }

    /// Whether what was handed on is a prefix of what the peer sent, byte for byte.
    pub(crate) fn check_prefix(&self, peer: &Self) -> Result<(), String> {
        let right = self
            .delivered
            .iter()
            .enumerate()
            .all(|(index, got)| *got == byte(self.id, peer.role, index));
        if !right || self.delivered.len() > peer.sent {
            return Err(format!(
                "connection {}: {:?} was handed {} bytes of {}, and not in order",
                self.id,
                self.role,
                self.delivered.len(),
                peer.sent
            ));
        }
        if self.peer_ended && self.delivered.len() != peer.sent {
            return Err(format!(
                "connection {} looks complete at the {:?} with {} bytes of {}",
                self.id,
                self.role,
                self.delivered.len(),
                peer.sent
            ));
        }
        Ok(())
    }
}
