//! Time as the resources carry it: RFC 3339 in UTC, to the millisecond.
//!
//! Must never: read the clock; the binary's crates do and pass it in.

use serde::{Deserialize, Serialize};

/// A point in time, UTC, millisecond precision. Serialises as `2026-11-20T12:00:00.000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch; out-of-range values are clamped to jiff's range.
    pub fn from_unix_millis(millis: i64) -> Self {
        // Whole seconds: jiff reads no milliseconds behind its last second.
        let min = jiff::Timestamp::MIN.as_second() * 1000;
        let max = jiff::Timestamp::MAX.as_second() * 1000;
        Self(millis.clamp(min, max))
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This point later by `duration`.
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_millis(self.0.saturating_add(millis))
    }

    /// The time from `earlier` to this point; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_millis(
            u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0),
        )
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(at: jiff::Timestamp) -> Self {
        Self::from_unix_millis(at.as_millisecond())
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => f.write_str("9999-12-31T00:00:00.000Z"),
        }
    }
}

impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        Ok(text.parse::<jiff::Timestamp>()?.into())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_rfc3339_with_milliseconds() {
        let at = Timestamp::from_unix_millis(1_700_000_000_007);
        assert_eq!(at.to_string(), "2023-11-14T22:13:20.007Z");
        assert_eq!(at.to_string().parse::<Timestamp>().ok(), Some(at));
    }

    #[test]
    fn times_order_subtract_and_stay_in_range() {
        let minute = std::time::Duration::from_secs(60);
        let at = Timestamp::from_unix_millis(-1);
        assert_eq!((at.unix_millis(), at.unix_seconds()), (-1, -1));
        let later = at.plus(minute);
        assert!(later > at);
        assert_eq!(
            (later.since(at), at.since(later)),
            (minute, std::time::Duration::ZERO)
        );
        let end = Timestamp::from_unix_millis(i64::MAX);
        assert_eq!(end.plus(minute), end);
        assert!(end.to_string().starts_with("9999-12-30"));
        assert!(
            Timestamp::from_unix_millis(i64::MIN)
                .to_string()
                .starts_with("-009999")
        );
    }

    #[test]
    fn times_serialise_as_text_with_milliseconds() {
        let at: Timestamp =
            serde_json::from_str("\"2026-11-20T13:00:00.1234567+01:00\"").expect("RFC 3339");
        assert_eq!(
            serde_json::to_string(&at).expect("text"),
            "\"2026-11-20T12:00:00.123Z\""
        );
        for text in ["\"2026-11-20\"", "\"now\"", "1700000000"] {
            assert!(serde_json::from_str::<Timestamp>(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_read(millis in proptest::prelude::any::<i64>()) {
            let at = Timestamp::from_unix_millis(millis);
            proptest::prop_assert_eq!(at.to_string().parse::<Timestamp>().ok(), Some(at));
        }
    }
}
