//! What a decision against a connection is called, and how the client is told.
//!
//! Must never: let a decision through that it does not know.

use portcullis_model::{Code, Error};
use portcullis_policy::{Decision, DenyMode, Limiter};
use portcullis_telemetry::{CloseReason, Ended};

use crate::farewell::{Parting, Refused};

/// The end that a decision against the connection stands for.
pub(crate) fn refusal(decision: Decision) -> Refused {
    use CloseReason as Reason;
    let (reason, message) = match decision {
        Decision::Deny { rule, mode } => return denied(&rule, mode),
        Decision::Respond { bytes, .. } => {
            return Refused {
                ended: Reason::PolicyResponded.into(),
                parting: Parting::Say(bytes.into_bytes()),
            };
        }
        Decision::Failed { path, error } => {
            let message = format!("{path}: {}", error.message);
            let error = Error { message, ..error };
            return Ended::with(Reason::PolicyError, error).into();
        }
        Decision::Limited { rule, by } => {
            let reason = match by {
                Limiter::Rate => Reason::RateLimited,
                Limiter::Connections => Reason::LimitPolicy,
            };
            (reason, format!("`{rule}` has no more"))
        }
        Decision::NotHttp { rule } => (
            Reason::NotHttp,
            format!("`{rule}` answers HTTP, and the client speaks something else"),
        ),
        Decision::Close { rule } => (
            Reason::PolicyClosed,
            format!("`{rule}` closes the connection"),
        ),
        Decision::Restricted { rule, matched } => {
            let message = match matched {
                Some(network) => format!("`{rule}` denies {network}"),
                None => format!("`{rule}` allows no network of the client"),
            };
            (Reason::IpRestricted, message)
        }
        // Decisions for a connection, which whoever asks has taken out before.
        Decision::Forward { .. } | Decision::FallThrough => {
            return Reason::PolicyUndecided.into();
        }
    };
    because(reason, message).into()
}

fn denied(rule: &str, mode: DenyMode) -> Refused {
    Refused {
        ended: because(CloseReason::PolicyDenied, format!("`{rule}` denies")),
        parting: match mode {
            DenyMode::Close => Parting::Reason,
            DenyMode::Reset => Parting::Reset,
            DenyMode::Tarpit(hold) => Parting::Tarpit(hold),
        },
    }
}

fn because(reason: CloseReason, message: String) -> Ended {
    let code = reason.code().unwrap_or(Code::PolicyDenied);
    Ended::with(reason, Error::new(code, message))
}
