//! Messages of the control connection, JSON tagged by `type`. Unknown fields are ignored, so that a
//! newer peer may say more; an unknown type is refused by name.
//!
//! A field is never renamed or given another meaning within a protocol version; a new one has a default.

mod agent;
mod dial;
mod edge;
mod first;
mod limits;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use agent::{Abort, Bind, Goodbye, HealthReport, Heartbeat, HeartbeatAck, Unbind, Update};
pub use dial::{Dial, Ready};
pub use edge::{
    Bound, Drain, Fatal, NeedChannels, Refused, Stop, StopEndpoint, Unbound, Updated, Welcome,
};
pub use first::{ChannelHello, Hello};

/// A set of messages that one side may send at one point.
pub trait Message: Serialize + DeserializeOwned {
    /// The values of `type` that belong to the set.
    const TYPES: &'static [&'static str];

    /// The value of `type` of this message.
    fn kind(&self) -> &'static str;
}

macro_rules! messages {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$vdoc:meta])* $variant:ident($body:ty) = $tag:literal,)+
        // Variants whose body another one has too: there is no `From` for them.
        $(; $($(#[$also_doc:meta])* $also:ident($also_body:ty) = $also_tag:literal,)+)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "type")]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $tag)] $variant($body),)+
            $($($(#[$also_doc])* #[serde(rename = $also_tag)] $also($also_body),)+)?
        }

        impl Message for $name {
            const TYPES: &'static [&'static str] = &[$($tag),+ $(, $($also_tag),+)?];

            fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $tag,)+
                    $($(Self::$also(_) => $also_tag,)+)?
                }
            }
        }

        $(impl From<$body> for $name {
            fn from(body: $body) -> Self {
                Self::$variant(body)
            }
        })+
    };
}

messages! {
    /// The first message of a connection to the agent port: it says what the connection is.
    FirstMessage {
        /// A control connection; the session begins.
        Hello(Hello) = "hello",
        /// A data channel of a session.
        Channel(ChannelHello) = "channel",
        /// One connection to an internal endpoint. An edge of a release without it refuses the type by name.
        Dial(Dial) = "dial",
        ;
        /// A carrier of a session: a link that many client connections share.
        Carrier(ChannelHello) = "carrier",
    }
}

messages! {
    /// The answer to a `dial` that only asks. One that means it is answered by an OPEN frame, or by an
    /// `error` in its place.
    DialAnswer {
        /// The endpoint can be dialled.
        Ready(Ready) = "ready",
        /// It cannot; the connection is closed behind it.
        Error(Fatal) = "error",
    }
}

messages! {
    /// What an agent says on a control connection after the hello.
    AgentMessage {
        /// Serve an endpoint.
        Bind(Bind) = "bind",
        /// Change an endpoint in place.
        Update(Update) = "update",
        /// Stop serving an endpoint.
        Unbind(Unbind) = "unbind",
        /// Are you there?
        Heartbeat(Heartbeat) = "heartbeat",
        /// Yes.
        HeartbeatAck(HeartbeatAck) = "heartbeat_ack",
        /// A channel whose direction is clogged is dropped.
        Abort(Abort) = "abort",
        /// How an upstream fares.
        Health(HealthReport) = "health",
        /// The session ends, on purpose.
        Goodbye(Goodbye) = "goodbye",
    }
}

messages! {
    /// What an edge says on a control connection.
    EdgeMessage {
        /// The hello was accepted.
        Welcome(Welcome) = "welcome",
        /// The session or channel is refused or over; the connection is closed behind it.
        Error(Fatal) = "error",
        /// The endpoint is online.
        Bound(Bound) = "bound",
        /// The endpoint was changed.
        Updated(Updated) = "updated",
        /// The endpoint is offline.
        Unbound(Unbound) = "unbound",
        /// A request was refused; the session goes on.
        Refused(Refused) = "refused",
        /// Are you there?
        Heartbeat(Heartbeat) = "heartbeat",
        /// Yes.
        HeartbeatAck(HeartbeatAck) = "heartbeat_ack",
        /// Open so many more data channels.
        NeedChannels(NeedChannels) = "need_channels",
        /// End the session, or begin a new one.
        Stop(Stop) = "stop",
        /// An endpoint was taken offline by the edge.
        StopEndpoint(StopEndpoint) = "stop_endpoint",
        /// Open a new session, then let this one finish.
        Drain(Drain) = "drain",
        /// A channel whose direction is clogged is dropped.
        Abort(Abort) = "abort",
    }
}
