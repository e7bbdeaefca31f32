//! A session's control connection as two sans-I/O machines: [`AgentMachine`] and [`EdgeMachine`]. An
//! actor feeds in messages, the time and its own commands; it does what the returned actions say,
//! in their order. See `session/LIFECYCLE.md`.
//!
//! Must never: read a clock, touch a socket, or decide about endpoints; that is the actors' work.

mod agent;
mod edge;
mod pulse;

use portcullis_model::Error;

pub use agent::{AgentAction, AgentEvent, AgentMachine, AgentSettings};
pub use edge::{EdgeAction, EdgeEvent, EdgeMachine, EdgeSettings, WelcomeSpec};

/// What the actor is to do, in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<M, E> {
    /// Write a message.
    Send(M),
    /// Something happened that the actor should know.
    Event(E),
    /// Flush what was sent, close the connection, and end. Always the last action; the machine takes
    /// nothing after it.
    Close(Ending),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What ended it.
    pub cause: Cause,
    /// Code and words for the log and the user.
    pub error: Error,
    /// For the agent: whether to try again. False means that it would be refused again.
    pub retry: bool,
}

/// What ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// This side's own command.
    Local,
    /// The peer said that the session is over: `error`, `stop` or `goodbye`.
    Peer,
    /// The peer gave no sign of life, or did not answer a request, for too long.
    Lost,
    /// The peer sent what the protocol does not allow.
    Violation,
}

/// Why a command of the actor was not carried out. The session goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// Before the welcome, or after the end.
    #[error("the session is not established")]
    NotEstablished,
    /// The edge drains: bind on the new session.
    #[error("the session is draining")]
    Draining,
    /// Too many requests without an answer.
    #[error("{0} requests wait for their answers already")]
    TooMany(usize),
    /// The request does not fit into a message.
    #[error(transparent)]
    TooLarge(#[from] crate::codec::CodecError),
}

impl From<NotSent> for Error {
    fn from(not_sent: NotSent) -> Self {
        use portcullis_model::Code;
        match not_sent {
            NotSent::NotEstablished => Self::new(Code::ServerUnreachable, not_sent.to_string()),
            NotSent::Draining => Self::new(Code::ServerDraining, not_sent.to_string()),
            NotSent::TooMany(_) => Self::new(Code::ApiConcurrency, not_sent.to_string()),
            NotSent::TooLarge(cause) => cause.into(),
        }
    }
}
