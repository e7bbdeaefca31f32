//! `portcullis api endpoints`: cloud endpoints are made and changed here, agents' are shown.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use portcullis_model::{Code, EndpointLimits, Error, OnChange, PoolStrategy};
use serde_json::Value;

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use crate::api_client::root_cause;
use crate::config::reader;
use crate::defaults;
use crate::failure::Failure;
use crate::output::{self, Format};

const KIND: Kind = Kind {
    path: "/endpoints",
    key: "endpoints",
    columns: &[
        ("id", "id"),
        ("url", "url"),
        ("type", "type"),
        ("binding", "bindings"),
        ("status", "status"),
        ("health", "health.status"),
        ("reason", "health.reason.msg"),
        ("name", "name"),
        ("upstream", "upstream_url"),
        ("description", "description"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a cloud endpoint.
    Create(CreateArgs),
    /// Show one.
    Get(IdArgs),
    /// List what is online.
    List(ListArgs),
    /// Change a cloud endpoint.
    Update(UpdateArgs),
    /// Delete a cloud endpoint.
    Delete(IdArgs),
}

/// Fields that can be set and changed.
#[derive(Debug, Args)]
pub(crate) struct Fields {
    /// Where it can be reached: public, internal or kubernetes.
    #[arg(long, value_name = "BINDING", value_delimiter = ',')]
    bindings: Vec<String>,
    #[command(flatten)]
    labels: Labels,
    /// Let other endpoints share the URL.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pooling_enabled: Option<bool>,
    /// Traffic Policy, YAML or JSON.
    #[arg(long, value_name = "DOCUMENT", group = "policy")]
    traffic_policy: Option<String>,
    /// Traffic Policy from a file (`-` reads standard input).
    #[arg(long, value_name = "FILE", group = "policy")]
    traffic_policy_file: Option<PathBuf>,
    /// Traffic Policy from a web address.
    #[arg(long, value_name = "URL", group = "policy")]
    traffic_policy_url: Option<String>,
    /// What becomes of open connections when the policy changes: keep, reevaluate or drain.
    #[arg(long, value_name = "WORD")]
    on_change: Option<OnChange>,
    /// How members of its pool are chosen: random, weighted, least-connections, random-two or hash-client-ip.
    #[arg(long, value_name = "STRATEGY")]
    pool_strategy: Option<PoolStrategy>,
    /// Its share beside the other members of its pool.
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    #[command(flatten)]
    limits: Limits,
}

/// `limits` of the endpoint; time spans as 5m or 300s, 0 is never.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// No byte either way for this long ends a connection.
    #[arg(long, value_name = "SPAN", value_parser = millis)]
    idle_timeout: Option<u64>,
    /// The client alone silent for this long ends a connection.
    #[arg(long, value_name = "SPAN", value_parser = millis)]
    client_idle_timeout: Option<u64>,
    /// The upstream alone silent for this long ends a connection.
    #[arg(long, value_name = "SPAN", value_parser = millis)]
    server_idle_timeout: Option<u64>,
    /// Silence after one direction has ended ends a connection.
    #[arg(long, value_name = "SPAN", value_parser = millis)]
    half_close_timeout: Option<u64>,
    /// From accept to established.
    #[arg(long, value_name = "SPAN", value_parser = millis)]
    connect_timeout: Option<u64>,
    /// From accept to the end, however many bytes move.
    #[arg(long, value_name = "SPAN", value_parser = millis)]
    max_lifetime: Option<u64>,
    /// Connections at once.
    #[arg(long, value_name = "N")]
    connections_max: Option<u32>,
    /// Connections at once from one source address.
    #[arg(long, value_name = "N")]
    connections_per_source_max: Option<u32>,
}

impl Limits {
    /// As an endpoint carries them.
    pub(crate) fn limits(&self) -> EndpointLimits {
        EndpointLimits {
            idle_timeout_ms: self.idle_timeout,
            client_idle_timeout_ms: self.client_idle_timeout,
            server_idle_timeout_ms: self.server_idle_timeout,
            half_close_timeout_ms: self.half_close_timeout,
            connect_timeout_ms: self.connect_timeout,
            max_lifetime_ms: self.max_lifetime,
            connections_max: self.connections_max,
            connections_per_source_max: self.connections_per_source_max,
        }
    }

    /// As the API takes them; none is nothing.
    fn json(&self) -> Option<Value> {
        let limits = self.limits();
        if limits == EndpointLimits::default() {
            None
        } else {
            serde_json::to_value(limits).ok()
        }
    }
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// tcp://host:port on an address of yours, tcp:// for a random one, tls://name, tls:// for a random name,
    /// tcp://name.internal:port or tls://name.internal:port.
    #[arg(long)]
    url: String,
    /// Its type; only cloud endpoints are made here.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    common: Common,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Its id.
    #[arg(value_name = "ID")]
    id: String,
    /// Its new URL, of the same scheme.
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    common: Common,
}

/// Does it.
pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(args) => {
            let body = body(args.fields)
                .await?
                .with("url", Some(args.url))
                .with("type", args.kind);
            let made = common::create(KIND, body, &args.common).await?;
            tell_notices(&made, &args.common);
            Ok(())
        }
        Verb::Get(args) => common::get(KIND, &args).await.map(drop),
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Update(args) => {
            let body = body(args.fields).await?.with("url", args.url);
            let changed = common::change(KIND, &args.id, body, &args.common).await?;
            tell_notices(&changed, &args.common);
            Ok(())
        }
        Verb::Delete(args) => common::delete(KIND, &args, &[]).await,
    }
}

/// What is to be known of the policy, to people; in JSON it stands already.
fn tell_notices(endpoint: &Value, common: &Common) {
    if Format::settle(common.output) == Format::Json {
        return;
    }
    let notices = endpoint
        .get("traffic_policy_notices")
        .and_then(Value::as_array);
    for notice in notices.into_iter().flatten() {
        let part = |name| notice.get(name).and_then(Value::as_str).unwrap_or_default();
        output::note(&format!("note: {}: {}", part("path"), part("message")));
    }
}

async fn body(fields: Fields) -> Result<Body, Failure> {
    let policy = policy(
        fields.traffic_policy,
        fields.traffic_policy_file,
        fields.traffic_policy_url,
    )
    .await?;
    Ok(Body::labelled(fields.labels)
        .with_list("bindings", fields.bindings)
        .with("pooling_enabled", fields.pooling_enabled)
        .with("traffic_policy", policy)
        .with("on_change", fields.on_change.map(OnChange::as_str))
        .with(
            "pool_strategy",
            fields.pool_strategy.map(PoolStrategy::as_str),
        )
        .with("weight", fields.weight)
        .with("limits", fields.limits.json()))
}

/// A time span as milliseconds.
pub(crate) fn millis(text: &str) -> Result<u64, String> {
    reader::duration(text).map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// The policy document, wherever it is.
async fn policy(
    text: Option<String>,
    file: Option<PathBuf>,
    url: Option<String>,
) -> Result<Option<String>, Failure> {
    match (text, file, url) {
        (Some(text), _, _) => Ok(Some(text)),
        (None, Some(path), _) => crate::cmd::policy::read_document(&path).map(Some),
        (None, None, Some(url)) => fetch(&url).await.map(Some),
        (None, None, None) => Ok(None),
    }
}

/// Fetches a policy document.
///
/// # Errors
/// `PTC_CONFIG_UNREADABLE`.
pub(crate) async fn fetch(url: &str) -> Result<String, Failure> {
    let refuse = |cause: String| {
        Failure::Known(Error::new(
            Code::ConfigUnreadable,
            format!("{url}: {cause}"),
        ))
    };
    let client = reqwest::Client::builder()
        .timeout(defaults::API_REQUEST_TIMEOUT)
        .build()
        .map_err(Error::internal)?;
    let failed = |error: reqwest::Error| refuse(root_cause(&error.without_url()));
    let mut answer = client
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(failed)?;
    // Bounded while it is read: nothing says how long a stranger's answer is.
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(failed)? {
        body.extend_from_slice(&part);
        if u64::try_from(body.len()).is_ok_and(|bytes| bytes > defaults::POLICY_FILE_BYTES_MAX) {
            return Err(refuse("larger than 1 MiB".to_owned()));
        }
    }
    String::from_utf8(body).map_err(|_| refuse("it is not UTF-8 text".to_owned()))
}
