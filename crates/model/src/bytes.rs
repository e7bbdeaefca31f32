//! Sizes in bytes, as configuration writes them: `64KiB`, `4 GiB`, `1000`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// Units from the largest to the smallest, with their factor.
const UNITS: [(&str, u64); 7] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

impl ByteSize {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in &UNITS[..4] {
            if self.0 >= *factor && self.0.is_multiple_of(*factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write a number with B, KB, MB, GB, KiB, MiB, GiB or TiB behind it")]
pub struct ByteSizeError(String);

impl FromStr for ByteSize {
    type Err = ByteSizeError;
    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let refuse = || ByteSizeError(text.chars().take(40).collect());
        let trimmed = text.trim();
        let split = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let unit = unit.trim();
        if unit.is_empty() || unit.eq_ignore_ascii_case("B") {
            return Ok(Self(number));
        }
        let factor = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .ok_or_else(refuse)?;
        number.checked_mul(factor.1).map(Self).ok_or_else(refuse)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(bytes) => Ok(Self(bytes)),
            Raw::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_trip() {
        assert_eq!("64KiB".parse(), Ok(ByteSize(65536)));
        assert_eq!("1 GiB".parse(), Ok(ByteSize(1 << 30)));
        assert_eq!("17".parse(), Ok(ByteSize(17)));
        assert_eq!(ByteSize(65536).to_string(), "64KiB");
        assert!("64 KaB".parse::<ByteSize>().is_err());
        assert!("99999999999999TiB".parse::<ByteSize>().is_err());
    }

    #[test]
    fn sizes_are_read_as_number_or_text() {
        assert_eq!(
            serde_json::from_str::<ByteSize>("1000").expect("valid"),
            ByteSize(1000)
        );
        assert_eq!(
            serde_json::from_str::<ByteSize>("\"10 MB\"").expect("valid"),
            ByteSize(10_000_000)
        );
        assert_eq!("5 b".parse(), Ok(ByteSize(5)));
        for text in [
            "",
            "KiB",
            "-1",
            "1.5GiB",
            "1 KiB KiB",
            "18446744073709551616",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        let long = "9".repeat(1000).parse::<ByteSize>().expect_err("too large");
        assert!(
            long.to_string().len() < 150,
            "a message repeats little of the text"
        );
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_read(bytes in proptest::prelude::any::<u64>(), shift in 0..40_u32) {
            let size = ByteSize(bytes >> shift << shift);
            proptest::prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
