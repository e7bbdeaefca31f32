//! Takes a carrier's bytes apart: frames, and whose they are.
//!
//! Must never: keep a payload that an open has room for.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_model::{Code, Error};
use portcullis_proto::defaults::{FRAME_HEADER_BYTES, REASON_BYTES_MAX};
use portcullis_proto::frame::decode_open;
use portcullis_proto::{EdgeMessage, FrameType, Header, Incoming, Leg, Role, codec};

use super::leg::CarrierLeg;
use super::slot::{Slot, Taken};
use super::{Shared, violation};
use crate::channel::{AgentOpening, Begun, Resumed};

/// What is being read.
enum Reading {
    /// A header; so many bytes of it are there.
    Header([u8; FRAME_HEADER_BYTES], usize),
    /// So many bytes are still to come for an open, or for nobody.
    Data(Option<Arc<Slot>>, usize),
    /// The payload of another frame, collected up to its length.
    Payload(Header, Vec<u8>),
    /// A control message in place of the first frame: the edge refuses the carrier.
    Refusal(Vec<u8>, usize),
}

pub(super) struct Demux {
    shared: Arc<Shared>,
    reading: Reading,
    /// No frame has arrived yet.
    fresh: bool,
    /// What the edge said when it refused the carrier.
    reason: Option<Error>,
}

const HEADER: Reading = Reading::Header([0; FRAME_HEADER_BYTES], 0);

impl Demux {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            reading: HEADER,
            fresh: true,
            reason: None,
        }
    }

    /// Why the carrier ended.
    pub(super) fn why(&mut self, source: io::Error) -> Error {
        self.reason.take().unwrap_or_else(|| {
            let code = match source.kind() {
                io::ErrorKind::InvalidData => Code::ProtocolViolation,
                _ => Code::AgentLost,
            };
            Error::new(code, "the carrier was closed").with_internal(source)
        })
    }

    /// Takes all of `bytes`.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        accept: &mut impl FnMut(Begun),
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            match &mut self.reading {
                Reading::Header(head, have) => {
                    let taken = bytes.len().min(FRAME_HEADER_BYTES - *have);
                    head[*have..*have + taken].copy_from_slice(&bytes[..taken]);
                    *have += taken;
                    bytes = &bytes[taken..];
                    if *have == FRAME_HEADER_BYTES {
                        let head = *head;
                        bytes = self.on_header(head, bytes, accept)?;
                    }
                }
                Reading::Data(slot, left) => {
                    let taken = bytes.len().min(*left);
                    if let Some(slot) = slot {
                        slot.deliver(&bytes[..taken]);
                    }
                    *left -= taken;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.reading = HEADER;
                    }
                }
                Reading::Payload(header, payload) => {
                    let missing = usize::from(header.length) - payload.len();
                    let taken = bytes.len().min(missing);
                    payload.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    if taken == missing {
                        let (header, payload) = (*header, std::mem::take(payload));
                        self.reading = HEADER;
                        self.on_frame(&header, &payload, accept)?;
                    }
                }
                Reading::Refusal(body, length) => {
                    let taken = bytes.len().min(*length - body.len());
                    body.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    if body.len() == *length {
                        return Err(self.refused());
                    }
                }
            }
        }
        Ok(())
    }

    /// A header, and what follows it; returns what is left of that.
    fn on_header<'b>(
        &mut self,
        head: [u8; FRAME_HEADER_BYTES],
        rest: &'b [u8],
        accept: &mut impl FnMut(Begun),
    ) -> io::Result<&'b [u8]> {
        self.reading = HEADER;
        // No frame has type 0, but the length of a control message begins with one.
        if std::mem::take(&mut self.fresh) && head[0] == 0 && self.shared.role == Role::Agent {
            self.on_refusal(head)?;
            return Ok(rest);
        }
        let header = Header::decode(head).map_err(violation)?;
        let length = usize::from(header.length);
        if header.kind == FrameType::Data {
            return self.on_data(&header, rest);
        }
        if rest.len() < length {
            self.reading = Reading::Payload(header, Vec::with_capacity(length));
            return Ok(rest);
        }
        let (payload, rest) = rest.split_at(length);
        self.on_frame(&header, payload, accept)?;
        Ok(rest)
    }

    fn on_data<'b>(&mut self, header: &Header, rest: &'b [u8]) -> io::Result<&'b [u8]> {
        let length = usize::from(header.length);
        let now = rest.len().min(length);
        let Some(slot) = self.shared.table.find(header.open) else {
            // Nothing but an open can begin with a number that is not there.
            self.shared.table.begin(header, self.shared.flow.now())?;
            return Err(io::ErrorKind::InvalidData.into());
        };
        let (slot, left) = match slot.on_data(header, rest)? {
            Taken::Deliver(left) => (Some(slot), left),
            Taken::Discard(length) => (None, length - now),
        };
        if left > 0 {
            self.reading = Reading::Data(slot, left);
        }
        Ok(&rest[now..])
    }

    /// A whole frame other than DATA.
    fn on_frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        accept: &mut impl FnMut(Begun),
    ) -> io::Result<()> {
        if let Some(slot) = self.shared.table.find(header.open) {
            if slot.on_control(header, payload, &self.shared.outbox)?.free {
                self.shared.table.remove(header.open);
            }
            return Ok(());
        }
        let (slot, incoming) = self.shared.table.begin(header, self.shared.flow.now())?;
        let leg = CarrierLeg::new(Arc::clone(&self.shared), slot);
        match incoming {
            Incoming::Open => {
                let (open, first) = decode_open(payload).map_err(violation)?;
                leg.note_first_bytes(first.len());
                let first = Bytes::copy_from_slice(first);
                let opening = AgentOpening::on_carrier(leg);
                accept(Begun::Open(open, first, opening));
                Ok(())
            }
            Incoming::Resume => {
                let from = Leg::decode(payload).map_err(violation)?;
                accept(Begun::Resumed(Resumed::on_carrier(from, leg)));
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn on_refusal(&mut self, head: [u8; FRAME_HEADER_BYTES]) -> io::Result<()> {
        let [l0, l1, l2, l3, rest @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length <= rest.len() || length > REASON_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.reading = Reading::Refusal(rest.to_vec(), length);
        Ok(())
    }

    fn refused(&mut self) -> io::Error {
        let Reading::Refusal(body, _) = &self.reading else {
            return io::ErrorKind::InvalidData.into();
        };
        match codec::decode(body) {
            Ok(EdgeMessage::Error(fatal)) => {
                self.reason = Some(Error::new(fatal.code, fatal.message));
                io::ErrorKind::ConnectionRefused.into()
            }
            _ => io::ErrorKind::InvalidData.into(),
        }
    }
}
