//! Why a connection ended, and whose doing it was: one bounded enum with total functions, used as the
//! label of metrics, the field of the access log and the answer of the API alike.
//!
//! Must never: carry text of a connection; details travel beside the reason in [`Ended`].

use std::fmt;

use portcullis_model::{Code, Error};
use serde::{Serialize, Serializer};
use tracing::Level;

/// Whose doing an end was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The client, or what stands between it and us.
    Client,
    /// The service behind the endpoint.
    Upstream,
    /// The agent that serves the endpoint.
    Agent,
    /// A Traffic Policy.
    Policy,
    /// A limit that somebody configured.
    Limit,
    /// A person, through the API or the configuration.
    Operator,
    /// Portcullis itself.
    Us,
}

impl Fault {
    /// The word in logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Agent => "agent",
            Self::Policy => "policy",
            Self::Limit => "limit",
            Self::Operator => "operator",
            Self::Us => "us",
        }
    }
}

/// What the client's socket gets when a connection ends for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Farewell {
    /// FIN: the stream is complete, or was refused on purpose and politely.
    Fin,
    /// RST: the stream is not complete, and must not look as if it were.
    Reset,
}

macro_rules! reasons {
    ($( $(#[$doc:meta])* $variant:ident = $label:literal, $fault:ident, $level:ident, $farewell:ident, retry $retry:literal, $code:expr; )+) => {
        /// Why a connection ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CloseReason { $( $(#[$doc])* $variant, )+ }

        impl CloseReason {
            /// Every reason, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label in metrics, logs and the API.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }

            /// Whose doing it was.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault),+ }
            }

            /// The level of the access log line.
            pub const fn level(self) -> Level {
                match self { $(Self::$variant => Level::$level),+ }
            }

            /// What the client's socket gets.
            pub const fn farewell(self) -> Farewell {
                match self { $(Self::$variant => Farewell::$farewell),+ }
            }

            /// Whether another pool member may be tried for the same client connection: nothing
            /// of it can have reached an upstream.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retry),+ }
            }

            /// The code of the error catalogue, for reasons that are errors.
            pub const fn code(self) -> Option<Code> {
                match self { $(Self::$variant => $code),+ }
            }
        }
    };
}

reasons! {
    // The ordinary ends
    /// The client sent FIN first, then both directions ended.
    ClientFinished = "client_finished", Client, INFO, Fin, retry false, None;
    /// The upstream sent FIN first, then both directions ended.
    UpstreamFinished = "upstream_finished", Upstream, INFO, Fin, retry false, None;
    /// The client reset the connection.
    ClientReset = "client_reset", Client, INFO, Reset, retry false, None;
    /// The upstream reset the connection.
    UpstreamReset = "upstream_reset", Upstream, INFO, Reset, retry false, None;
    /// The client's socket failed (keep-alive without answer, unreachable network).
    ClientFailed = "client_failed", Client, INFO, Reset, retry false, None;
    /// The upstream's socket or channel failed in mid-stream.
    UpstreamFailed = "upstream_failed", Upstream, WARN, Reset, retry false, None;

    // Silence
    /// Neither direction moved a byte for the idle timeout.
    IdleTimeout = "idle_timeout", Limit, INFO, Reset, retry false, Some(Code::IdleTimeout);
    /// The client alone was silent for its timeout.
    ClientIdleTimeout = "client_idle_timeout", Limit, INFO, Reset, retry false, Some(Code::IdleTimeout);
    /// The upstream alone was silent for its timeout.
    ServerIdleTimeout = "server_idle_timeout", Limit, INFO, Reset, retry false, Some(Code::IdleTimeout);
    /// One direction had ended and the other was silent for the half-close timeout.
    HalfCloseTimeout = "half_close_timeout", Limit, INFO, Reset, retry false, Some(Code::IdleTimeout);
    /// It lasted as long as the endpoint or its policy lets it.
    LifetimeOver = "lifetime_over", Limit, INFO, Reset, retry false, Some(Code::LifetimeOver);

    // Refused before the open
    /// A trusted peer sent no valid PROXY header, or not in time.
    ProxyHeaderInvalid = "proxy_header_invalid", Client, WARN, Reset, retry false, Some(Code::ProxyHeaderInvalid);
    /// Nothing is online at the address.
    NoEndpoint = "no_endpoint", Operator, INFO, Reset, retry false, Some(Code::ListenerNoEndpoint);
    /// The endpoint has as many connections as it may.
    LimitEndpoint = "limit_endpoint", Limit, WARN, Reset, retry true, Some(Code::LimitEndpoint);
    /// The source address has as many connections as it may.
    LimitSource = "limit_source", Limit, INFO, Reset, retry false, Some(Code::LimitSource);
    /// The account has as many connections as it may.
    LimitAccount = "limit_account", Limit, WARN, Reset, retry false, Some(Code::LimitAccount);
    /// The action `deny`.
    PolicyDenied = "policy_denied", Policy, INFO, Fin, retry false, Some(Code::PolicyDenied);
    /// The action `close-connection`.
    PolicyClosed = "policy_closed", Policy, INFO, Fin, retry false, Some(Code::PolicyDenied);
    /// The action `restrict-ips`.
    IpRestricted = "ip_restricted", Policy, INFO, Fin, retry false, Some(Code::IpRestricted);
    /// An IP restriction of the account, of type `endpoints`.
    EndpointRestricted = "endpoint_restricted", Policy, INFO, Fin, retry false, Some(Code::EndpointRestricted);
    /// `forward-internal` names what is not online.
    ForwardTargetMissing = "forward_target_missing", Policy, WARN, Reset, retry false, Some(Code::ForwardTargetMissing);
    /// `forward-internal` went through too many endpoints.
    ForwardHopLimit = "forward_hop_limit", Policy, WARN, Reset, retry false, Some(Code::ForwardHopLimit);
    /// A cloud endpoint's policy came to its end without a decision.
    PolicyUndecided = "policy_undecided", Policy, WARN, Reset, retry false, Some(Code::PolicyNotTerminating);

    /// The policy failed while it ran: an expression, a secret that is not there.
    PolicyError = "policy_error", Policy, WARN, Reset, retry false, Some(Code::PolicyRuntime);
    /// The action `custom-response`: the policy's own answer was sent.
    PolicyResponded = "policy_responded", Policy, INFO, Fin, retry false, None;
    /// A challenge of the ACME authority was answered: the handshake is all there is to it.
    AcmeAnswered = "acme_answered", Operator, INFO, Fin, retry false, None;
    /// The action `rate-limit`.
    RateLimited = "rate_limited", Limit, INFO, Reset, retry false, Some(Code::RateLimited);
    /// The action `limit-connections`.
    LimitPolicy = "limit_policy", Limit, INFO, Reset, retry false, Some(Code::LimitPolicy);
    /// The policy answers HTTP, and the client speaks something else.
    NotHttp = "not_http", Client, INFO, Fin, retry false, Some(Code::NotHttp);
    /// The policy waits for an HTTP request, and none came in time.
    RequestTimeout = "request_timeout", Client, INFO, Reset, retry false, Some(Code::RequestTimeout);
    /// The policy waits for an HTTP request, and what came begins as one but cannot be read.
    RequestInvalid = "request_invalid", Client, INFO, Fin, retry false, Some(Code::RequestInvalid);
    /// The TLS handshake with the client failed.
    TlsHandshake = "tls_handshake", Client, INFO, Reset, retry false, Some(Code::TlsHandshake);
    /// The client's TLS names no server, and the name was needed to route it.
    TlsNoName = "tls_no_name", Client, INFO, Reset, retry false, Some(Code::TlsNoName);
    /// No TLS endpoint is online at the name that the client asks for.
    TlsNoEndpoint = "tls_no_endpoint", Operator, INFO, Reset, retry false, Some(Code::TlsNoEndpoint);
    /// There is no certificate to terminate TLS with.
    TlsNoCertificate = "tls_no_certificate", Policy, WARN, Reset, retry false, Some(Code::TlsNoCertificate);

    // The open failed
    /// Accept to established took longer than it may.
    EstablishTimeout = "establish_timeout", Upstream, WARN, Reset, retry false, Some(Code::EstablishTimeout);
    /// The upstream refused.
    UpstreamRefused = "upstream_refused", Upstream, WARN, Reset, retry true, Some(Code::UpstreamRefused);
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream_timeout", Upstream, WARN, Reset, retry true, Some(Code::UpstreamTimeout);
    /// The upstream's name could not be resolved.
    UpstreamUnresolved = "upstream_unresolved", Upstream, WARN, Reset, retry true, Some(Code::UpstreamUnresolved);
    /// The TLS handshake with the upstream failed.
    UpstreamTls = "upstream_tls", Upstream, WARN, Reset, retry true, Some(Code::UpstreamTls);
    /// The client asked for TLS inside its protocol, and the upstream takes none.
    UpstreamNoTls = "upstream_no_tls", Upstream, WARN, Reset, retry true, Some(Code::UpstreamNoTls);
    /// The upstream cannot be reached.
    UpstreamUnreachable = "upstream_unreachable", Upstream, WARN, Reset, retry true, Some(Code::UpstreamUnreachable);
    /// The upstream is not one that can be dialled.
    UpstreamInvalid = "upstream_invalid", Operator, WARN, Reset, retry true, Some(Code::UpstreamInvalid);
    /// The agent gave no data channel in time.
    NoChannel = "no_channel", Agent, WARN, Reset, retry true, Some(Code::NoChannel);
    /// The agent refused for another reason.
    AgentRefused = "agent_refused", Agent, WARN, Reset, retry true, Some(Code::UpstreamUnreachable);
    /// The agent's session is gone, or went before anything was sent to it.
    AgentGone = "agent_gone", Agent, WARN, Reset, retry true, Some(Code::AgentLost);
    /// The agent was lost before it said whether the open reached the upstream. Never tried again.
    AgentLostUnknown = "agent_lost_unknown", Agent, WARN, Reset, retry false, Some(Code::AgentLostUnknown);

    // Ended from outside
    /// The agent's session was lost under the connection.
    AgentLost = "agent_lost", Agent, WARN, Reset, retry false, Some(Code::AgentLost);
    /// The agent's session was stopped through the API.
    SessionStopped = "session_stopped", Operator, INFO, Reset, retry false, Some(Code::AgentStopped);
    /// The agent's credential or account is gone.
    CredentialRevoked = "credential_revoked", Operator, INFO, Reset, retry false, Some(Code::CredentialRevoked);
    /// Someone ended the connection through the API.
    EndedByOperator = "ended_by_operator", Operator, INFO, Reset, retry false, Some(Code::EndedByOperator);
    /// The endpoint's policy changed, and it drains then.
    PolicyDrained = "policy_drained", Operator, INFO, Reset, retry false, Some(Code::PolicyDrained);
    /// The server shut down before the connection ended.
    Drained = "drained", Us, WARN, Reset, retry false, Some(Code::Drained);

    // Our own
    /// No file descriptor was left.
    FileLimit = "file_limit", Us, ERROR, Reset, retry true, Some(Code::FileLimit);
    /// Something went wrong inside.
    Internal = "internal", Us, ERROR, Reset, retry false, Some(Code::Internal);
    /// The record was dropped without a close: a task was cut off or panicked.
    Aborted = "aborted", Us, ERROR, Reset, retry false, Some(Code::Internal);
}

impl CloseReason {
    /// The reason that an error of an open (a dial, or what an agent answered) stands for.
    pub const fn of_open_error(code: Code) -> Self {
        match code {
            Code::UpstreamRefused => Self::UpstreamRefused,
            Code::UpstreamTimeout => Self::UpstreamTimeout,
            Code::UpstreamUnresolved | Code::DnsFailed => Self::UpstreamUnresolved,
            Code::UpstreamTls => Self::UpstreamTls,
            Code::UpstreamNoTls => Self::UpstreamNoTls,
            Code::UpstreamUnreachable => Self::UpstreamUnreachable,
            Code::UpstreamInvalid => Self::UpstreamInvalid,
            Code::EstablishTimeout => Self::EstablishTimeout,
            Code::NoChannel => Self::NoChannel,
            Code::AgentLost => Self::AgentGone,
            Code::AgentLostUnknown => Self::AgentLostUnknown,
            Code::FileLimit => Self::FileLimit,
            Code::Internal => Self::Internal,
            _ => Self::AgentRefused,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Serialize for CloseReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

/// How a connection ended: the reason, and the error behind it where there is one. It is what `?`
/// carries through the connection story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The reason.
    pub reason: CloseReason,
    /// What exactly went wrong, for the log and the endpoint's status.
    pub error: Option<Error>,
}

impl Ended {
    /// A reason with the error behind it.
    pub fn with(reason: CloseReason, error: Error) -> Self {
        Self {
            reason,
            error: Some(error),
        }
    }

    /// A failed open.
    pub fn open_failed(error: Error) -> Self {
        Self::with(CloseReason::of_open_error(error.code), error)
    }

    /// The code: the error's, else the reason's.
    pub fn code(&self) -> Option<Code> {
        self.error
            .as_ref()
            .map(|error| error.code)
            .or_else(|| self.reason.code())
    }
}

impl From<CloseReason> for Ended {
    fn from(reason: CloseReason) -> Self {
        Self {
            reason,
            error: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_snake_case() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in CloseReason::ALL {
            let label = reason.label();
            assert!(seen.insert(label), "{label} stands twice");
            assert!(
                label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{label}"
            );
        }
    }

    #[test]
    fn only_clean_ends_and_policy_say_goodbye_with_fin() {
        for reason in CloseReason::ALL {
            let clean = matches!(
                reason,
                CloseReason::ClientFinished | CloseReason::UpstreamFinished
            );
            let polite = matches!(
                reason,
                CloseReason::PolicyDenied
                    | CloseReason::PolicyClosed
                    | CloseReason::PolicyResponded
                    | CloseReason::AcmeAnswered
                    | CloseReason::IpRestricted
                    | CloseReason::EndpointRestricted
                    | CloseReason::NotHttp
                    | CloseReason::RequestInvalid
            );
            assert_eq!(
                reason.farewell() == Farewell::Fin,
                clean || polite,
                "{reason}"
            );
        }
    }

    #[test]
    fn an_unknown_verdict_is_never_tried_again() {
        assert!(!CloseReason::AgentLostUnknown.retryable());
        assert!(!CloseReason::of_open_error(Code::AgentLostUnknown).retryable());
        assert!(CloseReason::of_open_error(Code::UpstreamRefused).retryable());
    }
}
