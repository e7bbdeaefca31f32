//! A leg that continues another: how it finds its connection at the agent.
//!
//! Must never: reach a connection other than the one whose leg it names.

use portcullis_proto::{FrameType, Leg as Name, OpenState};

use super::abort::AbortHandle;
use super::leg::ChannelLeg;
use super::legs::Leg;
use super::stream::Settling;
use crate::carrier::CarrierLeg;

/// Agent: the edge continues a connection on this leg.
#[derive(Debug)]
pub struct Resumed {
    from: Name,
    pub(super) leg: Leg,
}

impl Resumed {
    pub(super) fn on_channel(from: Name, leg: ChannelLeg) -> Self {
        let leg = Leg::Channel(Box::new(leg));
        Self { from, leg }
    }

    pub(crate) fn on_carrier(from: Name, leg: CarrierLeg) -> Self {
        let leg = Leg::Carrier(leg);
        Self { from, leg }
    }

    /// The leg that it continues.
    pub fn from(&self) -> Name {
        self.from
    }

    /// The leg that it is.
    pub fn at(&self) -> Name {
        self.leg.at()
    }

    /// Whether it is on a carrier.
    pub fn is_on_carrier(&self) -> bool {
        matches!(self.leg, Leg::Carrier(_))
    }

    /// Ends the connection from elsewhere once it is here.
    pub fn abort_handle(&self) -> AbortHandle {
        self.leg.handle()
    }

    /// Gives it to the connection whose leg it continues; that one takes it when it looks. Otherwise it is
    /// declined: what is to be settled comes back.
    pub fn hand_to(self, connection: Option<&AbortHandle>) -> Option<Settling> {
        match connection {
            Some(connection) => match connection.resume(Box::new(self)) {
                Ok(()) => None,
                Err((resumed, state)) => resumed.decline(state.answer_to_resume()),
            },
            None => self.decline(FrameType::Reset),
        }
    }

    /// Nobody has a use for it: END when the connection came to its end, else RESET.
    pub(super) fn decline(self, kind: FrameType) -> Option<Settling> {
        match self.leg {
            Leg::Channel(mut leg) => {
                // Without a reset its settlement begins with END.
                if kind != FrameType::End {
                    leg.reset_with(None);
                }
                Some(Settling(leg))
            }
            Leg::Carrier(mut leg) => {
                let ended = kind == FrameType::End && leg.end().is_ok();
                leg.expect_end();
                leg.settle(None, !ended);
                None
            }
        }
    }
}

/// Why a leg was not taken: the connection is over, in this state.
pub(crate) type NotTaken = (Box<Resumed>, OpenState);
