//! Both ends of a session's links with client connections that move between a carrier and channels
//! while their bytes are in flight. Each end drives [`portcullis_proto::Mover`] as `net::channel` does;
//! a fault can be built into it, to show that what is checked here would be noticed.

mod connection;
mod link;
mod side;
mod world;

pub(crate) use connection::Script;
pub(crate) use world::{Disturbance, Plan, Speeds, World};

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The new leg is read as soon as it is there.
    ReadsEarly,
    /// END isn't said again on the new leg.
    ForgetsEnd,
    /// A reset goes out on the old leg only.
    ResetsOneLeg,
    /// SWITCH says one byte more than went out.
    CountsWrong,
    /// What is written behind SWITCH still goes out on the old leg.
    WritesOld,
    /// Half of what was consumed is granted again.
    GrantsHalf,
    /// More is sent than there is credit for.
    IgnoresCredit,
    /// RESUME of a connection that is gone isn't answered.
    IgnoresResume,
    /// A RESET on a leg that came too late for a complete connection counts as the connection's.
    HeedsLateReset,
}
