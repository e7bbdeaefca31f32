//! Probes of upstreams: one dial and one minimal exchange in the service's own protocol.
//!
//! Must never: read more than [`PROBE_BYTES_MAX`], go on past the deadline, or decide what follows; the
//! machine in `model::health` counts.

use std::time::Duration;

use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::health::{self, Health, HealthCheck, Probe, Tracker};
use portcullis_model::{Code, Error, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Target, Upstream, UpstreamStream, UpstreamTls, dial};
use crate::defaults::PROBE_BYTES_MAX;
use crate::relay::RelayIo as _;
use crate::resolve::Resolver;

mod answers;

use answers::Verdict;

/// A PostgreSQL `SSLRequest`: answered by every server, without a user and before it logs anything.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// A PROXY v2 header of the command LOCAL: a connection of the proxy's own.
const PROXY_V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
/// The v1 form of the same.
const PROXY_V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Whether a check can be made of an upstream.
///
/// # Errors
/// `PTC_HEALTH_INVALID`.
pub fn fits(check: &HealthCheck, upstream: &Upstream) -> Result<(), Error> {
    check.check()?;
    if check.probe == Probe::Tls && matches!(upstream, Upstream::Unix(_)) {
        let cause = "check: tls needs an upstream with a host; a unix socket has none";
        return Err(Error::new(Code::HealthInvalid, cause));
    }
    Ok(())
}

/// Checks an upstream once. One that expects a PROXY header gets one that says that the connection is
/// this program's own.
///
/// # Errors
/// `PTC_UPSTREAM_UNHEALTHY` with what was wrong; `PTC_FILE_LIMIT`, which is no fault of the upstream.
pub async fn probe(
    check: &HealthCheck,
    upstream: &Upstream,
    proxy: Option<ProxyVersion>,
    resolver: &Resolver,
) -> Result<(), Error> {
    let deadline = Instant::now() + check.timeout;
    let header = proxy.map(|version| match version {
        ProxyVersion::V1 => PROXY_V1_UNKNOWN,
        ProxyVersion::V2 => PROXY_V2_LOCAL,
    });
    let failed = |what: &str| health::failure(&format!("{check}: {what}"));
    let over_tls = match (&check.probe, upstream) {
        // Whether it speaks TLS is the question, not whether we would trust it.
        (Probe::Tls, Upstream::Tcp(target)) => Some(Upstream::Tls(
            target.clone(),
            UpstreamTls {
                verify: false,
                ..UpstreamTls::default()
            },
        )),
        _ => None,
    };
    let to = over_tls.as_ref().unwrap_or(upstream);
    let dialled = dial(to, resolver, deadline, header).await;
    let mut stream = dialled.map_err(|error| match error.code {
        Code::FileLimit => error,
        _ => failed(&error.message),
    })?;
    let exchange = exchange(&check.probe, upstream, &mut stream);
    let answer = match tokio::time::timeout_at(deadline, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err("it did not answer in time".to_owned()),
    };
    // Nothing of it is needed any more; a reset leaves no socket waiting on either side. A service that
    // was answered politely gets an end instead.
    if answer.is_err() {
        stream.reset();
    }
    answer.map_err(|what| failed(&what))
}

/// Says what the probe says, and judges the answer.
async fn exchange(
    probe: &Probe,
    upstream: &Upstream,
    stream: &mut UpstreamStream,
) -> Result<(), String> {
    match probe {
        Probe::Tcp | Probe::Tls => Ok(()),
        Probe::Expect { send, expect } => {
            say(stream, send).await?;
            hear(stream, |heard, ended| answers::expect(expect, heard, ended)).await
        }
        Probe::Postgres => {
            say(stream, &SSL_REQUEST).await?;
            hear(stream, answers::postgres).await
        }
        Probe::Mysql => hear(stream, answers::mysql).await,
        Probe::Redis => {
            say(stream, b"*1\r\n$4\r\nPING\r\n").await?;
            hear(stream, answers::redis).await
        }
        Probe::Smtp => {
            hear(stream, answers::smtp).await?;
            // Best effort: it has answered, and this only keeps its log tidy.
            drop(say(stream, b"QUIT\r\n").await);
            Ok(())
        }
        Probe::Ssh => hear(stream, answers::ssh).await,
        Probe::Http { path, host, status } => {
            let host = host.clone().unwrap_or_else(|| host_of(upstream));
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: portcullis-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            );
            say(stream, request.as_bytes()).await?;
            hear(stream, |heard, ended| answers::http(*status, heard, ended)).await
        }
    }
}

/// The `Host` of a request to an upstream.
fn host_of(upstream: &Upstream) -> String {
    match upstream {
        Upstream::Tcp(Target::HostPort { host, port })
        | Upstream::Tls(Target::HostPort { host, port }, _) => match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        },
        Upstream::Tcp(Target::Service(name)) | Upstream::Tls(Target::Service(name), _) => {
            name.clone()
        }
        Upstream::Unix(_) => "localhost".to_owned(),
    }
}

async fn say(stream: &mut UpstreamStream, bytes: &[u8]) -> Result<(), String> {
    let said = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    said.await
        .map_err(|error| format!("it could not be asked: {error}"))
}

/// Reads until the judge has a verdict, or until it has heard too much.
async fn hear(
    stream: &mut (impl AsyncRead + Unpin),
    judge: impl Fn(&[u8], bool) -> Verdict,
) -> Result<(), String> {
    let mut heard = Vec::with_capacity(256);
    loop {
        let room = PROBE_BYTES_MAX - heard.len();
        let read = (&mut *stream)
            .take(u64::try_from(room).unwrap_or(0))
            .read_buf(&mut heard)
            .await;
        let ended = match read {
            Ok(count) => count == 0,
            // It may have said what is needed before it broke.
            Err(error) => return judge(&heard, true).or(|| format!("it broke off: {error}")),
        };
        match judge(&heard, ended) {
            Verdict::More if ended && room > 0 => {
                return Err("it closed the connection before it answered".to_owned());
            }
            Verdict::More if heard.len() >= PROBE_BYTES_MAX => {
                return Err(format!("nothing known in {PROBE_BYTES_MAX} bytes"));
            }
            Verdict::More => {}
            Verdict::Good => return Ok(()),
            Verdict::Bad(why) => return Err(why),
        }
    }
}

/// Checks an upstream again and again, and tells what comes of it: with every answer how it fares, and whether
/// it turned. `of` says where it is now; another place begins anew, and none is not checked. At most as many
/// checks run at once as there are `places`. It never ends: whoever does not want it any more drops it.
pub async fn watch(
    check: &HealthCheck,
    of: impl Fn() -> Option<(Upstream, Option<ProxyVersion>)>,
    resolver: &Resolver,
    places: &Semaphore,
    seed: u64,
    mut told: impl FnMut(&Health, bool),
) {
    let mut tracker = Tracker::new(check);
    let mut last = None;
    let mut first = true;
    loop {
        let now = of();
        if now != last {
            tracker = Tracker::new(check);
            last = now;
        }
        if let Some((upstream, proxy)) = &last {
            // Never closed; without a place it would be checked all the same.
            let place = places.acquire().await;
            let answer = probe(check, upstream, *proxy, resolver).await;
            drop(place);
            // No descriptor is this process's trouble, and says nothing of the upstream.
            if !matches!(&answer, Err(error) if error.code == Code::FileLimit) {
                let turned = tracker.note(answer, Timestamp::from(jiff::Timestamp::now()));
                if let Some(health) = tracker.health() {
                    told(health, turned);
                }
            }
        }
        tokio::time::sleep(pause(check, first, seed)).await;
        first = false;
    }
}

/// When the next check is due: the first interval is cut by where the upstream stands among many, so that
/// those that begin together do not stay together.
pub fn pause(check: &HealthCheck, first: bool, seed: u64) -> Duration {
    match first {
        // 50 to 100 % of it, in steps of a sixty-fourth.
        true => {
            check.interval / 2
                + check.interval.mul_f64(0.5) / 64 * u32::try_from(seed % 65).unwrap_or(0)
        }
        false => check.interval,
    }
}

#[cfg(test)]
mod tests;
