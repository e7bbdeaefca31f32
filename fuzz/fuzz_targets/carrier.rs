//! A carrier whose peer sends any frames for any opens, while this side does what it may and a
//! connection on each open moves as the peer says. Bytes are delivered within their credit and to opens
//! that live, what falls due may be sent, and no number comes twice.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use portcullis_proto::defaults::WINDOW_INITIAL;
use portcullis_proto::{
    CarrierState, FrameType, Header, Incoming, Leg, Mover, OpenState, Place, Role, Switch,
    Violation, frame,
};

/// An open, its connection, and what passed for it.
struct Open {
    state: OpenState,
    mover: Mover,
    granted: u64,
    delivered: u64,
}

struct Carrier {
    state: CarrierState,
    table: BTreeMap<u32, Open>,
    highest: u32,
}

impl Carrier {
    fn insert(&mut self, number: u32, state: OpenState) {
        assert!(number > self.highest, "a number comes twice");
        self.highest = number;
        let leg = Leg {
            link: 1,
            open: number,
        };
        let mover = Mover::new(self.state.role(), leg);
        let open = Open {
            state,
            mover,
            granted: u64::from(WINDOW_INITIAL),
            delivered: 0,
        };
        self.table.insert(number, open);
    }

    /// What this side does between two frames of the peer, as the input says.
    fn act(&mut self, choice: u8, near: u32) {
        let kind = FrameType::ALL[usize::from(choice) % FrameType::ALL.len()];
        let begun = match kind {
            FrameType::Open => Some(self.state.open_next()),
            FrameType::Resume => Some(self.state.resume_next()),
            _ => None,
        };
        if let Some(begun) = begun {
            assert_eq!(begun.is_ok(), self.state.role() == Role::Edge);
            if let Ok((number, state)) = begun {
                self.insert(number, state);
            }
            return;
        }
        let Some(open) = self.table.get_mut(&near) else {
            return;
        };
        match kind {
            FrameType::Credit => {
                if open.state.grant(u32::from(choice)).is_ok() {
                    open.granted += u64::from(choice);
                }
            }
            FrameType::Switch => {
                let to = Leg { link: 2, open: 1 };
                if open.mover.may_move(&open.state) {
                    open.mover.start(to);
                    let sent = open.state.sent();
                    let switch = open.state.switch(to).expect("a move may begin");
                    assert_eq!(switch, Switch { to, offset: sent });
                }
            }
            FrameType::Reset => open.mover.reset(),
            _ => {
                let least = kind.payload_bounds().0;
                if open.state.on_send(kind, least).is_ok() && kind == FrameType::End {
                    open.mover.end();
                }
            }
        }
        self.settle(near);
    }

    /// Sends what falls due, and forgets the open when both sides have released it.
    fn settle(&mut self, number: u32) {
        let Some(open) = self.table.get_mut(&number) else {
            return;
        };
        while let Some((place, kind)) = open.mover.due(Some(&open.state), None) {
            assert_eq!(place, Place::Current);
            open.state.on_send(kind, 0).expect("what is due is allowed");
        }
        if open.state.is_free() {
            self.table.remove(&number);
            self.state.on_gone();
        }
    }

    fn receive(&mut self, header: &Header, payload: &[u8]) -> Result<(), Violation> {
        let Header { kind, open, length } = *header;
        let Some(entry) = self.table.get_mut(&open) else {
            let (mut state, _) = self.state.on_unknown(header)?;
            state.note_first_bytes(payload.len());
            self.insert(open, state);
            return Ok(());
        };
        let (before, mover) = (entry.state, &mut entry.mover);
        match entry.state.on_recv(kind, usize::from(length))? {
            Incoming::Deliver => {
                assert!(!before.is_discarding() && !before.peer_ended());
                entry.delivered += u64::from(length);
                assert!(
                    entry.delivered <= entry.granted,
                    "more than there was credit for"
                );
                mover.on_data().ok();
            }
            Incoming::Discard if kind == FrameType::Data => {
                entry.delivered += u64::from(length);
                assert!(
                    entry.delivered <= entry.granted,
                    "more than there was credit for"
                );
            }
            Incoming::Credit => {
                let more = entry.state.on_credit(payload)?;
                assert_eq!(entry.state.credit(), before.credit() + more);
            }
            Incoming::Switch => {
                let to = entry.state.on_switch(payload)?;
                if mover.on_switch(to, &entry.state).is_ok() {
                    mover.on_read_through();
                }
            }
            Incoming::End => mover.on_end(),
            Incoming::Reset => {
                mover.on_reset(Place::Current, &entry.state);
            }
            Incoming::Refused => mover.reset(),
            _ => {}
        }
        self.settle(open);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((role, mut rest)) = data.split_first() else {
        return;
    };
    let role = if role % 2 == 0 {
        Role::Edge
    } else {
        Role::Agent
    };
    let mut carrier = Carrier {
        state: CarrierState::new(role),
        table: BTreeMap::new(),
        highest: 0,
    };
    while let Some(([choice, head @ ..], tail)) = rest.split_first_chunk::<9>() {
        let Ok(header) = Header::decode(*head) else {
            return;
        };
        assert_eq!(header.encode(), *head);
        carrier.act(*choice, header.open);
        let Some((payload, tail)) = tail.split_at_checked(usize::from(header.length)) else {
            return;
        };
        if let Ok(switch) = Switch::decode(payload) {
            assert_eq!(switch.encode(), payload);
        }
        if let Ok(credit) = frame::decode_credit(payload) {
            assert_eq!(frame::encode_credit(credit), payload);
        }
        if carrier.receive(&header, payload).is_err() {
            return;
        }
        assert_eq!(carrier.state.live() as usize, carrier.table.len());
        rest = tail;
    }
});
