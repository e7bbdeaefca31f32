//! Typed ids: a prefix and a KSUID (27 characters, base62), as `ep_2NfK3…`. Their lexicographic
//! order is the order of creation, to the second.
//!
//! Must never: read a clock or a random source; both are passed in, so that tests repeat.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use svix_ksuid::{Ksuid, KsuidLike as _};

/// Length of the KSUID part of an id, in characters.
pub const KSUID_CHARS: usize = 27;
/// Random bytes that an id takes.
pub const ENTROPY_BYTES: usize = 16;
/// Seconds between the Unix epoch and the KSUID epoch (2014-05-13), from the KSUID specification.
const KSUID_EPOCH: i64 = 1_400_000_000;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not an id of the form {prefix}_ followed by 27 letters and digits")]
pub struct IdError {
    /// The text as given, at most 80 characters of it.
    pub found: String,
    /// The prefix that was expected.
    pub prefix: &'static str,
}

/// Makes the bare 27 characters from a time in Unix seconds and 16 random bytes.
pub fn ksuid(unix_seconds: i64, entropy: [u8; ENTROPY_BYTES]) -> String {
    let seconds = u32::try_from(unix_seconds.saturating_sub(KSUID_EPOCH)).unwrap_or(0);
    let mut raw = [0_u8; 20];
    raw[..4].copy_from_slice(&seconds.to_be_bytes());
    raw[4..].copy_from_slice(&entropy);
    Ksuid::from_bytes(raw).to_base62()
}

/// The largest KSUID: 20 bytes of ones. The alphabet is in ASCII order, so texts compare as numbers.
const KSUID_MAX: &str = "aWgEPTl1tmebfsQzFP4bxwgy80V";

/// Whether `text` is 27 base62 characters within the KSUID range.
pub fn is_ksuid(text: &str) -> bool {
    text.len() == KSUID_CHARS
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
        && text <= KSUID_MAX
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// What the id starts with, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id from a time in Unix seconds and 16 random bytes.
            pub fn new(unix_seconds: i64, entropy: [u8; ENTROPY_BYTES]) -> Self {
                Self(format!("{}_{}", $prefix, ksuid(unix_seconds, entropy)))
            }

            /// The whole id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The 27 characters behind the prefix.
            pub fn ksuid(&self) -> &str {
                &self.0[$prefix.len() + 1..]
            }

            /// Makes an id from its bare 27 characters.
            ///
            /// # Errors
            /// `IdError` when `ksuid` is not a KSUID.
            pub fn from_ksuid(ksuid: &str) -> Result<Self, IdError> {
                format!("{}_{ksuid}", $prefix).parse()
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                match text.strip_prefix($prefix).and_then(|rest| rest.strip_prefix('_')) {
                    Some(rest) if is_ksuid(rest) => Ok(Self(text.to_owned())),
                    _ => Err(IdError { found: text.chars().take(80).collect(), prefix: $prefix }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

ids! {
    /// An account, the owner of everything else.
    AccountId = "ac";
    /// An endpoint, cloud or agent.
    EndpointId = "ep";
    /// A reserved TCP address.
    AddrId = "ra";
    /// One session of an agent with an edge node.
    SessionId = "ts";
    /// A credential (authtoken).
    CredentialId = "cr";
    /// An API key.
    ApiKeyId = "ak";
    /// One API request, for error bodies and logs.
    OperationId = "op";
    /// An agent installation: kept in the agent's state directory across restarts.
    AgentId = "ag";
    /// One client connection.
    ConnectionId = "cn";
    /// An IP policy.
    IpPolicyId = "ipp";
    /// One rule of an IP policy.
    IpPolicyRuleId = "ipr";
    /// A vault: secrets under one name.
    VaultId = "vault";
    /// A secret of a vault.
    SecretId = "secret";
    /// A certificate authority that clients' certificates are checked against.
    CertificateAuthorityId = "ca";
    /// A TLS certificate with its private key.
    TlsCertificateId = "cert";
    /// An IP restriction of an account.
    IpRestrictionId = "ipx";
    /// A node of the cluster.
    NodeId = "nd";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_by_time() {
        let early = EndpointId::new(1_700_000_000, [255; 16]);
        let late = EndpointId::new(1_700_000_001, [0; 16]);
        assert!(early < late);
        assert_eq!(early.as_str().len(), 30);
    }

    #[test]
    fn ids_round_trip_and_refuse_other_prefixes() {
        let id = CredentialId::new(1_700_000_000, [7; 16]);
        assert_eq!(id.as_str().parse::<CredentialId>(), Ok(id.clone()));
        assert!(id.as_str().parse::<ApiKeyId>().is_err());
        assert_eq!(CredentialId::from_ksuid(id.ksuid()), Ok(id));
        assert!("cr_".parse::<CredentialId>().is_err());
        assert!(
            "cr_zzzzzzzzzzzzzzzzzzzzzzzzzzz"
                .parse::<CredentialId>()
                .is_err()
        );
    }

    #[test]
    fn times_beyond_the_range_make_ids_all_the_same() {
        for seconds in [i64::MIN, -1, 0, KSUID_EPOCH, i64::MAX] {
            for byte in [0, 255] {
                let id = EndpointId::new(seconds, [byte; 16]);
                assert_eq!(id.as_str().parse(), Ok(id.clone()), "{seconds}");
            }
        }
    }

    #[test]
    fn ids_refuse_other_forms_and_name_the_right_one() {
        let good = EndpointId::new(1_700_000_000, [7; 16]);
        for text in [
            "",
            "ep",
            "ep_",
            good.ksuid(),
            &format!("{good}x"),
            &good.as_str()[..29],
            "ep_aWgEPTl1tmebfsQzFP4bxwgy80W",
            "ep_2NfK3bpsSVTkrd4Rki6m6R2oQ-C",
        ] {
            assert!(text.parse::<EndpointId>().is_err(), "{text}");
        }
        assert!(
            "ep_aWgEPTl1tmebfsQzFP4bxwgy80V"
                .parse::<EndpointId>()
                .is_ok()
        );
        let error = serde_json::from_str::<EndpointId>("\"x\"").expect_err("no id");
        assert!(
            error
                .to_string()
                .contains("`x` is not an id of the form ep_ followed by 27"),
            "{error}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_id_or_refused(text in "(ep_)?\\PC{0,40}") {
            if let Ok(id) = text.parse::<EndpointId>() {
                proptest::prop_assert_eq!(id.ksuid().len(), KSUID_CHARS);
            }
        }
    }
}
