//! One end of a link: frames out, bytes in, the state machines asked before either.

use std::collections::{BTreeMap, VecDeque};

use portcullis_proto::{
    CarrierState, ChannelState, FrameType, Header, Incoming, Leg, LinkKind, OpenState, Role,
    Violation, frame,
};

/// What arrived for an open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Open(Vec<u8>),
    Opened,
    Refused,
    Bytes(Vec<u8>),
    End,
    Reset,
    Released,
    Credit,
    Switch(Leg),
    Resume(Leg),
    Move,
}

enum Opens {
    Channel(ChannelState),
    Carrier(CarrierState, BTreeMap<u32, OpenState>),
}

struct Reading {
    header: Header,
    incoming: Incoming,
    payload: Vec<u8>,
}

/// One end of a link and what it has put on the wire.
pub(crate) struct LinkEnd {
    pub(crate) number: u64,
    role: Role,
    opens: Opens,
    pub(crate) wire: VecDeque<u8>,
    header: Vec<u8>,
    reading: Option<Reading>,
    pub(crate) broken: bool,
}

impl LinkEnd {
    pub(crate) fn new(number: u64, kind: LinkKind, role: Role) -> Self {
        Self {
            number,
            role,
            opens: match kind {
                LinkKind::Channel => Opens::Channel(ChannelState::new(role)),
                LinkKind::Carrier => Opens::Carrier(CarrierState::new(role), BTreeMap::new()),
            },
            wire: VecDeque::new(),
            header: Vec::new(),
            reading: None,
            broken: false,
        }
    }

    pub(crate) fn kind(&self) -> LinkKind {
        match self.opens {
            Opens::Channel(_) => LinkKind::Channel,
            Opens::Carrier(..) => LinkKind::Carrier,
        }
    }

    pub(crate) fn leg(&self, open: u32) -> Leg {
        Leg {
            link: self.number,
            open,
        }
    }

    /// The channel's current open, if it has one.
    pub(crate) fn current(&self) -> Option<u32> {
        match &self.opens {
            Opens::Channel(channel) => channel.current(),
            Opens::Carrier(..) => None,
        }
    }

    /// The state of an open that lives.
    pub(crate) fn state(&self, open: u32) -> Option<OpenState> {
        match &self.opens {
            _ if self.broken => None,
            Opens::Channel(channel) => (channel.current() == Some(open)).then(|| *channel.open()),
            Opens::Carrier(_, table) => table.get(&open).copied(),
        }
    }

    /// States of all opens that live.
    pub(crate) fn states(&self) -> Vec<(u32, OpenState)> {
        match &self.opens {
            Opens::Channel(channel) => channel
                .current()
                .map(|open| (open, *channel.open()))
                .into_iter()
                .collect(),
            Opens::Carrier(_, table) => table.iter().map(|(open, state)| (*open, *state)).collect(),
        }
    }

    /// Whether nothing lives on it, and an open could begin.
    pub(crate) fn is_free(&self) -> bool {
        match &self.opens {
            _ if self.broken => false,
            Opens::Channel(channel) => channel.is_free() && self.reading.is_none(),
            Opens::Carrier(_, table) => table.is_empty(),
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.broken && (self.kind() == LinkKind::Carrier || self.is_free())
    }

    fn raw(&mut self, kind: FrameType, open: u32, payload: &[u8]) {
        let header = Header::new(kind, open, payload.len()).unwrap();
        self.wire.extend(header.encode());
        self.wire.extend(payload);
    }

    /// Begins an open with OPEN and first bytes, or with RESUME.
    pub(crate) fn begin(&mut self, resume: Option<Leg>, first: &[u8]) -> u32 {
        let open = match (&mut self.opens, resume) {
            (Opens::Channel(channel), None) => channel.open_next(),
            (Opens::Channel(channel), Some(_)) => channel.resume_next(),
            (Opens::Carrier(carrier, table), None) => insert(table, carrier.open_next()),
            (Opens::Carrier(carrier, table), Some(_)) => insert(table, carrier.resume_next()),
        }
        .unwrap();
        match resume {
            Some(leg) => self.raw(FrameType::Resume, open, &leg.encode()),
            None => {
                let payload = [&[0, 0], first].concat();
                self.raw(FrameType::Open, open, &payload);
                self.note_first_bytes(open, first.len());
            }
        }
        open
    }

    pub(crate) fn note_first_bytes(&mut self, open: u32, count: usize) {
        match &mut self.opens {
            Opens::Channel(channel) => channel.note_first_bytes(count),
            Opens::Carrier(_, table) => table
                .get_mut(&open)
                .expect("it has just begun")
                .note_first_bytes(count),
        }
    }

    /// Sends a frame that the state allows; anything else is an error of this test's driver.
    pub(crate) fn put(
        &mut self,
        kind: FrameType,
        open: u32,
        payload: &[u8],
    ) -> Result<(), Violation> {
        match &mut self.opens {
            Opens::Channel(channel) => {
                channel.on_send(&Header::new(kind, open, payload.len()).unwrap())?;
            }
            Opens::Carrier(_, table) => {
                let state = table.get_mut(&open).expect("an open that lives");
                state.on_send(kind, payload.len())?;
            }
        }
        self.raw(kind, open, payload);
        self.forget(open);
        Ok(())
    }

    /// Sends a frame whatever the state says: what a faulty peer does.
    pub(crate) fn put_wrongly(&mut self, kind: FrameType, open: u32, payload: &[u8]) {
        self.raw(kind, open, payload);
    }

    pub(crate) fn put_switch(
        &mut self,
        open: u32,
        to: Leg,
        wrong_by: u64,
    ) -> Result<(), Violation> {
        let mut payload = match &mut self.opens {
            Opens::Channel(channel) => channel.switch(to)?,
            Opens::Carrier(_, table) => table
                .get_mut(&open)
                .expect("an open that lives")
                .switch(to)?,
        };
        payload.offset += wrong_by;
        self.raw(FrameType::Switch, open, &payload.encode());
        Ok(())
    }

    /// Grants credit if that still makes sense.
    pub(crate) fn grant(&mut self, open: u32, bytes: u32) {
        let Opens::Carrier(_, table) = &mut self.opens else {
            return;
        };
        let Some(state) = table.get_mut(&open) else {
            return;
        };
        if !state.peer_ended() && state.grant(bytes).is_ok() {
            self.raw(FrameType::Credit, open, &frame::encode_credit(bytes));
        }
    }

    fn forget(&mut self, open: u32) {
        if let Opens::Carrier(carrier, table) = &mut self.opens
            && table.get(&open).is_some_and(OpenState::is_free)
        {
            table.remove(&open);
            carrier.on_gone();
        }
    }

    /// Takes bytes off the wire.
    pub(crate) fn receive(&mut self, mut bytes: &[u8]) -> Result<Vec<(u32, Item)>, Violation> {
        let mut items = Vec::new();
        while let Some((byte, rest)) = bytes.split_first() {
            if let Some(reading) = &mut self.reading {
                let missing = usize::from(reading.header.length) - reading.payload.len();
                let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
                reading.payload.extend(taken);
                bytes = rest;
                let (open, incoming) = (reading.header.open, reading.incoming);
                // A RESET that went out meanwhile makes the rest waste.
                let wanted = self.state(open).is_some_and(|state| !state.is_discarding());
                if incoming == Incoming::Deliver && wanted {
                    items.push((open, Item::Bytes(taken.to_vec())));
                }
            } else {
                self.header.push(*byte);
                bytes = rest;
                self.on_header()?;
            }
            if self
                .reading
                .as_ref()
                .is_some_and(|reading| reading.payload.len() == usize::from(reading.header.length))
                && let Some(Reading {
                    header,
                    incoming,
                    payload,
                }) = self.reading.take()
                && let Some(item) = self.item(header.open, incoming, &payload)?
            {
                items.push((header.open, item));
            }
        }
        Ok(items)
    }

    fn on_header(&mut self) -> Result<(), Violation> {
        let Ok(bytes) = <[u8; 8]>::try_from(self.header.as_slice()) else {
            return Ok(());
        };
        self.header.clear();
        let header = Header::decode(bytes)?;
        let incoming = match &mut self.opens {
            Opens::Channel(channel) => channel.on_recv(&header)?,
            Opens::Carrier(carrier, table) => match table.get_mut(&header.open) {
                Some(state) => state.on_recv(header.kind, usize::from(header.length))?,
                None => {
                    let (state, incoming) = carrier.on_unknown(&header)?;
                    table.insert(header.open, state);
                    incoming
                }
            },
        };
        self.reading = Some(Reading {
            header,
            incoming,
            payload: Vec::new(),
        });
        Ok(())
    }

    fn item(
        &mut self,
        open: u32,
        incoming: Incoming,
        payload: &[u8],
    ) -> Result<Option<Item>, Violation> {
        Ok(Some(match incoming {
            Incoming::Discard | Incoming::Deliver => return Ok(None),
            Incoming::Open => {
                self.note_first_bytes(open, payload.len() - 2);
                Item::Open(payload[2..].to_vec())
            }
            Incoming::Opened => Item::Opened,
            Incoming::Refused => Item::Refused,
            Incoming::End => Item::End,
            Incoming::Reset => Item::Reset,
            Incoming::Released => {
                self.forget(open);
                Item::Released
            }
            Incoming::Move => Item::Move,
            Incoming::Resume => Item::Resume(Leg::decode(payload)?),
            // Cut while its payload was on the way.
            _ if self.state(open).is_none_or(|state| state.is_discarding()) => return Ok(None),
            Incoming::Credit => {
                if let Opens::Carrier(_, table) = &mut self.opens
                    && let Some(state) = table.get_mut(&open)
                {
                    state.on_credit(payload)?;
                }
                Item::Credit
            }
            Incoming::Switch => Item::Switch(match &mut self.opens {
                Opens::Channel(channel) => channel.on_switch(payload)?,
                Opens::Carrier(_, table) => table[&open].on_switch(payload)?,
            }),
        }))
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }
}

fn insert(
    table: &mut BTreeMap<u32, OpenState>,
    begun: Result<(u32, OpenState), Violation>,
) -> Result<u32, Violation> {
    let (open, state) = begun?;
    table.insert(open, state);
    Ok(open)
}
