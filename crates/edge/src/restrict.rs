//! The account's IP restrictions, asked for every session of an agent and every connection of a client.
//!
//! Must never: look at what is open already.

use std::net::IpAddr;

use portcullis_model::{AccountId, Code, Error, RestrictionKind};
use portcullis_store::Snapshot;
use portcullis_telemetry::{CloseReason, Ended};

/// Whether an agent may connect from an address.
///
/// # Errors
/// `PTC_AGENT_RESTRICTED`, with the restriction.
pub(crate) fn agent(snapshot: &Snapshot, account: &AccountId, ip: IpAddr) -> Result<(), Error> {
    match snapshot.restriction_against(account, RestrictionKind::Agent, ip) {
        None => Ok(()),
        Some(restriction) => {
            let message = format!(
                "the account's IP restriction {restriction} does not let agents connect from {}",
                ip.to_canonical()
            );
            Err(Error::new(Code::AgentRestricted, message))
        }
    }
}

/// Whether a client may reach the account's endpoints from an address.
///
/// # Errors
/// `endpoint_restricted`, with the restriction.
pub(crate) fn endpoints(snapshot: &Snapshot, account: &AccountId, ip: IpAddr) -> Result<(), Ended> {
    match snapshot.restriction_against(account, RestrictionKind::Endpoints, ip) {
        None => Ok(()),
        Some(restriction) => {
            let message = format!("the account's IP restriction {restriction} does not allow {ip}");
            let error = Error::new(Code::EndpointRestricted, message);
            Err(Ended::with(CloseReason::EndpointRestricted, error))
        }
    }
}
