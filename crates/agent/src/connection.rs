//! A client connection's life at the agent, the mirror of the edge's story: record → route → open →
//! relay → close. The edge has accepted, found the source, admitted and decided.
//!
//! Must never: log on the way; the record does, once, at the end.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::{Code, Error};
use portcullis_net::channel::{
    AgentOpening, Channel, Exchange, Finished, OpenHeader, Settling, TunnelStream,
};
use portcullis_net::proxy_protocol::{self, Version};
use portcullis_net::relay::{Relay, RelayEnd, RelayIo as _, RelayLimits, Side};
use portcullis_net::tls::Handshake;
use portcullis_net::upstream::{Upstream, UpstreamStream, dial};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::channels::{Context, Registered};
use crate::client::{Client, Insecure, secure};
use crate::conn::Conn;
use crate::defaults;
use crate::endpoint::{LocalEndpoint, Sink};
use crate::record::{End, Record};

/// Serves one OPEN and returns the channel if it can serve another.
pub(crate) async fn serve(
    context: Arc<Context>,
    header: OpenHeader,
    first: Bytes,
    opening: AgentOpening,
) -> Option<Channel> {
    // Boxed, and gone before the relay: getting there takes many times the memory of being there.
    let mut open = match Box::pin(begin(Arc::clone(&context), header, first, opening)).await {
        Begun::Open(open) => open,
        Begun::Over(channel) => return channel,
    };
    // Nothing ends it from outside here: what ends the session ends its carriers and channels.
    let end = poll_fn(|cx| open.poll_relay(cx)).await;
    open.over(&context, end)?.await
}

/// How far an open came.
enum Begun {
    /// To a relay.
    Open(Box<Open>),
    /// To its end, and what came back of its channel.
    Over(Option<Channel>),
}

/// An open connection, while its bytes move.
struct Open {
    from: Client,
    to: UpstreamStream,
    relay: Relay,
    record: Record,
    registered: Option<Registered>,
}

/// The edge keeps the limits of silence.
const LIMITS: RelayLimits = RelayLimits {
    idle: None,
    client_idle: None,
    server_idle: None,
    half_close: None,
    lifetime: None,
};

impl Open {
    /// Moves the bytes until the end.
    fn poll_relay(&mut self, cx: &mut task::Context<'_>) -> Poll<RelayEnd> {
        let Self {
            from,
            to,
            relay,
            record,
            ..
        } = self;
        relay.poll(cx, from, to, &LIMITS, record.counters())
    }

    /// Closes the record, and settles the open if that takes waiting.
    fn over(
        self,
        context: &Arc<Context>,
        end: RelayEnd,
    ) -> Option<Pin<Box<dyn Future<Output = Option<Channel>> + Send>>> {
        let Self {
            from,
            to,
            record,
            registered,
            relay: _,
        } = self;
        let whole = matches!(end, RelayEnd::Finished { .. });
        // The session's end reaches a relay as the end of what it runs over.
        record.close(match context.token.is_cancelled() {
            true => End::SessionEnded,
            false => end.into(),
        });
        drop(to); // the service learns of a reset now; settling may take as long as the edge needs
        let context = Arc::clone(context);
        let settling = match from {
            Client::Plain(stream) => stream.settle()?,
            tls => {
                return Some(Box::pin(async move {
                    let settling = tls.into_stream(whole).await.settle()?;
                    release(&context, settling, registered).await
                }));
            }
        };
        Some(Box::pin(async move {
            release(&context, settling, registered).await
        }))
    }
}

/// Settles what a relay has left of its channel.
async fn release(
    context: &Context,
    settling: Settling,
    _registered: Option<Registered>,
) -> Option<Channel> {
    let number = settling.channel();
    let finished = settle(context, settling.finish()).await;
    context.leave(number); // it may not be the one that it began on
    finished
}

async fn begin(
    context: Arc<Context>,
    header: OpenHeader,
    first: Bytes,
    opening: AgentOpening,
) -> Begun {
    let Some(endpoint) = context.routes.find(&header.endpoint_id).await else {
        let error = Error::new(
            Code::EndpointNotFound,
            "the agent does not serve this endpoint",
        );
        tracing::warn!(connection = %header.connection_id, endpoint = %header.endpoint_id, "refused: unknown endpoint");
        return Begun::Over(opening.refuse(&error).await);
    };
    let record = Record::open(&endpoint, &header, &context.shared.total);
    let registered = context.register(&opening);
    let sink = endpoint.sink();
    match &*sink {
        Sink::Forward(upstream) => {
            let forwarded = forward(
                &context, &endpoint, upstream, &header, first, opening, record,
            );
            match forwarded.await {
                Ok((from, to, record)) => Begun::Open(Box::new(Open {
                    from,
                    to,
                    relay: Relay::new(&LIMITS, record.counters()),
                    record,
                    registered,
                })),
                Err(channel) => Begun::Over(channel),
            }
        }
        Sink::Queue(queue) => {
            Begun::Over(hand_over(&context, &endpoint, queue, header, first, opening, record).await)
        }
        Sink::Closed => {
            let error = Error::new(Code::EndpointNotFound, "the agent has closed this endpoint");
            Begun::Over(refuse(opening, error, record).await)
        }
    }
}

/// To an upstream; or what came back of the channel.
async fn forward(
    context: &Arc<Context>,
    endpoint: &Arc<LocalEndpoint>,
    upstream: &Upstream,
    header: &OpenHeader,
    first: Bytes,
    mut opening: AgentOpening,
    record: Record,
) -> Result<(Client, UpstreamStream, Record), Option<Channel>> {
    if endpoint.tls().is_some() {
        let secured = secured(context, endpoint, opening, first, record).await?;
        return forward_secured(context, endpoint, upstream, header, secured).await;
    }
    let deadline = Instant::now() + defaults::UPSTREAM_DIAL_TIMEOUT;
    let proxy_header = endpoint
        .proxy_protocol()
        .map(|version| proxy_header(version, header));
    let dialled = tokio::select! {
        biased; // who ends comes before who begins
        () = context.token.cancelled() => return Err(ended(record)),
        () = opening.gone() => return Err(gone(context, opening, record).await),
        dialled = dial(upstream, &context.shared.settings.resolver, deadline, proxy_header.as_deref()) => dialled,
    };
    let mut to = match dialled {
        Ok(to) => to,
        Err(error) => {
            endpoint.set_upstream_error(Some(error.clone()));
            return Err(refuse(opening, error, record).await);
        }
    };
    endpoint.set_upstream_error(None);
    let mut from = match opened(context, opening).await {
        Ok(from) => from,
        Err(error) => {
            to.reset();
            record.close(End::ChannelLost(error));
            return Err(None);
        }
    };
    match say_first(&mut to, &first, deadline, &record).await {
        Ok(()) => Ok((Client::Plain(from), to, record)),
        Err(error) => {
            from.reset_with(&error);
            to.reset();
            record.close(End::FirstBytes(error));
            drop(to);
            Err(settle(context, from.finish()).await)
        }
    }
}

/// A client whose TLS ends here.
struct Secured {
    from: Client,
    handshake: Handshake,
    record: Record,
}

/// Opens the connection and terminates its TLS; or what came back of the channel.
async fn secured(
    context: &Arc<Context>,
    endpoint: &LocalEndpoint,
    opening: AgentOpening,
    first: Bytes,
    record: Record,
) -> Result<Secured, Option<Channel>> {
    let stream = match opened(context, opening).await {
        Ok(stream) => stream,
        Err(error) => {
            record.close(End::ChannelLost(error));
            return Err(None);
        }
    };
    let Some(tls) = endpoint.tls() else {
        return Err(cut(
            context,
            Client::Plain(stream),
            Error::of(Code::Internal),
            record,
        )
        .await);
    };
    let secured = tokio::select! {
        biased; // a session that ended takes the connection with it
        () = context.token.cancelled() => return Err(ended(record)),
        secured = secure(stream, first, tls) => secured,
    };
    match secured {
        Ok((from, handshake)) => Ok(Secured {
            from,
            handshake,
            record,
        }),
        Err(Insecure { stream, error }) => {
            record.close(End::Insecure(error));
            match stream {
                Some(stream) => Err(settle(context, stream.finish()).await),
                None => Err(None),
            }
        }
    }
}

/// To an upstream, of whose failure the edge is told by a reset: it has had the verdict before.
async fn forward_secured(
    context: &Arc<Context>,
    endpoint: &LocalEndpoint,
    upstream: &Upstream,
    header: &OpenHeader,
    Secured { from, record, .. }: Secured,
) -> Result<(Client, UpstreamStream, Record), Option<Channel>> {
    let deadline = Instant::now() + defaults::UPSTREAM_DIAL_TIMEOUT;
    let proxy_header = endpoint
        .proxy_protocol()
        .map(|version| proxy_header(version, header));
    let dialled = tokio::select! {
        biased; // as above
        () = context.token.cancelled() => return Err(ended(record)),
        dialled = dial(upstream, &context.shared.settings.resolver, deadline, proxy_header.as_deref()) => dialled,
    };
    match dialled {
        Ok(to) => {
            endpoint.set_upstream_error(None);
            Ok((from, to, record))
        }
        Err(error) => {
            endpoint.set_upstream_error(Some(error.clone()));
            Err(cut(context, from, error, record).await)
        }
    }
}

/// Resets a connection that was opened, and tells the edge why.
async fn cut(context: &Context, mut from: Client, error: Error, record: Record) -> Option<Channel> {
    from.reset_with(&error);
    record.close(End::Refused(error));
    let stream = from.into_stream(false).await;
    settle(context, stream.finish()).await
}

/// The verdict. From here on the connection may move between carriers and channels.
async fn opened(context: &Arc<Context>, opening: AgentOpening) -> Result<TunnelStream, Error> {
    let mut stream = opening.opened().await?;
    if context.moves() {
        stream.set_exchange(Arc::clone(context) as Arc<dyn Exchange>);
    }
    Ok(stream)
}

/// Writes what the client said before the upstream was there; at most 16 KiB.
async fn say_first(
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
    context: &Arc<Context>,
    endpoint: &LocalEndpoint,
    queue: &mpsc::Sender<Conn>,
    header: OpenHeader,
    first: Bytes,
    mut opening: AgentOpening,
    record: Record,
) -> Option<Channel> {
    if endpoint.tls().is_some() {
        // A place in the queue is not held for a client that takes its time.
        let secured = match secured(context, endpoint, opening, first, record).await {
            Ok(secured) => secured,
            Err(channel) => return channel,
        };
        return hand_over_secured(context, queue, header, secured).await;
    }
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
    let stream = match opened(context, opening).await {
        Ok(stream) => stream,
        Err(error) => {
            record.close(End::ChannelLost(error));
            return None;
        }
    };
    let (client, tls) = (Client::Plain(stream), None);
    lend(context, place, header, (client, first, tls), record).await
}

/// The same for a client whose TLS ends here.
async fn hand_over_secured(
    context: &Arc<Context>,
    queue: &mpsc::Sender<Conn>,
    header: OpenHeader,
    Secured {
        from,
        handshake,
        record,
    }: Secured,
) -> Option<Channel> {
    let place = tokio::select! {
        biased; // who ends comes before who begins
        () = context.token.cancelled() => return ended(record),
        place = timeout(defaults::ACCEPT_QUEUE_WAIT, queue.reserve()) => place,
    };
    let Ok(Ok(place)) = place else {
        let error = Error::new(
            Code::LimitEndpoint,
            "the program does not accept connections (fast enough)",
        );
        return cut(context, from, error, record).await;
    };
    let given = (from, Bytes::new(), Some(handshake));
    lend(context, place, header, given, record).await
}

/// Gives the program the connection, and waits for it to come back.
async fn lend(
    context: &Arc<Context>,
    place: mpsc::Permit<'_, Conn>,
    header: OpenHeader,
    (client, first, tls): (Client, Bytes, Option<Handshake>),
    record: Record,
) -> Option<Channel> {
    let abort = client.abort_handle();
    let (mut conn, back) = Conn::new(client, header, first, Arc::clone(record.counters()));
    conn.set_tls(tls);
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
pub(crate) async fn settle(
    context: &Context,
    settlement: impl Future<Output = Finished>,
) -> Option<Channel> {
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
        Finished::Closed | Finished::Settled => None,
    }
}

fn proxy_header(version: ProxyVersion, header: &OpenHeader) -> Vec<u8> {
    let version = match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    };
    proxy_protocol::encode(version, header.client, header.server, &[])
}
