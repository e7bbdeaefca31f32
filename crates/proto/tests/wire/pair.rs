//! Two ends of a data channel with bytes in flight between them. Each end behaves as `net::channel`
//! does: it asks [`ChannelState`] before each frame, reads payloads in whatever pieces arrive, and
//! answers what it must. What it sends for open n consists of n's tag alone, so that a byte that ends
//! up with another open shows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use portcullis_proto::{ChannelState, FrameType, Header, Incoming, Role};

/// What both ends do with an open when nothing disturbs them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    /// Sizes of the DATA frames that the edge sends.
    pub(crate) edge: &'static [usize],
    /// Sizes of the DATA frames that the agent sends.
    pub(crate) agent: &'static [usize],
    /// Whether the agent refuses.
    pub(crate) refuses: bool,
    /// Whether this side ends its direction only after the other has.
    pub(crate) last_to_end: Option<Role>,
}

/// What travels with an OPEN as the client's first bytes.
pub(crate) const FIRST_BYTES: usize = 3;

#[derive(Debug)]
struct Reading {
    header: Header,
    verdict: Incoming,
    missing: usize,
}

/// One end and what it has put on the wire.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) state: ChannelState,
    pub(crate) wire: VecDeque<u8>,
    pub(crate) script: Script,
    /// Opens that the edge still begins.
    pub(crate) opens_left: u32,
    pub(crate) sent: BTreeMap<u32, Vec<u8>>,
    pub(crate) delivered: BTreeMap<u32, Vec<u8>>,
    /// Opens whose bytes the peer ended with END, seen by a reader who still cared.
    pub(crate) complete: BTreeSet<u32>,
    header: Vec<u8>,
    reading: Option<Reading>,
    frames_left: VecDeque<usize>,
    undecided: bool,
    ended: bool,
    cut: bool,
    peer_cut: bool,
}

impl End {
    pub(crate) fn new(role: Role, script: Script, opens: u32) -> Self {
        Self {
            state: ChannelState::new(role),
            wire: VecDeque::new(),
            script,
            opens_left: opens,
            sent: BTreeMap::new(),
            delivered: BTreeMap::new(),
            complete: BTreeSet::new(),
            header: Vec::new(),
            reading: None,
            frames_left: VecDeque::new(),
            undecided: false,
            ended: false,
            cut: false,
            peer_cut: false,
        }
    }

    fn tag(&self, open: u32) -> u8 {
        let low = u8::try_from(open % 128).unwrap();
        if self.state.role() == Role::Edge {
            low
        } else {
            low | 0x80
        }
    }

    fn begin(&mut self) {
        let edge = self.state.role() == Role::Edge;
        let sizes = if edge {
            self.script.edge
        } else {
            self.script.agent
        };
        self.frames_left = sizes.iter().copied().collect();
        self.undecided = !edge;
        (self.ended, self.cut, self.peer_cut) = (false, false, false);
    }

    fn put(&mut self, kind: FrameType, open: u32, payload: &[u8]) {
        let header = Header::new(kind, open, payload.len()).unwrap();
        self.wire.extend(header.encode());
        self.wire.extend(payload);
    }

    fn send(&mut self, kind: FrameType, payload: &[u8]) {
        let open = self.state.current().expect("an open goes on");
        let header = Header::new(kind, open, payload.len()).unwrap();
        self.state.on_send(&header).unwrap();
        self.put(kind, open, payload);
    }

    fn note_sent(&mut self, open: u32, count: usize) {
        let bytes = vec![self.tag(open); count];
        self.sent.entry(open).or_default().extend(bytes);
    }

    /// Sends at most one frame: whatever is next. False when there is nothing to send now.
    pub(crate) fn step(&mut self) -> bool {
        if self.state.is_closed() {
            return false;
        }
        let Some(open) = self.state.current() else {
            return self.step_free();
        };
        if self.undecided && self.reading.is_none() && !self.cut && !self.peer_cut {
            self.undecided = false;
            let refuses = self.script.refuses;
            self.cut = refuses;
            if refuses {
                self.send(FrameType::Refused, b"{}")
            } else {
                self.send(FrameType::Opened, b"")
            }
        } else if self.peer_cut && !self.cut && !self.ended && !self.state.may_release() {
            self.reset();
        } else if self.state.may_send_data()
            && !self.ended
            && !self.peer_cut
            && !self.frames_left.is_empty()
        {
            let count = self.frames_left.pop_front().unwrap();
            self.note_sent(open, count);
            let payload = vec![self.tag(open); count];
            self.send(FrameType::Data, &payload);
        } else if self.state.may_send_data() && !self.ended && !self.peer_cut && self.may_end() {
            self.ended = true;
            self.send(FrameType::End, b"");
        } else if self.state.may_release() {
            self.send(FrameType::Released, b"");
        } else {
            return false;
        }
        true
    }

    fn may_end(&self) -> bool {
        self.script.last_to_end != Some(self.state.role()) || self.state.peer_ended()
    }

    fn step_free(&mut self) -> bool {
        if self.state.role() == Role::Agent || self.opens_left == 0 || self.reading.is_some() {
            return false;
        }
        self.opens_left -= 1;
        let open = self.state.open_next().unwrap();
        self.begin();
        self.note_sent(open, FIRST_BYTES);
        let mut payload = vec![0, 0];
        payload.extend(vec![self.tag(open); FIRST_BYTES]);
        self.put(FrameType::Open, open, &payload);
        true
    }

    /// Resets the current open, if there is one that this side hasn't cut or released.
    pub(crate) fn reset(&mut self) {
        let releasing =
            self.state.may_release() || !self.state.is_closed() && self.state.current().is_some();
        if !releasing || self.cut {
            return;
        }
        let open = self.state.current().expect("an open goes on");
        // After its RELEASED a side has nothing left to reset; that is not an error of the wire.
        let mut probe = self.state.clone();
        let reset = Header::new(FrameType::Reset, open, 0).unwrap();
        if probe.on_send(&reset).is_err() {
            return;
        }
        self.cut = true;
        self.send(FrameType::Reset, b"");
    }

    /// Takes one byte off the wire.
    pub(crate) fn receive(&mut self, byte: u8) {
        if self.state.is_closed() {
            return;
        }
        if let Some(reading) = &mut self.reading {
            reading.missing -= 1;
            let (open, verdict, missing) = (reading.header.open, reading.verdict, reading.missing);
            self.payload(open, verdict, missing, byte);
            if missing == 0 {
                self.reading = None;
            }
            return;
        }
        self.header.push(byte);
        let Ok(bytes) = <[u8; 8]>::try_from(self.header.as_slice()) else {
            return;
        };
        self.header.clear();
        let header = Header::decode(bytes).expect("an honest peer");
        let verdict = self
            .state
            .on_recv(&header)
            .unwrap_or_else(|e| panic!("{e}: {header:?}"));
        self.noted(header.open, verdict);
        if header.length > 0 {
            self.reading = Some(Reading {
                header,
                verdict,
                missing: usize::from(header.length),
            });
        }
    }

    fn payload(&mut self, open: u32, verdict: Incoming, missing: usize, byte: u8) {
        let first_byte = verdict == Incoming::Open && missing < FIRST_BYTES;
        if (first_byte || verdict == Incoming::Deliver) && !self.state.is_discarding() {
            assert_eq!(
                self.state.current(),
                Some(open),
                "delivered to another open"
            );
            self.delivered.entry(open).or_default().push(byte);
        }
    }

    fn noted(&mut self, open: u32, verdict: Incoming) {
        match verdict {
            Incoming::Open => self.begin(),
            Incoming::Reset | Incoming::Refused => self.peer_cut = true,
            Incoming::End if !self.state.is_discarding() => {
                self.complete.insert(open);
            }
            _ => {}
        }
    }
}

/// What must hold whatever happened: every byte belongs to its open, in order, and what looks
/// complete is complete.
pub(crate) fn check_bytes(from: &End, to: &End) {
    for (open, delivered) in &to.delivered {
        let sent = from.sent.get(open).map_or(&[] as &[u8], Vec::as_slice);
        assert!(
            sent.starts_with(delivered),
            "open {open}: {delivered:?} was delivered of {sent:?}"
        );
    }
    for open in &to.complete {
        assert_eq!(
            to.delivered.get(open),
            from.sent.get(open),
            "open {open} looks complete"
        );
    }
}
