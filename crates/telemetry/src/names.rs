//! The names of every metric, in one place. Counters get `_total` from the encoder.
//!
//! A name, once published, keeps its meaning.

/// What stands in front of every name.
pub const PREFIX: &str = "portcullis";

/// Name and help of a metric.
pub type Name = (&'static str, &'static str);

/// Client connections accepted and recorded.
pub const CONNECTIONS_OPENED: Name = ("connections_opened", "Client connections accepted");
/// Client connections ended, by reason and fault.
pub const CONNECTIONS_CLOSED: Name = (
    "connections_closed",
    "Client connections ended, by reason and by whose doing it was",
);
/// Client connections open now.
pub const CONNECTIONS_OPEN: Name = ("connections_open", "Client connections open now");
/// Bytes relayed, by direction (`in`: from clients, `out`: to clients); live connections included.
pub const CONNECTION_BYTES: Name = (
    "connection_bytes",
    "Bytes relayed, by direction, live connections included",
);
/// Lifetimes.
pub const CONNECTION_DURATION: Name = ("connection_duration_seconds", "Accept to close");
/// Time to established.
pub const CONNECTION_OPEN_DURATION: Name =
    ("connection_establish_seconds", "Accept to established");
/// Opens by outcome.
pub const UPSTREAM_OPENS: Name = (
    "upstream_opens",
    "Attempts to open an upstream, by carrier and outcome code",
);
/// Connections shed before they had a record.
pub const ACCEPT_SHED: Name = (
    "accept_shed",
    "Connections closed at once because the node was full",
);
/// Accept errors by class.
pub const ACCEPT_ERRORS: Name = ("accept_errors", "Errors of accept(2), by class");
/// Listeners by state.
pub const LISTENERS: Name = ("listeners", "Listening addresses, by state (open, failed)");
/// Agent sessions now.
pub const SESSIONS_OPEN: Name = ("agent_sessions_open", "Agent sessions open now");
/// Sessions opened.
pub const SESSIONS_OPENED: Name = ("agent_sessions_opened", "Agent sessions opened");
/// Sessions refused.
pub const SESSIONS_REFUSED: Name = (
    "agent_connections_refused",
    "Connections to the agent port refused, by code",
);
/// Unauthenticated connections on the agent port.
pub const AGENT_PENDING: Name = (
    "agent_connections_pending",
    "Connections on the agent port that have not said who they are",
);
/// Idle data channels.
pub const CHANNELS_IDLE: Name = (
    "agent_channels_idle",
    "Data channels that wait for a client connection",
);
/// Channels opened.
pub const CHANNELS_OPENED: Name = ("agent_channels_opened", "Data channels that agents opened");
/// Opens that had to wait for a channel.
pub const CHANNEL_WAITS: Name = (
    "agent_channel_waits",
    "Opens that found no idle data channel and waited",
);
/// Carriers that live.
pub const CARRIERS: Name = ("agent_carriers", "Carriers of agents that are connected");
/// Connections that a carrier gave a channel of their own.
pub const PROMOTIONS: Name = (
    "agent_promotions",
    "Connections that moved from a carrier to a data channel because they had much to move",
);
/// Connections that gave their channel back.
pub const RETURNS: Name = (
    "agent_returns",
    "Connections that went quiet and moved from a data channel back to a carrier",
);
/// Health checks by this node.
pub const UPSTREAM_CHECKS: Name = (
    "upstream_checks",
    "Health checks of upstreams by this node, by outcome (ok, failed)",
);
/// Turns of health.
pub const UPSTREAM_TURNS: Name = (
    "upstream_health_changes",
    "Upstreams that became healthy or unhealthy, by state; those of agents included",
);
/// Unhealthy endpoints now.
pub const UPSTREAMS_UNHEALTHY: Name = (
    "endpoints_unhealthy",
    "Endpoints whose upstream is unhealthy now",
);
/// Ejections.
pub const UPSTREAM_EJECTIONS: Name = (
    "upstream_ejections",
    "Times that an endpoint was passed over for a while because opens of its upstream failed",
);
/// Decided again.
pub const CONNECTIONS_REEVALUATED: Name = (
    "connections_reevaluated",
    "Open connections that were decided again because a policy changed, by verdict (kept, closed)",
);

/// Files of places that were read.
pub const PLACE_FILE_READS: Name = (
    "place_file_reads",
    "Files of places that were read, by file (city, asn, categories) and outcome (ok, failed)",
);

/// Threads of a runtime.
pub const RUNTIME_THREADS: Name = ("runtime_threads", "Threads, by runtime (data, control)");
/// Tasks of a runtime.
pub const RUNTIME_TASKS: Name = ("runtime_tasks", "Tasks alive, by runtime");
/// Tasks that no thread has taken yet.
pub const RUNTIME_QUEUE: Name = (
    "runtime_queue_depth",
    "Tasks in the queue that the threads share, by runtime",
);
/// Time that threads spent working.
pub const RUNTIME_BUSY: Name = (
    "runtime_busy_seconds",
    "Time that threads spent on tasks and on I/O events, by runtime",
);

/// Every metric.
pub const ALL: &[Name] = &[
    CONNECTIONS_OPENED,
    CONNECTIONS_CLOSED,
    CONNECTIONS_OPEN,
    CONNECTION_BYTES,
    CONNECTION_DURATION,
    CONNECTION_OPEN_DURATION,
    UPSTREAM_OPENS,
    ACCEPT_SHED,
    ACCEPT_ERRORS,
    LISTENERS,
    SESSIONS_OPEN,
    SESSIONS_OPENED,
    SESSIONS_REFUSED,
    AGENT_PENDING,
    CHANNELS_IDLE,
    CHANNELS_OPENED,
    CHANNEL_WAITS,
    CARRIERS,
    PROMOTIONS,
    RETURNS,
    UPSTREAM_CHECKS,
    UPSTREAM_TURNS,
    UPSTREAMS_UNHEALTHY,
    UPSTREAM_EJECTIONS,
    CONNECTIONS_REEVALUATED,
    PLACE_FILE_READS,
    RUNTIME_THREADS,
    RUNTIME_TASKS,
    RUNTIME_QUEUE,
    RUNTIME_BUSY,
];
