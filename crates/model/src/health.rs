//! Health checks of upstreams: what is asked for, and what the answers come to.
//!
//! Owns the configuration with its bounds, and the machine that counts answers. Must never: probe, or
//! read a clock; `net` probes, and whoever runs it passes the time in.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{Code, Error, Timestamp};

mod read;

#[cfg(test)]
mod tests;

/// The time between two checks unless the configuration says otherwise.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Bounds of the time between two checks: two a second are the most that one upstream is asked.
pub const INTERVAL_BOUNDS: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(3600));
/// The time that one check may take unless the configuration says otherwise, dial and TLS included.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// Bounds of the time that one check may take.
pub const TIMEOUT_BOUNDS: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(60));
/// Good answers in a row that make an unhealthy upstream healthy.
pub const RISE: u32 = 2;
/// Bad answers in a row that make a healthy upstream unhealthy.
pub const FALL: u32 = 3;
/// Most of either.
pub const IN_A_ROW_MAX: u32 = 100;
/// Bytes that `expect` may send.
pub const SEND_BYTES_MAX: usize = 4 * 1024;
/// Bytes that `expect` may look for.
pub const EXPECT_BYTES_MAX: usize = 1024;
/// Bytes of an HTTP check's path.
pub const PATH_BYTES_MAX: usize = 1024;
/// Bytes of an HTTP check's host.
pub const HOST_BYTES_MAX: usize = 255;
/// Bytes of a reason that are kept.
pub const REASON_BYTES_MAX: usize = 512;

/// What an upstream is asked, and what counts as an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Probe {
    /// It takes a connection (and TLS, where its URL is `tls://`).
    Tcp,
    /// It answers with certain bytes.
    Expect {
        /// Said first; may be empty.
        send: Vec<u8>,
        /// Must stand in what it says.
        expect: Vec<u8>,
    },
    /// It answers a PostgreSQL `SSLRequest`.
    Postgres,
    /// It greets as MySQL or MariaDB does.
    Mysql,
    /// It answers `PING` with `PONG`, or asks for a password.
    Redis,
    /// It greets with 220.
    Smtp,
    /// It greets with `SSH-`.
    Ssh,
    /// It answers a GET.
    Http {
        /// What is asked for; begins with `/`.
        path: String,
        /// The `Host` header; the upstream's where absent.
        host: Option<String>,
        /// The lowest and the highest status that is good.
        status: (u16, u16),
    },
    /// It does a TLS handshake; its certificate counts only where the upstream's URL is `tls://`.
    Tls,
}

impl Probe {
    /// The word in the API, in flags and in files.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Expect { .. } => "expect",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
            Self::Smtp => "smtp",
            Self::Ssh => "ssh",
            Self::Http { .. } => "http",
            Self::Tls => "tls",
        }
    }
}

/// A health check. Its written form is a word (`postgres`), or a map:
/// `{check: http, path: /ready, status: 200-299, interval: 10s, timeout: 2s, rise: 2, fall: 3}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From one check to the next.
    pub interval: Duration,
    /// Dial to verdict.
    pub timeout: Duration,
    /// Good answers in a row that make it healthy again.
    pub rise: u32,
    /// Bad answers in a row that make it unhealthy.
    pub fall: u32,
}

impl HealthCheck {
    /// With every default.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: INTERVAL,
            timeout: TIMEOUT,
            rise: RISE,
            fall: FALL,
        }
    }

    /// From its written form.
    ///
    /// # Errors
    /// `PTC_HEALTH_INVALID` with the field.
    pub fn read(written: &Value) -> Result<Self, Error> {
        read::read(written)
    }

    /// From text: a word, `http:/path`, or the map as JSON.
    ///
    /// # Errors
    /// `PTC_HEALTH_INVALID` with the field.
    pub fn read_text(text: &str) -> Result<Self, Error> {
        read::read_text(text)
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// `PTC_HEALTH_INVALID` with the field.
    pub fn check(&self) -> Result<(), Error> {
        read::check(self)
    }

    /// Its written form.
    pub fn written(&self) -> Value {
        read::written(self)
    }
}

impl fmt::Display for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.probe.as_str())
    }
}

impl Serialize for HealthCheck {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HealthCheck {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Value::deserialize(deserializer)?;
        Self::read(&written).map_err(|error| serde::de::Error::custom(error.message))
    }
}

/// How an upstream fares by its checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it is healthy.
    pub healthy: bool,
    /// What the last check failed with; `None` after one that worked.
    pub reason: Option<Error>,
    /// Since when it is `healthy` or not.
    pub since: Timestamp,
    /// When it was checked last.
    pub checked_at: Timestamp,
    /// Checks in a row that failed.
    pub failures: u32,
}

impl Health {
    /// Whether it is healthy and its last check failed.
    pub fn is_shaky(&self) -> bool {
        self.healthy && self.failures > 0
    }
}

/// Counts the answers of one upstream. The first answer decides alone; from then on `fall` bad ones in a
/// row make it unhealthy, and `rise` good ones healthy again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracker {
    rise: u32,
    fall: u32,
    successes: u32,
    health: Option<Health>,
}

impl Tracker {
    /// One that has not heard anything.
    pub fn new(check: &HealthCheck) -> Self {
        Self {
            rise: check.rise,
            fall: check.fall,
            successes: 0,
            health: None,
        }
    }

    /// Takes an answer. Whether it changed to healthy or unhealthy.
    pub fn note(&mut self, answer: Result<(), Error>, now: Timestamp) -> bool {
        let good = answer.is_ok();
        let Some(health) = &mut self.health else {
            self.health = Some(Health {
                healthy: good,
                reason: answer.err(),
                since: now,
                checked_at: now,
                failures: u32::from(!good),
            });
            return true;
        };
        health.checked_at = now;
        if good {
            self.successes = self.successes.saturating_add(1);
            health.failures = 0;
        } else {
            self.successes = 0;
            health.failures = health.failures.saturating_add(1);
        }
        // An unhealthy one keeps its reason until it is healthy again: that is what people ask for.
        if !good || health.healthy {
            health.reason = answer.err();
        }
        let turns = match health.healthy {
            true => health.failures >= self.fall,
            false => self.successes >= self.rise,
        };
        if turns {
            health.healthy = !health.healthy;
            health.since = now;
            if health.healthy {
                health.reason = None;
            }
        }
        turns
    }

    /// What the answers came to; `None` before the first.
    pub fn health(&self) -> Option<&Health> {
        self.health.as_ref()
    }
}

/// Why a check failed, as it is kept and shown: bounded, without what could steer a terminal.
pub fn failure(what: &str) -> Error {
    let clean: String = what
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let end = clean.floor_char_boundary(REASON_BYTES_MAX);
    Error::new(Code::UpstreamUnhealthy, clean[..end].to_owned())
}
