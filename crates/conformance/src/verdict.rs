//! How a case ends.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// What was expected was seen.
    Pass,
    /// Something else was seen.
    Fail,
    /// The case says nothing about this proxy; the report gives the reason.
    NotApplicable,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotApplicable => "n/a",
        })
    }
}

/// Why a case stopped before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    /// A sentence: what was expected, what was seen.
    #[error("{0}")]
    Fail(String),
    /// Why the case says nothing here.
    #[error("{0}")]
    NotApplicable(String),
}

/// What a case gives: a figure worth a note (often empty), or why it stopped.
pub(crate) type Outcome = Result<String, Stop>;

/// A failed case, in one sentence.
pub(crate) fn fail<T>(sentence: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fail(sentence.into()))
}

/// A number of bytes as people write it.
pub(crate) fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        n if n >= MIB && n % MIB == 0 => format!("{} MiB", n / MIB),
        n if n >= KIB && n % KIB == 0 => format!("{} KiB", n / KIB),
        n if n >= 10 * MIB => format!("{:.1} MiB", bytes as f64 / MIB as f64),
        n => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1000), "1000 B");
        assert_eq!(size(1 << 10), "1 KiB");
        assert_eq!(size(16 << 20), "16 MiB");
        assert_eq!(size((16 << 20) + 1), "16.0 MiB");
    }
}
