//! Secrets: a wrapper that never prints, and tokens of the form `<KSUID>_<32 url-safe characters>`
//! that are shown once and kept as SHA-256.
//!
//! Must never: print, log or serialise a secret by accident; compare one in variable time.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

use crate::id::is_ksuid;

/// Random bytes behind a token's secret part: 24 bytes make 32 base64 characters, 192 bits.
pub const TOKEN_ENTROPY_BYTES: usize = 24;
/// Characters of a token's secret part.
pub const TOKEN_SECRET_CHARS: usize = 32;

/// A value that prints as `[secret]` and is wiped when dropped. It deserialises, but does not serialise.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret<T: Zeroize = String>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every call is a place where a secret may leak; keep them few.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Wipes a text that held a secret.
pub fn wipe(text: &mut str) {
    text.zeroize();
}

/// SHA-256 of a token's secret part, hexadecimal in the store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenHash(String);

impl TokenHash {
    /// Hashes the secret part of a token.
    pub fn of(secret: &str) -> Self {
        Self(hex(&Sha256::digest(secret.as_bytes())))
    }

    /// Whether `secret` hashes to this; constant time.
    pub fn matches(&self, secret: &str) -> bool {
        Self::of(secret)
            .0
            .as_bytes()
            .ct_eq(self.0.as_bytes())
            .into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

/// A token taken apart: the KSUID finds the record, the secret proves the holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The 27 characters that name the record.
    pub ksuid: String,
    /// The 32 characters that are hashed.
    pub secret: Secret,
}

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a token: 27 letters and digits, an underscore and 32 url-safe characters are expected"
)]
pub struct TokenError;

impl Token {
    /// Makes the token of the record whose id ends in `ksuid`.
    pub fn new(ksuid: &str, entropy: [u8; TOKEN_ENTROPY_BYTES]) -> Self {
        Self {
            ksuid: ksuid.to_owned(),
            secret: Secret::new(URL_SAFE_NO_PAD.encode(entropy)),
        }
    }

    /// Reads `<KSUID>_<secret>`.
    ///
    /// # Errors
    /// `TokenError` for any other form; it says nothing of the text itself.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let (ksuid, secret) = text.trim().split_once('_').ok_or(TokenError)?;
        let form = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if is_ksuid(ksuid) && secret.len() == TOKEN_SECRET_CHARS && secret.bytes().all(form) {
            Ok(Self {
                ksuid: ksuid.to_owned(),
                secret: Secret::new(secret.to_owned()),
            })
        } else {
            Err(TokenError)
        }
    }

    /// The text to hand out, once.
    pub fn reveal(&self) -> Secret {
        Secret::new(format!("{}_{}", self.ksuid, self.secret.expose()))
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.secret.expose())
    }
}

/// Lower-case hexadecimal of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ksuid;

    #[test]
    fn token_round_trips_and_its_hash_matches() {
        let token = Token::new(&ksuid(1_700_000_000, [3; 16]), [9; 24]);
        let parsed = Token::parse(token.reveal().expose()).expect("own form");
        assert_eq!(parsed, token);
        assert!(token.hash().matches(parsed.secret.expose()));
        assert!(!token.hash().matches("nonsense"));
    }

    #[test]
    fn secrets_never_print() {
        let token = Token::new(&ksuid(1_700_000_000, [3; 16]), [9; 24]);
        assert!(!format!("{token:?}").contains(token.secret.expose().as_str()));
    }

    #[test]
    fn tokens_refuse_other_forms_and_never_repeat_them() {
        let good = Token::new(&ksuid(1_700_000_000, [3; 16]), [9; 24]).reveal();
        let good = good.expose().as_str();
        assert!(Token::parse(&format!(" {good}\n")).is_ok());
        for text in [
            "",
            "_",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}x"),
            &good.replace('_', "-"),
            &good.replace('_', "_é"),
        ] {
            assert_eq!(Token::parse(text), Err(TokenError), "{text}");
        }
        assert!(!TokenError.to_string().contains(good));
    }

    #[test]
    fn secrets_are_read_from_configuration() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").expect("text");
        assert_eq!(
            (secret.expose().as_str(), secret.to_string().as_str()),
            ("hunter2", "[secret]")
        );
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(hex(&[0, 171, 255]), "00abff");
    }

    proptest::proptest! {
        #[test]
        fn tokens_round_trip(seconds in 1_400_000_000_i64..5_000_000_000, id in proptest::prelude::any::<[u8; 16]>(), entropy in proptest::prelude::any::<[u8; 24]>()) {
            let token = Token::new(&ksuid(seconds, id), entropy);
            proptest::prop_assert_eq!(Token::parse(token.reveal().expose()), Ok(token));
        }
    }
}
