//! Routing by the name that a client's TLS asks for: the port that all public `tls://` endpoints share.
//!
//! The ClientHello is read before anything is routed, and replayed to wherever the connection goes: the keys are
//! the upstream's, unless the endpoint's policy terminates TLS. Who cannot be routed is told so with an alert, for
//! that is all that its TLS understands.
//!
//! Must never: wait for a name at a port that is not routed by it, or guess one.

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_model::{Code, Error};
use portcullis_policy::sniff::{First, Front, Protocol};
use portcullis_store::Snapshot;
use portcullis_telemetry::{CloseReason, Ended};
use tokio::time::Instant;

use crate::client::ClientIo;
use crate::connection::Record;
use crate::defaults::TLS_HELLO_TIMEOUT;
use crate::early::Early;
use crate::farewell::{Parting, Refused};
use crate::node::Node;
use crate::reads::{self, Waiting};
use crate::route::{self, Routed, Tries};
use crate::terminate;
use crate::world::Known;

/// A fatal alert in a record of its own (RFC 8446, 5.1 and 6): nobody has such a name, and there is none.
const UNRECOGNIZED_NAME: [u8; 7] = alert(112);
const MISSING_EXTENSION: [u8; 7] = alert(109);

const fn alert(description: u8) -> [u8; 7] {
    [0x15, 3, 3, 0, 2, 2, description]
}

/// Whether a name decides where the connection goes, and it is not known yet.
pub(crate) fn is_awaited(snapshot: &Snapshot, listener: SocketAddr, known: &Known) -> bool {
    known.given.first.is_none() && snapshot.is_tls(listener.ip(), listener.port())
}

/// Reads the ClientHello. What a client says instead, or does not say, is judged by [`entry`].
///
/// # Errors
/// The client is gone, somebody ended the connection, or its source has too many that wait like this.
/// `acme_answered` when it was an ACME authority with a challenge.
pub(crate) async fn read(
    node: &Node,
    client: &mut ClientIo,
    early: &Early<'_>,
    (record, source): (&Record, SocketAddr),
    known: &mut Known,
    within: Instant,
) -> Result<(), Refused> {
    let most = node.config.limits.connections_per_source_max;
    let _place = node.admission.await_name(source.ip(), most)?;
    let deadline = within.min(Instant::now() + TLS_HELLO_TIMEOUT);
    let first = reads::hello(client, early, record.kill(), deadline).await?;
    let challenge = node.config.acme.as_ref().and_then(|acme| {
        let offered = first.alpn.iter().map(String::as_bytes);
        acme.answers(first.sni.as_deref()?, offered)
    });
    if let Some(challenge) = challenge {
        let mut waiting = Waiting::of(client, early, record, Instant::now(), TLS_HELLO_TIMEOUT);
        terminate::shake_hands(&challenge, &mut waiting, deadline).await?;
        return Err(Ended::from(CloseReason::AcmeAnswered).into());
    }
    known.given.first = Some(first);
    Ok(())
}

/// The endpoint that a connection is for: by its name where that decides, else by its listener.
///
/// # Errors
/// `tls_…`, `no_endpoint`, or the last failure when every member was tried.
pub(crate) fn entry(
    node: &Node,
    snapshot: &Snapshot,
    listener: SocketAddr,
    tries: &Tries,
    known: &Known,
) -> Result<Routed, Refused> {
    let (ip, port) = (listener.ip(), listener.port());
    let first = known.given.first.as_ref();
    let Some(first) = first.filter(|_| snapshot.is_tls(ip, port)) else {
        return Ok(route::entry(node, snapshot, listener, tries)?);
    };
    let name = name_of(first)?;
    let pool = snapshot.tls(ip, port, name);
    let nobody = || {
        let message = format!("no TLS endpoint is online at `{name}`");
        Ended::with(
            CloseReason::TlsNoEndpoint,
            Error::new(Code::TlsNoEndpoint, message),
        )
    };
    let Some(pool) = pool else {
        return Err(told(nobody(), &UNRECOGNIZED_NAME));
    };
    route::member(node, pool, tries).ok_or_else(|| tries.or_last(nobody()).into())
}

/// The name in a client's TLS.
fn name_of(first: &First) -> Result<&str, Refused> {
    // TLS may be told as what it carries, by its ALPN.
    let is_tls = first.protocol == Protocol::Tls
        || first.front == Front::Postgres
        || first.sni.is_some()
        || !first.alpn.is_empty();
    if !is_tls {
        let message = match first.protocol {
            Protocol::Unknown => "no ClientHello came, or not in time".to_owned(),
            other => format!("the client speaks {}, and TLS is expected", other.as_str()),
        };
        let error = Error::new(Code::TlsHandshake, message);
        return Err(Ended::with(CloseReason::TlsHandshake, error).into());
    }
    first
        .sni
        .as_deref()
        .ok_or_else(|| told(CloseReason::TlsNoName.into(), &MISSING_EXTENSION))
}

fn told(ended: Ended, alert: &[u8]) -> Refused {
    Refused {
        ended,
        parting: Parting::Say(Arc::from(alert)),
    }
}
