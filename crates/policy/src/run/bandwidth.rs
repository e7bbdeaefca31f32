//! `limit-bandwidth` at work: which limits hold for the connection.

use serde_json::json;

use super::{Asked, Bandwidth, Flow, Run};
use crate::decide::{LimitBandwidth, Rule};
use crate::defaults::BANDWIDTHS_MAX;
use crate::world::Bucket;

impl Run {
    pub(super) fn limit_bandwidth(
        &mut self,
        rule: &Rule,
        limit: &LimitBandwidth,
        asked: Asked<'_>,
    ) -> Flow {
        let bucket = match &limit.key {
            None => None,
            Some(key) => match self.bucket(&limit.bucket, Some(key), asked) {
                Ok(bucket) => Some(bucket),
                Err(why) => return self.fails_at(rule, "key", why),
            },
        };
        let limits = limits(limit, bucket.as_ref());
        if self.bandwidths.len() + limits.len() > BANDWIDTHS_MAX {
            let why = format!("a connection has at most {BANDWIDTHS_MAX} limits of its bandwidth");
            return self.fails_at(rule, "rate", why);
        }
        let (upload, download) = (limit.upload.unwrap_or(0), limit.download.unwrap_or(0));
        self.bandwidths.extend(limits);
        let left = json!({ "upload": upload, "download": download });
        self.outputs.set("limit_bandwidth", left);
        let told = |rate: u64| match rate {
            0 => "any".to_owned(),
            rate => format!("{rate} B/s"),
        };
        let what = format!(
            "limit-bandwidth up {}, down {}",
            told(upload),
            told(download)
        );
        self.note(rule, &what);
        Flow::On
    }
}

/// One limit, or one for each direction where each has a second's worth of its own to burst.
fn limits(limit: &LimitBandwidth, bucket: Option<&Bucket>) -> Vec<Bandwidth> {
    let one = |upload: u64, download: u64, burst: u64, direction: &str| Bandwidth {
        bucket: bucket.map(|bucket| Bucket {
            action: format!("{}{direction}", bucket.action).into(),
            ..bucket.clone()
        }),
        upload,
        download,
        burst,
    };
    match (limit.upload, limit.download, limit.burst) {
        (Some(up), Some(down), None) if up != down => {
            vec![one(up, 0, up, "/upload"), one(0, down, down, "/download")]
        }
        (up, down, burst) => {
            let (up, down) = (up.unwrap_or(0), down.unwrap_or(0));
            vec![one(up, down, burst.unwrap_or(up.max(down)), "")]
        }
    }
}
