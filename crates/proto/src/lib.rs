//! The wire between agent and edge: messages and their framing, data frames, the handshake's
//! arithmetic, and the state machines of a session and of a recycled data channel.
//!
//! Must never: do I/O, know tokio, or read a clock. Time comes in as a `Duration` since a start
//! that the caller chose; bytes come in and go out as slices.

pub mod channel;
pub mod codec;
pub mod defaults;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod session;

pub use channel::{ChannelState, Incoming, Role, Violation};
pub use codec::{CodecError, Decoder};
pub use frame::{FrameType, Header, OpenHeader};
pub use handshake::{SessionKey, VersionRange};
pub use message::{AgentMessage, EdgeMessage, FirstMessage, Message};
pub use session::{AgentMachine, EdgeMachine};
