//! How an endpoint stands in its pool: the strategy that members are chosen by, and its weight.
//!
//! Must never: choose; the edge does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Code, Error};

/// Largest weight of a member: as of a target of `forward-internal`.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// How a member of a pool is chosen for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolStrategy {
    /// Drawn at random by weight.
    #[default]
    Random,
    /// Smooth weighted round robin: exact on each node.
    Weighted,
    /// The fewest open connections for its weight, of this node.
    LeastConnections,
    /// The less busy one of two drawn at random by weight.
    RandomTwo,
    /// The same member for the same client address, by weighted rendezvous hashing.
    HashClientIp,
}

impl PoolStrategy {
    /// Every strategy.
    pub const ALL: [Self; 5] = [
        Self::Random,
        Self::Weighted,
        Self::LeastConnections,
        Self::RandomTwo,
        Self::HashClientIp,
    ];

    /// The word in the API, in flags and in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Weighted => "weighted",
            Self::LeastConnections => "least-connections",
            Self::RandomTwo => "random-two",
            Self::HashClientIp => "hash-client-ip",
        }
    }
}

impl fmt::Display for PoolStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PoolStrategy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == text);
        found.ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Error::new(
                Code::ApiInvalidValue,
                format!(
                    "`{shown}` is no pool strategy; use random, weighted, least-connections, random-two or hash-client-ip"
                ),
            )
        })
    }
}

/// How an endpoint stands in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PoolTerms {
    /// How members are chosen; the oldest member's counts.
    #[serde(default)]
    pub strategy: PoolStrategy,
    /// Its share beside the other members; 0: none while another has one.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

impl Default for PoolTerms {
    fn default() -> Self {
        Self {
            strategy: PoolStrategy::default(),
            weight: 1,
        }
    }
}

impl PoolTerms {
    /// Whether they are those that an endpoint has without saying anything.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// `PTC_API_INVALID_VALUE`.
    pub fn check(&self) -> Result<(), Error> {
        if self.weight > WEIGHT_MAX {
            let message = format!("weight: {} is more than {WEIGHT_MAX}", self.weight);
            return Err(Error::new(Code::ApiInvalidValue, message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_words() {
        for strategy in PoolStrategy::ALL {
            assert_eq!(strategy.as_str().parse(), Ok(strategy));
            let word = serde_json::to_string(&strategy).expect("a word");
            assert_eq!(word, format!("\"{strategy}\""));
        }
        let error = "round-robin".parse::<PoolStrategy>().expect_err("none");
        assert!(error.message.contains("least-connections"), "{error}");
    }

    #[test]
    fn terms_have_defaults_and_bounds() {
        let terms: PoolTerms = serde_json::from_str("{}").expect("empty");
        assert!(terms.is_default() && terms.check().is_ok());
        let heavy = PoolTerms {
            weight: WEIGHT_MAX + 1,
            ..terms
        };
        assert_eq!(
            heavy.check().expect_err("too heavy").code,
            Code::ApiInvalidValue
        );
    }
}
