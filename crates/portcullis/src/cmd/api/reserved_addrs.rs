//! `portcullis api reserved-addrs`: addresses of one's own, and how to put a name of one's own on them.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use crate::failure::Failure;
use crate::output::{self, Format};

const KIND: Kind = Kind {
    path: "/reserved_addrs",
    key: "reserved_addrs",
    columns: &[
        ("id", "id"),
        ("addr", "addr"),
        ("kind", "kind"),
        ("region", "region"),
        ("created", "created_at"),
        ("description", "description"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Reserve an address.
    Create(CreateArgs),
    /// Show one, and the DNS record for a name of your own.
    Get(IdArgs),
    /// List them.
    List(ListArgs),
    /// Change description or metadata.
    Update(UpdateArgs),
    /// Release one; it rests for a while, then others may have it.
    Delete(IdArgs),
}

/// What an address owns.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum AddrKind {
    /// One port of a shared hostname.
    Port,
    /// A hostname with an IP of its own: every port.
    Host,
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// One port of a shared host, or a whole host.
    #[arg(long, value_enum)]
    kind: Option<AddrKind>,
    /// The hostname; drawn if left out.
    #[arg(long)]
    host: Option<String>,
    /// The port; drawn if left out.
    #[arg(long)]
    port: Option<u16>,
    /// The region.
    #[arg(long)]
    region: Option<String>,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    common: Common,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Its id.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    common: Common,
}

/// Does it.
pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(args) => {
            let kind = args.kind.map(|kind| match kind {
                AddrKind::Port => "port",
                AddrKind::Host => "host",
            });
            let body = Body::labelled(args.labels)
                .with("kind", kind)
                .with("host", args.host)
                .with("port", args.port)
                .with("region", args.region);
            let address = common::create(KIND, body, &args.common).await?;
            advise(&address, &args.common);
            Ok(())
        }
        Verb::Get(args) => {
            let address = common::get(KIND, &args).await?;
            advise(&address, &args.common);
            Ok(())
        }
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Update(args) => {
            common::update(KIND, &args.id, Body::labelled(args.labels), &args.common).await
        }
        Verb::Delete(args) => common::delete(KIND, &args, &[]).await,
    }
}

/// Prints the DNS record for a name of one's own below a table; in JSON it is in the answer.
fn advise(address: &Value, common: &Common) {
    if Format::settle(common.output) == Format::Table {
        output::line(&format!("\n{}", advice(address)));
    }
}

fn advice(address: &Value) -> String {
    let field = |name: &str| address.get(name).and_then(Value::as_str);
    let addr = field("addr").unwrap_or_default();
    let host =
        field("host").unwrap_or_else(|| addr.rsplit_once(':').map_or(addr, |(host, _)| host));
    let port = addr
        .rsplit_once(':')
        .map(|(_, port)| port)
        .filter(|_| field("kind") != Some("host"));
    let record = match host.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.is_ipv4() => format!("  db.example.com.  A      {ip}"),
        Ok(ip) => format!("  db.example.com.  AAAA   {ip}"),
        Err(_) => format!("  db.example.com.  CNAME  {host}."),
    };
    let note = match port {
        Some(port) => format!(
            "Clients then use db.example.com:{port}. The hostname is shared: every port of it answers on your name too,\n\
             those of others included. An address of kind host has an IP of its own and avoids that:\n  \
             portcullis api reserved-addrs create --kind host"
        ),
        None => "Every port of the address is yours; clients use db.example.com with the port of your endpoint.".to_owned(),
    };
    format!(
        "For a name of your own, add this record to its zone (db.example.com stands for it):\n{record}\n{note}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_and_the_note_fit_the_kind() {
        let shared = advice(
            &serde_json::json!({"addr": "1.tcp.example.com:20001", "kind": "port", "host": "1.tcp.example.com"}),
        );
        assert!(
            shared.contains("CNAME  1.tcp.example.com.")
                && shared.contains("db.example.com:20001")
                && shared.contains("--kind host")
        );
        let own = advice(
            &serde_json::json!({"addr": "h1.example.com", "kind": "host", "host": "h1.example.com"}),
        );
        assert!(own.contains("CNAME  h1.example.com.") && own.contains("Every port"));
        assert!(advice(&serde_json::json!({"addr": "192.0.2.1:5"})).contains("A      192.0.2.1"));
    }
}
