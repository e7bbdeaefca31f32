//! Carriers: TLS connections of a session that carry many client connections at once, as long as each
//! sends little. One task per end reads all frames and writes what the connections' tasks have queued.
//! The rules are `portcullis_proto`'s (`carrier/LIFECYCLE.md` there); here they meet a socket.
//!
//! Lock order: table, then slot, then outbox. Nothing is held across an await.
//!
//! Must never: let one open's bytes reach another, let a reader that stalls hold up the carrier, or
//! hold more of an open than its credit.

use std::io;
use std::sync::Arc;

use portcullis_model::{Code, Error};
use portcullis_proto::frame::{OpenHeader, encode_open};
use portcullis_proto::{FrameType, Leg, Role};

use crate::channel::io::LinkIo;
use crate::channel::{AbortHandle, EdgeOpening, LinkStream, OnCarrier};

mod demux;
mod flow;
mod leg;
mod outbox;
mod slot;
mod table;
mod task;

pub use flow::Flow;
pub(crate) use leg::CarrierLeg;
pub(crate) use slot::Slot;
pub use task::CarrierTask;

use outbox::Outbox;
use table::Table;

/// What the ends of a carrier's opens and its task share.
pub(crate) struct Shared {
    id: u64,
    role: Role,
    table: Table,
    outbox: Outbox,
    flow: Arc<Flow>,
}

/// One end of a carrier, for who opens on it and watches it.
#[derive(Clone)]
pub struct Carrier {
    shared: Arc<Shared>,
}

impl Carrier {
    /// The edge's end, after the `carrier` message was verified, and the task that drives it. `id` is
    /// the number in that message; `flow` is the session's.
    pub fn edge(id: u64, stream: impl Into<LinkStream>, flow: &Arc<Flow>) -> (Self, CarrierTask) {
        Self::new(id, LinkIo::new(stream.into()), flow, Role::Edge)
    }

    /// The agent's end, after the `carrier` message was sent, and the task that drives it.
    pub fn agent(id: u64, stream: impl Into<LinkStream>, flow: &Arc<Flow>) -> (Self, CarrierTask) {
        Self::new(id, LinkIo::new(stream.into()), flow, Role::Agent)
    }

    fn new(id: u64, io: LinkIo, flow: &Arc<Flow>, role: Role) -> (Self, CarrierTask) {
        let shared = Arc::new(Shared {
            id,
            role,
            table: Table::new(role),
            outbox: Outbox::default(),
            flow: Arc::clone(flow),
        });
        let carrier = Self {
            shared: Arc::clone(&shared),
        };
        (carrier, CarrierTask::new(shared, io))
    }

    /// The number of the carrier in its session.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Opens that live on it now.
    pub fn live(&self) -> u32 {
        self.shared.table.live()
    }

    /// Whether another open may begin.
    pub fn has_room(&self) -> bool {
        self.shared.table.has_room()
    }

    /// Edge: begins an open. The first bytes, at most 16 KiB, go with it.
    ///
    /// # Errors
    /// `PTC_AGENT_LOST` when the carrier is gone or full, and nothing of the open was sent.
    pub fn open(&self, header: &OpenHeader, first_bytes: &[u8]) -> Result<EdgeOpening, Error> {
        let payload = encode_open(header, first_bytes)?;
        let begun = self.shared.table.open(
            &self.shared.outbox,
            &payload,
            first_bytes.len(),
            self.shared.flow.now(),
        );
        match begun {
            Ok(slot) => {
                self.shared.outbox.kick();
                Ok(EdgeOpening::on_carrier(CarrierLeg::new(
                    Arc::clone(&self.shared),
                    slot,
                )))
            }
            Err(error) => Err(Error::of(Code::AgentLost).with_internal(error)),
        }
    }

    /// Edge: begins an open that continues another leg; `None` when the carrier is gone or full.
    pub fn resume(&self, from: Leg) -> Option<OnCarrier> {
        let slot = self
            .shared
            .table
            .resume(&self.shared.outbox, &from.encode(), self.shared.flow.now())
            .ok()?;
        self.shared.outbox.kick();
        let leg = CarrierLeg::new(Arc::clone(&self.shared), slot);
        Some(OnCarrier(leg))
    }

    /// Agent: the open of a number, if it lives.
    pub fn handle(&self, open: u32) -> Option<AbortHandle> {
        self.shared.table.find(open).map(AbortHandle::of_carrier)
    }

    /// Takes no more opens, and ends when the last one is over and everything is written.
    pub fn retire(&self) {
        self.shared.table.retire();
        self.shared.outbox.kick();
    }

    /// Ends now: what it carries is lost.
    pub fn kill(&self) {
        self.shared.table.kill();
        self.shared.outbox.kick();
    }
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier")
            .field("carrier", &self.shared.id)
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

/// The carrier's connection broke.
#[derive(Debug, thiserror::Error)]
#[error("the carrier was lost")]
struct Lost;

/// How a carrier that is gone shows at one of its opens; never `ConnectionReset`, which is the
/// client connection's own.
fn lost() -> io::Error {
    io::Error::other(Lost)
}

fn violation(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What a frame without payload is written with.
const NOTHING: &[u8] = &[];

impl Shared {
    /// Queues a frame that needs no turn: all but DATA.
    fn put(&self, kind: FrameType, number: u32, payload: &[u8]) -> io::Result<()> {
        self.outbox.put(kind, number, payload)
    }
}

#[cfg(test)]
mod tests;
