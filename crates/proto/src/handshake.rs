//! The handshake's arithmetic: which version, which heartbeat, and the MAC that ties a data channel
//! to its session and to the TLS connection it runs on.
//!
//! Must never: compare a MAC in variable time, or print a session key.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use portcullis_model::{Code, Error, Secret, SessionId};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::open::LinkKind;

use crate::defaults::{EXPORTER_BYTES, HEARTBEAT_MAX, HEARTBEAT_MIN, SESSION_KEY_BYTES};

/// What the MAC of a channel begins with, so that the key can never sign anything else by chance.
const MAC_CONTEXT: &[u8] = b"portcullis channel 1";
/// The same of a link without TLS.
const PLAIN_MAC_CONTEXT: &[u8] = b"portcullis plain 1";

/// The versions that a side speaks, on the wire `[min, max]`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u16; 2]", into = "[u16; 2]")]
pub struct VersionRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl VersionRange {
    /// Whether `version` lies in the range.
    pub fn contains(self, version: u16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

impl From<[u16; 2]> for VersionRange {
    fn from([min, max]: [u16; 2]) -> Self {
        Self { min, max }
    }
}

impl From<VersionRange> for [u16; 2] {
    fn from(range: VersionRange) -> Self {
        [range.min, range.max]
    }
}

/// The newest version that both sides speak.
///
/// # Errors
/// `PTC_VERSION_UNSUPPORTED`, naming both ranges.
pub fn choose_version(ours: VersionRange, theirs: VersionRange) -> Result<u16, Error> {
    let newest = ours.max.min(theirs.max);
    if ours.contains(newest) && theirs.contains(newest) {
        return Ok(newest);
    }
    Err(Error::new(
        Code::VersionUnsupported,
        format!(
            "this side speaks protocol versions {} to {}, the other {} to {}; upgrade the older of the two",
            ours.min, ours.max, theirs.min, theirs.max
        ),
    ))
}

/// How often heartbeats go out, and how long one may stay without a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between two heartbeats of one side.
    pub interval: Duration,
    /// From a heartbeat to giving the peer up.
    pub tolerance: Duration,
}

impl Heartbeat {
    /// From the milliseconds of a hello or a welcome.
    ///
    /// # Errors
    /// `PTC_HEARTBEAT_INVALID` when either is outside 1 s to 5 min.
    pub fn from_millis(interval_ms: u64, tolerance_ms: u64) -> Result<Self, Error> {
        let interval = Duration::from_millis(interval_ms);
        let tolerance = Duration::from_millis(tolerance_ms);
        for (name, value) in [("interval", interval), ("tolerance", tolerance)] {
            if !(HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(&value) {
                let message =
                    format!("the heartbeat {name} is {value:?}; it must lie between 1 s and 5 min");
                return Err(Error::new(Code::HeartbeatInvalid, message));
            }
        }
        Ok(Self {
            interval,
            tolerance,
        })
    }

    /// The interval for the wire.
    pub fn interval_ms(self) -> u64 {
        u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX)
    }

    /// The tolerance for the wire.
    pub fn tolerance_ms(self) -> u64 {
        u64::try_from(self.tolerance.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            interval: crate::defaults::HEARTBEAT_INTERVAL,
            tolerance: crate::defaults::HEARTBEAT_TOLERANCE,
        }
    }
}

/// The key of one session; base64 on the wire, never printed, wiped when dropped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SessionKey(Secret<[u8; SESSION_KEY_BYTES]>);

impl SessionKey {
    /// From 32 random bytes.
    pub fn new(bytes: [u8; SESSION_KEY_BYTES]) -> Self {
        Self(Secret::new(bytes))
    }
}

/// A text that is not a session key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session key is 32 bytes in base64")]
pub struct SessionKeyError;

impl TryFrom<String> for SessionKey {
    type Error = SessionKeyError;
    fn try_from(text: String) -> Result<Self, SessionKeyError> {
        let text = Secret::new(text);
        let bytes = Secret::new(
            STANDARD
                .decode(text.expose())
                .map_err(|_| SessionKeyError)?,
        );
        let key = <[u8; SESSION_KEY_BYTES]>::try_from(bytes.expose().as_slice());
        key.map(Self::new).map_err(|_| SessionKeyError)
    }
}

impl Serialize for SessionKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0.expose()))
    }
}

/// The MAC of a channel's first frame, in base64:
/// HMAC-SHA256(session key, context ‖ session id ‖ channel BE64 ‖ TLS exporter).
///
/// The exporter binds it to one TLS connection, so that it is worth nothing on another.
pub fn channel_mac(
    key: &SessionKey,
    session: &SessionId,
    channel: u64,
    exporter: &[u8; EXPORTER_BYTES],
) -> String {
    STANDARD.encode(mac(key, session, channel, exporter).finalize().into_bytes())
}

/// Whether `claimed` is that MAC; constant time.
pub fn verify_channel_mac(
    key: &SessionKey,
    session: &SessionId,
    channel: u64,
    exporter: &[u8; EXPORTER_BYTES],
    claimed: &str,
) -> bool {
    match STANDARD.decode(claimed) {
        Ok(claimed) => mac(key, session, channel, exporter)
            .verify_slice(&claimed)
            .is_ok(),
        Err(_) => false,
    }
}

fn mac(
    key: &SessionKey,
    session: &SessionId,
    channel: u64,
    exporter: &[u8; EXPORTER_BYTES],
) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.0.expose()).expect("HMAC takes a key of any length");
    mac.update(MAC_CONTEXT);
    mac.update(session.as_str().as_bytes());
    mac.update(&channel.to_be_bytes());
    mac.update(exporter);
    mac
}

/// The MAC of the first message of a link without TLS, in base64:
/// HMAC-SHA256(session key, context ‖ kind ‖ session id ‖ link BE64), kind being 1 for a channel and 2 for
/// a carrier.
///
/// It says who begins the link and as what. It binds to no connection: who can read and change what
/// passes can read and change the link. The same number is taken once ([`crate::OnceOnly`]).
pub fn plain_mac(key: &SessionKey, session: &SessionId, link: u64, kind: LinkKind) -> String {
    STANDARD.encode(plain(key, session, link, kind).finalize().into_bytes())
}

/// Whether `claimed` is that MAC; constant time.
pub fn verify_plain_mac(
    key: &SessionKey,
    session: &SessionId,
    link: u64,
    kind: LinkKind,
    claimed: &str,
) -> bool {
    match STANDARD.decode(claimed) {
        Ok(claimed) => plain(key, session, link, kind)
            .verify_slice(&claimed)
            .is_ok(),
        Err(_) => false,
    }
}

fn plain(key: &SessionKey, session: &SessionId, link: u64, kind: LinkKind) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.0.expose()).expect("HMAC takes a key of any length");
    mac.update(PLAIN_MAC_CONTEXT);
    mac.update(&[match kind {
        LinkKind::Channel => 1,
        LinkKind::Carrier => 2,
    }]);
    mac.update(session.as_str().as_bytes());
    mac.update(&link.to_be_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORTER: [u8; EXPORTER_BYTES] = [5; EXPORTER_BYTES];

    fn session() -> SessionId {
        SessionId::new(1_700_000_000, [2; 16])
    }

    /// Computed with Python: `hmac.new(key, context + id + channel + exporter, sha256)`.
    #[test]
    fn channel_mac_is_the_one_that_others_compute() {
        let key = SessionKey::new([9; SESSION_KEY_BYTES]);
        let mac = channel_mac(&key, &session(), 3, &EXPORTER);
        assert_eq!(mac, "eSo8+0lJXp5c2mF1Wbvo4eNOWDpifrAkshnKUewgrU8=");
    }

    #[test]
    fn channel_mac_holds_for_its_session_channel_and_connection_alone() {
        let key = SessionKey::new([9; SESSION_KEY_BYTES]);
        let other = SessionKey::new([8; SESSION_KEY_BYTES]);
        let mac = channel_mac(&key, &session(), 3, &EXPORTER);
        assert!(verify_channel_mac(&key, &session(), 3, &EXPORTER, &mac));
        assert!(!verify_channel_mac(&other, &session(), 3, &EXPORTER, &mac));
        assert!(!verify_channel_mac(&key, &session(), 4, &EXPORTER, &mac));
        assert!(!verify_channel_mac(
            &key,
            &session(),
            3,
            &[6; EXPORTER_BYTES],
            &mac
        ));
        let another = SessionId::new(1_700_000_000, [3; 16]);
        assert!(!verify_channel_mac(&key, &another, 3, &EXPORTER, &mac));
        for claimed in ["", "?", &mac[..20], &format!("{mac}AAAA")] {
            assert!(
                !verify_channel_mac(&key, &session(), 3, &EXPORTER, claimed),
                "{claimed}"
            );
        }
    }

    /// Computed with Python: `hmac.new(key, context + b"\x02" + id + link, sha256)`.
    #[test]
    fn plain_mac_is_the_one_that_others_compute() {
        let key = SessionKey::new([9; SESSION_KEY_BYTES]);
        let mac = plain_mac(&key, &session(), 3, LinkKind::Carrier);
        assert_eq!(mac, "NfFTLfjcC03pEtieH1aMzmQI5x+8G7CsSlTYDd66mKk=");
    }

    #[test]
    fn plain_mac_holds_for_its_session_number_and_kind_alone() {
        let key = SessionKey::new([9; SESSION_KEY_BYTES]);
        let other = SessionKey::new([8; SESSION_KEY_BYTES]);
        let another = SessionId::new(1_700_000_000, [3; 16]);
        let (channel, carrier) = (LinkKind::Channel, LinkKind::Carrier);
        let mac = plain_mac(&key, &session(), 3, channel);
        assert!(verify_plain_mac(&key, &session(), 3, channel, &mac));
        assert!(!verify_plain_mac(&other, &session(), 3, channel, &mac));
        assert!(!verify_plain_mac(&key, &another, 3, channel, &mac));
        assert!(!verify_plain_mac(&key, &session(), 4, channel, &mac));
        assert!(!verify_plain_mac(&key, &session(), 3, carrier, &mac));
        assert!(!verify_plain_mac(&key, &session(), 3, channel, ""));
        let tls = channel_mac(&key, &session(), 3, &EXPORTER);
        assert!(!verify_plain_mac(&key, &session(), 3, channel, &tls));
        assert!(!verify_channel_mac(&key, &session(), 3, &EXPORTER, &mac));
    }

    #[test]
    fn session_key_round_trips_and_never_prints() {
        let key = SessionKey::new([9; SESSION_KEY_BYTES]);
        let json = serde_json::to_string(&key).expect("a string");
        assert_eq!(
            serde_json::from_str::<SessionKey>(&json).expect("its own form"),
            key
        );
        assert!(serde_json::from_str::<SessionKey>("\"CQkJ\"").is_err());
        assert_eq!(format!("{key:?}"), "SessionKey([secret])");
    }
}
