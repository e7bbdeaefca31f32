//! From a policy's text to what the data path runs.

use std::sync::Arc;

use portcullis_model::{Code, EndpointType, Error};
use portcullis_policy::Policy;

use crate::defaults;

/// Compiles an endpoint's policy; an agent's endpoint may have none.
///
/// # Errors
/// `PTC_POLICY_…`.
pub(crate) fn compile(text: &str, kind: EndpointType) -> Result<Option<Arc<Policy>>, Error> {
    if text.len() > defaults::POLICY_BYTES_MAX {
        let found = text.len();
        let most = defaults::POLICY_BYTES_MAX;
        return Err(Error::new(
            Code::PolicyTooLarge,
            format!("the policy has {found} bytes; at most {most} are allowed"),
        ));
    }
    if text.trim().is_empty() {
        return match kind {
            EndpointType::Agent => Ok(None),
            EndpointType::Cloud => Err(Error::new(
                Code::PolicyNotTerminating,
                "a cloud endpoint needs a traffic policy that ends in forward-internal, deny, close-connection or custom-response",
            )),
        };
    }
    Policy::compile(text, kind).map(|policy| Some(Arc::new(policy)))
}
