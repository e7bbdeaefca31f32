//! Flags of pools, live changes and health checks, as `tcp` takes them.

use clap::Args;
use portcullis_model::{Error, HealthCheck, OnChange, PoolStrategy, PoolTerms};

use crate::config::reader;

/// How it stands in its pool, and what a changed policy does to open connections.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pool")]
pub(crate) struct PoolArgs {
    /// How members of its pool are chosen: random, weighted, least-connections, random-two or hash-client-ip; the
    /// oldest member's word counts.
    #[arg(long, value_name = "STRATEGY", default_value_t)]
    pool_strategy: PoolStrategy,
    /// Its share beside the other members of its pool.
    #[arg(long, value_name = "N", default_value_t = 1)]
    weight: u32,
    /// What becomes of open connections when the policy changes: keep, reevaluate or drain.
    #[arg(long, value_name = "WORD", default_value_t)]
    pub(crate) on_change: OnChange,
}

impl PoolArgs {
    /// As an endpoint carries them.
    pub(crate) fn terms(&self) -> PoolTerms {
        PoolTerms {
            strategy: self.pool_strategy,
            weight: self.weight,
        }
    }
}

/// A health check of the upstream.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Health check")]
pub(crate) struct HealthArgs {
    /// Check the upstream: tcp, postgres, mysql, redis, smtp, ssh, tls, http or http:/PATH, or a map in JSON such
    /// as {"check":"expect","send":"PING","expect":"PONG"}.
    #[arg(long, value_name = "CHECK")]
    health: Option<String>,
    /// From one check to the next: 500ms to 1h, 10s if left out.
    #[arg(long, value_name = "SPAN", requires = "health", value_parser = reader::duration)]
    health_interval: Option<std::time::Duration>,
    /// How long one check may take: 50ms to 1m, 2s if left out.
    #[arg(long, value_name = "SPAN", requires = "health", value_parser = reader::duration)]
    health_timeout: Option<std::time::Duration>,
    /// Good answers in a row that make it healthy again, 2 if left out.
    #[arg(long, value_name = "N", requires = "health")]
    health_rise: Option<u32>,
    /// Bad answers in a row that make it unhealthy, 3 if left out.
    #[arg(long, value_name = "N", requires = "health")]
    health_fall: Option<u32>,
}

impl HealthArgs {
    /// The check, if one is asked for.
    ///
    /// # Errors
    /// `PTC_HEALTH_INVALID` with the field.
    pub(crate) fn check(&self) -> Result<Option<HealthCheck>, Error> {
        let Some(text) = &self.health else {
            return Ok(None);
        };
        let mut check = HealthCheck::read_text(text)?;
        check.interval = self.health_interval.unwrap_or(check.interval);
        check.timeout = self.health_timeout.unwrap_or(check.timeout);
        check.rise = self.health_rise.unwrap_or(check.rise);
        check.fall = self.health_fall.unwrap_or(check.fall);
        check.check()?;
        Ok(Some(check))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn flags_go_over_the_written_check() {
        let args = HealthArgs {
            health: Some("{\"check\":\"redis\",\"interval\":\"30s\",\"fall\":9}".to_owned()),
            health_interval: Some(Duration::from_secs(1)),
            ..HealthArgs::default()
        };
        let check = args.check().unwrap().unwrap();
        assert_eq!((check.interval, check.fall), (Duration::from_secs(1), 9));
        assert_eq!(HealthArgs::default().check(), Ok(None));
        let short = HealthArgs {
            health_interval: Some(Duration::from_millis(1)),
            ..args
        };
        let error = short.check().unwrap_err();
        assert!(error.message.starts_with("interval:"), "{error}");
    }
}
