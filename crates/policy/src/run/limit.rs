//! `rate-limit` and `limit-connections` at work: what is counted, and under which key.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Asked, Flow, Run};
use crate::cel::Expr;
use crate::cidr::unmap;
use crate::decide::{Decision, LimitConnections, Limiter, RateLimit, Rule};
use crate::defaults::LIMIT_KEY_BYTES_MAX;
use crate::world::Bucket;

/// By what a client counts unless the policy says otherwise: its IPv4 address, or the /64 of its IPv6 address,
/// which is the least that one subscriber has, so that no client gets past a limit by changing its address.
fn client_key(ip: IpAddr) -> String {
    match unmap(ip) {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let network = ip.to_bits() & !u128::from(u64::MAX);
            format!("{}/64", Ipv6Addr::from_bits(network))
        }
    }
}

impl Run {
    pub(super) fn rate_limit(&mut self, rule: &Rule, limit: &RateLimit, asked: Asked<'_>) -> Flow {
        let bucket = match self.bucket(&limit.bucket, limit.key.as_ref(), asked) {
            Ok(bucket) => bucket,
            Err(why) => return self.fails_at(rule, "key", why),
        };
        let limited = !asked.world.take_rate(&bucket, &limit.rate);
        let left = json!({ "limited": limited, "key": &*bucket.key });
        self.outputs.set("rate_limit", left);
        let what = match (limited, limit.enforce) {
            (false, _) => "rate-limit allow",
            (true, true) => "rate-limit deny",
            (true, false) => "rate-limit deny (not enforced)",
        };
        self.note(rule, what);
        if !limited || !limit.enforce {
            return Flow::On;
        }
        Flow::Done(Decision::Limited {
            rule: Arc::clone(&rule.label),
            by: Limiter::Rate,
        })
    }

    pub(super) fn limit_connections(
        &mut self,
        rule: &Rule,
        limit: &LimitConnections,
        asked: Asked<'_>,
    ) -> Flow {
        let bucket = match self.bucket(&limit.bucket, limit.key.as_ref(), asked) {
            Ok(bucket) => bucket,
            Err(why) => return self.fails_at(rule, "key", why),
        };
        if asked.world.hold(&bucket, limit.most) {
            self.note(rule, "limit-connections allow");
            return Flow::On;
        }
        self.note(rule, "limit-connections deny");
        Flow::Done(Decision::Limited {
            rule: Arc::clone(&rule.label),
            by: Limiter::Connections,
        })
    }

    pub(super) fn bucket(
        &self,
        action: &Arc<str>,
        key: Option<&Expr>,
        asked: Asked<'_>,
    ) -> Result<Bucket, String> {
        let key = match key {
            None => client_key(asked.facts.conn.client.ip()),
            Some(key) => match key.eval(&self.scope(asked))? {
                Value::String(text) => text,
                other => other.to_string(),
            },
        };
        if key.len() > LIMIT_KEY_BYTES_MAX {
            return Err(format!(
                "the key is longer than {LIMIT_KEY_BYTES_MAX} bytes"
            ));
        }
        Ok(Bucket {
            endpoint: Arc::from(asked.facts.endpoint.id),
            action: Arc::clone(action),
            key: Arc::from(key),
        })
    }
}
