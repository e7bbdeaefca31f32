//! The wire between agent and edge: messages and their framing, data frames, the handshake's
//! arithmetic, and the state machines of a session, of a recycled data channel, of a carrier and of a
//! client connection that moves between them.
//!
//! Must never: do I/O, know tokio, or read a clock. Time comes in as a `Duration` since a start
//! that the caller chose; bytes come in and go out as slices.

pub mod carrier;
pub mod channel;
pub mod codec;
pub mod defaults;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod mover;
pub mod once;
pub mod open;
pub mod session;

pub use carrier::{Budget, Bulk, CarrierState, Window};
pub use channel::ChannelState;
pub use codec::{CodecError, Decoder};
pub use frame::{FrameType, Header, Leg, OpenHeader, Switch};
pub use handshake::{SessionKey, VersionRange};
pub use message::{AgentMessage, DialAnswer, EdgeMessage, FirstMessage, Message};
pub use mover::{Answer, MoveViolation, Mover, Place};
pub use once::OnceOnly;
pub use open::{Incoming, LinkKind, OpenState, Role, Violation};
pub use session::{AgentMachine, EdgeMachine};
