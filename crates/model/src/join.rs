//! Join strings: `pc1.` and base64url of {server, how it proves itself, authtoken}. One pasted
//! command is enough to connect, and nothing is trusted blindly.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::secret::Token;

/// What every join string of this form starts with.
pub const PREFIX: &str = "pc1.";
/// Longest join string that is read, in bytes; host names are at most 253.
const BYTES_MAX: usize = 2048;

/// How the server proves itself to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerTrust {
    /// By a certificate of a CA whose public key (SubjectPublicKeyInfo, DER) has this SHA-256.
    Pin([u8; 32]),
    /// By a certificate of a public CA, for the server's host name.
    Web,
}

/// A join string taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinString {
    /// Where agents connect, `host:port`.
    pub server: String,
    /// How the server proves itself.
    pub trust: ServerTrust,
    /// The credential's token.
    pub authtoken: Secret,
}

/// Why a text is not a join string. It never quotes the text: it holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Another prefix.
    #[error("a join string starts with `pc1.`")]
    Prefix,
    /// Not base64url, or not the expected fields.
    #[error("the join string is damaged; copy it again, whole")]
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    s: String,
    k: String,
    t: String,
}

impl JoinString {
    /// Whether `text` claims to be one (and not a bare authtoken).
    pub fn is_claimed_by(text: &str) -> bool {
        text.trim_start().starts_with(PREFIX)
    }

    /// The text to paste. It holds the authtoken.
    pub fn reveal(&self) -> Secret {
        let key = match &self.trust {
            ServerTrust::Pin(hash) => URL_SAFE_NO_PAD.encode(hash),
            ServerTrust::Web => "web".to_owned(),
        };
        let wire = Wire {
            s: self.server.clone(),
            k: key,
            t: self.authtoken.expose().clone(),
        };
        let json = serde_json::to_string(&wire).expect("three strings always serialise");
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json)))
    }

    /// Reads a join string.
    ///
    /// # Errors
    /// `JoinError`; the text itself is never part of it.
    pub fn parse(text: &str) -> Result<Self, JoinError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(JoinError::Prefix)?;
        if body.len() > BYTES_MAX {
            return Err(JoinError::Damaged);
        }
        let json = URL_SAFE_NO_PAD
            .decode(body)
            .map_err(|_| JoinError::Damaged)?;
        let wire: Wire = serde_json::from_slice(&json).map_err(|_| JoinError::Damaged)?;
        let trust = if wire.k == "web" {
            ServerTrust::Web
        } else {
            let hash = URL_SAFE_NO_PAD
                .decode(&wire.k)
                .map_err(|_| JoinError::Damaged)?;
            ServerTrust::Pin(hash.try_into().map_err(|_| JoinError::Damaged)?)
        };
        if Token::parse(&wire.t).is_err() || wire.s.rsplit_once(':').is_none() {
            return Err(JoinError::Damaged);
        }
        Ok(Self {
            server: wire.s,
            trust,
            authtoken: Secret::new(wire.t),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ksuid;

    #[test]
    fn join_string_round_trips() {
        let token = Token::new(&ksuid(1_700_000_000, [1; 16]), [2; 24]).reveal();
        for trust in [ServerTrust::Pin([7; 32]), ServerTrust::Web] {
            let join = JoinString {
                server: "edge.example.com:7443".into(),
                trust,
                authtoken: token.clone(),
            };
            let text = join.reveal();
            assert_eq!(JoinString::parse(text.expose()), Ok(join));
            for cut in PREFIX.len()..text.expose().len() {
                assert_eq!(
                    JoinString::parse(&text.expose()[..cut]),
                    Err(JoinError::Damaged),
                    "cut at {cut}"
                );
            }
        }
        assert_eq!(JoinString::parse(token.expose()), Err(JoinError::Prefix));
    }

    #[test]
    fn damaged_join_strings_are_refused_without_repeating_them() {
        let wrap = |json: &str| format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json));
        let token = Token::new(&ksuid(1_700_000_000, [1; 16]), [2; 24]).reveal();
        let with = |server: &str, key: &str, token: &str| {
            wrap(&format!(
                "{{\"s\":\"{server}\",\"k\":\"{key}\",\"t\":\"{token}\"}}"
            ))
        };
        assert!(JoinString::parse(&with("h:1", "web", token.expose())).is_ok());
        for text in [
            PREFIX.to_owned(),
            format!("{PREFIX}!!!"),
            wrap("{}"),
            wrap("[]"),
            with("h", "web", token.expose()),
            with("h:1", "d2Vi", token.expose()),
            with("h:1", "web", "hunter2"),
            format!("{PREFIX}{}", "A".repeat(BYTES_MAX + 1)),
        ] {
            assert_eq!(JoinString::parse(&text), Err(JoinError::Damaged));
        }
        assert!(!JoinError::Damaged.to_string().contains("hunter2"));
        assert!(JoinString::is_claimed_by(" pc1.x") && !JoinString::is_claimed_by(token.expose()));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(pc1\\.)?[A-Za-z0-9_-]{0,200}") {
            proptest::prop_assert!(JoinString::parse(&text).is_err());
        }
    }
}
