//! A client connection's life at the agent, the mirror of the edge's story: record → route → open →
//! relay → close. The edge has accepted, found the source, admitted and decided.
//!
//! Must never: log on the way; the record does, once, at the end.

use std::sync::Arc;

use bytes::Bytes;
use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::{Code, Error};
use portcullis_net::channel::{AgentOpening, Channel, Finished, OpenHeader};
use portcullis_net::proxy_protocol::{self, Version};
use portcullis_net::relay::{RelayIo as _, RelayLimits, Side, relay};
use portcullis_net::upstream::{Upstream, UpstreamStream, dial};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::channels::Context;
use crate::conn::Conn;
use crate::defaults;
use crate::endpoint::{LocalEndpoint, Sink};
use crate::record::{End, Record};

/// Serves one OPEN and returns the channel if it can serve another.
pub(crate) async fn serve(
    context: &Context,
    header: OpenHeader,
    first: Bytes,
    opening: AgentOpening,
) -> Option<Channel> {
    let Some(endpoint) = context.routes.find(&header.endpoint_id).await else {
        let error = Error::new(
            Code::EndpointNotFound,
            "the agent does not serve this endpoint",
        );
        tracing::warn!(connection = %header.connection_id, endpoint = %header.endpoint_id, "refused: unknown endpoint");
        return opening.refuse(&error).await;
    };
    let record = Record::open(&endpoint, &header, &context.shared.total);
    let _abort = context.register(&opening);
    match &*endpoint.sink() {
        Sink::Forward(upstream) => {
            forward(
                context, &endpoint, upstream, &header, first, opening, record,
            )
            .await
        }
        Sink::Queue(queue) => hand_over(context, queue, header, first, opening, record).await,
        Sink::Closed => {
            let error = Error::new(Code::EndpointNotFound, "the agent has closed this endpoint");
            refuse(opening, error, record).await
        }
    }
}

/// To an upstream.
async fn forward(
    context: &Context,
    endpoint: &Arc<LocalEndpoint>,
    upstream: &Upstream,
    header: &OpenHeader,
    first: Bytes,
    mut opening: AgentOpening,
    record: Record,
) -> Option<Channel> {
    let deadline = Instant::now() + defaults::UPSTREAM_DIAL_TIMEOUT;
    let proxy_header = endpoint
        .proxy_protocol()
        .map(|version| proxy_header(version, header));
    let dialled = tokio::select! {
        biased; // who ends comes before who begins
        () = context.token.cancelled() => return ended(record),
        () = opening.gone() => return gone(context, opening, record).await,
        dialled = dial(upstream, &context.shared.settings.resolver, deadline, proxy_header.as_deref()) => dialled,
    };
    let mut to = match dialled {
        Ok(to) => to,
        Err(error) => {
            endpoint.set_upstream_error(Some(error.clone()));
            return refuse(opening, error, record).await;
        }
    };
    endpoint.set_upstream_error(None);
    let mut from = match opening.opened().await {
        Ok(from) => from,
        Err(error) => {
            to.reset();
            record.close(End::ChannelLost(error));
            return None;
        }
    };
    let end = match begin(&mut to, &first, deadline, &record).await {
        Ok(()) => {
            let kill = &context.token;
            relay(
                &mut from,
                &mut to,
                &RelayLimits::default(),
                record.counters(),
                kill,
            )
            .await
            .into()
        }
        Err(error) => {
            from.reset_with(&error);
            to.reset();
            End::FirstBytes(error)
        }
    };
    record.close(end);
    drop(to); // the service learns of a reset now; settling may take as long as the edge needs
    settle(context, from.finish()).await
}

/// Writes what the client said before the upstream was there; at most 16 KiB.
async fn begin(
    to: &mut UpstreamStream,
    first: &[u8],
    deadline: Instant,
    record: &Record,
) -> Result<(), Error> {
    if first.is_empty() {
        return Ok(());
    }
    let late = || {
        Error::new(
            Code::UpstreamTimeout,
            "the upstream did not take the client's first bytes in time",
        )
    };
    let broken = |error: std::io::Error| {
        Error::new(
            Code::UpstreamUnreachable,
            "the upstream broke at the client's first bytes",
        )
        .with_internal(error)
    };
    timeout_at(deadline, to.write_all(first))
        .await
        .map_err(|_| late())?
        .map_err(broken)?;
    timeout_at(deadline, to.flush())
        .await
        .map_err(|_| late())?
        .map_err(broken)?;
    record.counters().add(Side::Client, first.len() as u64);
    Ok(())
}

/// To the program, which has the connection until it drops it.
async fn hand_over(
    context: &Context,
    queue: &mpsc::Sender<Conn>,
    header: OpenHeader,
    first: Bytes,
    mut opening: AgentOpening,
    record: Record,
) -> Option<Channel> {
    let place = tokio::select! {
        biased; // who ends comes before who begins
        () = context.token.cancelled() => return ended(record),
        () = opening.gone() => return gone(context, opening, record).await,
        place = timeout(defaults::ACCEPT_QUEUE_WAIT, queue.reserve()) => place,
    };
    let place = match place {
        Ok(Ok(place)) => place,
        Ok(Err(_)) => {
            let error = Error::new(
                Code::EndpointNotFound,
                "the program has closed this endpoint",
            );
            return refuse(opening, error, record).await;
        }
        Err(_) => {
            let error = Error::new(
                Code::LimitEndpoint,
                "the program does not accept connections fast enough",
            );
            return refuse(opening, error, record).await;
        }
    };
    let stream = match opening.opened().await {
        Ok(stream) => stream,
        Err(error) => {
            record.close(End::ChannelLost(error));
            return None;
        }
    };
    let abort = stream.abort_handle();
    let (conn, back) = Conn::new(stream, header, first, Arc::clone(record.counters()));
    place.send(conn);
    let back = tokio::select! {
        biased; // a session that ended takes the connection with it
        () = context.token.cancelled() => {
            abort.abort();
            return ended(record);
        }
        back = back => back,
    };
    // A `Conn` always gives its stream back, unless the runtime is going down.
    let Ok(returned) = back else {
        return ended(record);
    };
    let (stream, end) = tokio::select! {
        biased; // as above
        () = context.token.cancelled() => return ended(record),
        settled = returned.settle() => settled,
    };
    record.close(end);
    settle(context, stream.finish()).await
}

async fn refuse(opening: AgentOpening, error: Error, record: Record) -> Option<Channel> {
    let channel = opening.refuse(&error).await;
    record.close(End::Refused(error));
    channel
}

/// The session ended; the channel goes with it.
fn ended(record: Record) -> Option<Channel> {
    record.close(End::SessionEnded);
    None
}

/// The client left before the upstream was there.
async fn gone(context: &Context, opening: AgentOpening, record: Record) -> Option<Channel> {
    record.close(End::ClientGone);
    settle(context, opening.abandon()).await
}

/// Settles the open with the edge, and takes the channel back if it is free.
async fn settle(context: &Context, settlement: impl Future<Output = Finished>) -> Option<Channel> {
    let finished = tokio::select! {
        biased; // the channel of a session that ended is of no use
        () = context.token.cancelled() => return None,
        finished = settlement => finished,
    };
    match finished {
        Finished::Reusable(channel) => Some(channel),
        Finished::Abort { channel, open } => {
            context.abort(channel, open).await;
            None
        }
        Finished::Closed => None,
    }
}

fn proxy_header(version: ProxyVersion, header: &OpenHeader) -> Vec<u8> {
    let version = match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    };
    proxy_protocol::encode(version, header.client, header.server, &[])
}
