//! `portcullis tcp`: one service, one address. `portcullis tls` is the same for a name.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use portcullis_agent::EndpointOptions;
use portcullis_agent::config::EndpointEntry;
use portcullis_model::endpoint::{Binding, ProxyVersion};
use portcullis_model::url::Scheme;
use portcullis_model::{Code, Error};
use portcullis_net::upstream::Upstream;

use super::api::endpoints::{Limits, fetch};
use super::block_on;
use super::health::{HealthArgs, PoolArgs};
use super::tls_flags::TlsFlags;
use crate::agent_process::{self, AgentArgs, Patience, Work, deprecated};
use crate::failure::Failure;

/// `tcp`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  portcullis tcp 5432                                  a random address for localhost:5432
  portcullis tcp db.lan:5432 --url tcp://edge.example.com:20001
  portcullis tcp 22 --cidr-allow 192.0.2.0/24
  portcullis tcp 8080 --url tcp://app.internal:80      for other endpoints of the account only")]
pub(crate) struct Args {
    /// What to forward to: PORT, HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:/path.
    #[arg(value_name = "[HOST:]PORT|URL")]
    upstream: String,
    /// Endpoint URL; a random public address (or name) if left out.
    #[arg(long)]
    url: Option<String>,
    /// From where it can be reached: public, internal or kubernetes; inferred from the URL.
    #[arg(long)]
    binding: Option<Binding>,
    /// Its name; a random address is given again to the same name.
    #[arg(long)]
    name: Option<String>,
    /// What it is for, at most 255 bytes.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Text for programs, at most 4,096 bytes.
    #[arg(long, value_name = "TEXT")]
    metadata: Option<String>,
    /// Let other endpoints share the URL.
    #[arg(long)]
    pooling_enabled: bool,
    /// PROXY protocol header to the upstream.
    #[arg(long, value_name = "1|2", value_parser = proxy_version)]
    upstream_proxy_protocol: Option<ProxyVersion>,
    /// Let in clients of this network only; repeatable.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    cidr_allow: Vec<String>,
    /// Keep out clients of this network; repeatable.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    cidr_deny: Vec<String>,
    /// Traffic Policy, YAML or JSON.
    #[arg(long, value_name = "DOCUMENT", group = "policy")]
    traffic_policy: Option<String>,
    /// Traffic Policy from a file (`-` reads standard input).
    #[arg(long, value_name = "FILE", group = "policy")]
    traffic_policy_file: Option<PathBuf>,
    /// Traffic Policy from a web address.
    #[arg(long, value_name = "URL", group = "policy")]
    traffic_policy_url: Option<String>,
    /// Give a random address back when the endpoint closes.
    #[arg(long)]
    ephemeral: bool,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    pool: PoolArgs,
    #[command(flatten)]
    health: HealthArgs,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    agent: AgentArgs,
    /// Now --url.
    #[arg(long, hide = true, value_name = "HOST:PORT", conflicts_with = "url")]
    remote_addr: Option<String>,
    /// Now --upstream-proxy-protocol.
    #[arg(long, hide = true, value_parser = proxy_version, conflicts_with = "upstream_proxy_protocol")]
    proxy_proto: Option<ProxyVersion>,
    /// Now --traffic-policy-file.
    #[arg(long, hide = true, group = "policy")]
    policy_file: Option<PathBuf>,
    /// Without effect: the server decides.
    #[arg(long, hide = true)]
    region: Option<String>,
}

fn proxy_version(text: &str) -> Result<ProxyVersion, String> {
    match text {
        "1" | "v1" => Ok(ProxyVersion::V1),
        "2" | "v2" => Ok(ProxyVersion::V2),
        _ => Err("expected 1 or 2".to_owned()),
    }
}

/// Runs it until a signal comes.
///
/// # Errors
/// Why the endpoint could not be had, or why the agent ended.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    serve(args, Scheme::Tcp)
}

/// The same for any scheme.
///
/// # Errors
/// As [`run`].
pub(crate) fn serve(args: Args, scheme: Scheme) -> Result<(), Failure> {
    block_on(async move {
        let agent = args.agent.clone();
        let entry = entry(args, scheme).await?;
        entry.options.check()?;
        entry.upstream.parse::<Upstream>()?;
        let config = agent_process::configuration(&agent)?;
        let alone = Some(entry.options.name.clone());
        let work = Work {
            endpoints: vec![entry],
            patience: Patience::None,
            alone,
        };
        agent_process::run(config, work, &agent).await
    })
}

async fn entry(args: Args, scheme: Scheme) -> Result<EndpointEntry, Failure> {
    notices(&args);
    let file = args.traffic_policy_file.or(args.policy_file);
    let traffic_policy = match (args.traffic_policy, file, args.traffic_policy_url) {
        (Some(text), _, _) => text,
        (None, Some(path), _) => super::policy::read_document(&path)?,
        (None, None, Some(url)) => fetch(&url).await?,
        (None, None, None) => String::new(),
    };
    let options = EndpointOptions {
        name: args.name.unwrap_or_else(|| name_of(scheme, &args.upstream)),
        url: url(scheme, args.url, args.remote_addr)?,
        binding: args.binding,
        description: args.description.unwrap_or_default(),
        metadata: args.metadata.unwrap_or_default(),
        pooling_enabled: args.pooling_enabled,
        traffic_policy,
        proxy_protocol: args.upstream_proxy_protocol.or(args.proxy_proto),
        limits: args.limits.limits(),
        ephemeral: args.ephemeral,
        cidr_allow: args.cidr_allow,
        cidr_deny: args.cidr_deny,
        tls_termination: args.tls.termination(),
        on_change: args.pool.on_change,
        pool: args.pool.terms(),
        health: args.health.check()?,
    };
    Ok(EndpointEntry {
        options,
        upstream: args.tls.upstream(args.upstream)?,
    })
}

fn notices(args: &Args) {
    if args.remote_addr.is_some() {
        deprecated("--remote-addr", "--url tcp://HOST:PORT");
    }
    if args.proxy_proto.is_some() {
        deprecated("--proxy-proto", "--upstream-proxy-protocol");
    }
    if args.policy_file.is_some() {
        deprecated("--policy-file", "--traffic-policy-file");
    }
    if args.region.is_some() {
        crate::output::note("note: --region has no effect; the server has its region");
    }
}

/// The URL that is asked for; `tls` puts its scheme before a name alone.
fn url(scheme: Scheme, url: Option<String>, addr: Option<String>) -> Result<String, Error> {
    let url = url.or(addr.map(|addr| as_url(&addr))).unwrap_or_default();
    if scheme == Scheme::Tcp {
        return Ok(url);
    }
    let lower = url.trim().to_ascii_lowercase();
    match lower.split_once("://") {
        None => Ok(format!("tls://{}", url.trim())),
        Some(("tls", _)) => Ok(url),
        Some((other, rest)) => Err(Error::new(
            Code::UrlScheme,
            format!(
                "`portcullis tls` makes endpoints with tls://, and --url has {other}://; use `portcullis tcp`, or write `--url tls://{rest}`"
            ),
        )),
    }
}

fn as_url(addr: &str) -> String {
    if addr.contains("://") {
        addr.to_owned()
    } else {
        format!("tcp://{addr}")
    }
}

/// A name by what is forwarded to, so that a random address stays with its service: the address of
/// the database is never given to the shell that was exposed the day after.
fn name_of(scheme: Scheme, upstream: &str) -> String {
    let plain = upstream.strip_prefix("tcp://").unwrap_or(upstream);
    let plain = plain
        .strip_prefix("localhost:")
        .or_else(|| plain.strip_prefix("127.0.0.1:"))
        .unwrap_or(plain);
    let safe: String = plain
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    format!(
        "{scheme}-{}",
        safe.trim_matches('-').chars().take(56).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_upstream() {
        for (upstream, name) in [
            ("5432", "tcp-5432"),
            ("localhost:5432", "tcp-5432"),
            ("tcp://127.0.0.1:5432", "tcp-5432"),
            ("db.lan:5432", "tcp-db.lan-5432"),
            ("unix:/run/x.sock", "tcp-unix--run-x.sock"),
            ("[::1]:22", "tcp-1--22"),
        ] {
            assert_eq!(name_of(Scheme::Tcp, upstream), name);
        }
        assert_eq!(name_of(Scheme::Tls, "443"), "tls-443");
    }

    #[test]
    fn a_name_for_tls_needs_no_scheme() {
        let tls = |text: &str| url(Scheme::Tls, Some(text.to_owned()), None);
        assert_eq!(tls("app.example.com").unwrap(), "tls://app.example.com");
        assert_eq!(
            tls("TLS://app.example.com").unwrap(),
            "TLS://app.example.com"
        );
        assert_eq!(url(Scheme::Tls, None, None).unwrap(), "tls://");
        assert_eq!(url(Scheme::Tcp, None, None).unwrap(), "");
        let error = tls("tcp://edge:20001").unwrap_err();
        assert_eq!(error.code, Code::UrlScheme);
        assert!(error.message.contains("tls://edge:20001"));
    }

    #[test]
    fn deprecated_addresses_become_urls() {
        assert_eq!(as_url("edge:20001"), "tcp://edge:20001");
        assert_eq!(as_url("tcp://edge:20001"), "tcp://edge:20001");
    }
}
