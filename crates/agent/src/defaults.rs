//! Every limit and default of the agent, with its unit and what it costs.
//!
//! Must never: hold a value that a user sets; those live in the configuration.

use std::time::Duration;

/// Where an agent connects when a bare authtoken says nothing of a server.
pub const SERVER: &str = "localhost:7443";
/// The agent port, where `connect_url` names a host alone.
pub const SERVER_PORT: u16 = 7443;
/// Where the local API listens.
pub const WEB_ADDR: &str = "127.0.0.1:4040";
/// Ports tried upwards from the local API's own when it is taken: 4040 to 4059.
pub const WEB_PORTS_TRIED: u16 = 20;

/// TCP, proxy, TLS and hello together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// How much longer than the interval an answer may take: a dead session is found within 25 s.
pub const HEARTBEAT_TOLERANCE: Duration = Duration::from_secs(15);
/// Smallest and largest heartbeat interval and tolerance.
pub const HEARTBEAT_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(300);
/// Smallest and largest `connect_timeout`.
pub const CONNECT_TIMEOUT_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(300);

/// First wait before connecting again.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// Longest wait before connecting again. Full jitter: each wait is drawn from zero to the ceiling.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A session that lived this long starts the back-off afresh.
pub const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(10);
/// First and longest wait before a refused bind is tried again while the session lasts.
pub const REBIND_FIRST: Duration = Duration::from_secs(2);
/// Longest wait before a refused bind is tried again.
pub const REBIND_MAX: Duration = Duration::from_secs(60);

/// From OPEN to the upstream's connection.
pub const UPSTREAM_DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The TLS handshake with a client, where the agent terminates it.
pub const CLIENT_TLS_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at whether certificate files have changed.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(1);
/// An OPEN for a [`crate::Listener`] whose queue is full waits this long for a place, then is refused.
pub const ACCEPT_QUEUE_WAIT: Duration = Duration::from_secs(1);
/// Connections that wait in a [`crate::Listener`]; each is one channel, about 2 KiB idle.
pub const ACCEPT_QUEUE: usize = 64;

/// Data channels of one session at most, warm and busy: one file descriptor and about 40 KiB of TLS
/// state each, 400 MB when all are in use.
pub const CHANNELS_MAX: usize = 10_000;
/// Warm channels at most, whatever the server asks.
pub const CHANNELS_IDLE_MAX: u64 = 256;
/// Channels on their way at most, whatever the server asks: it counts what does not come as lost and
/// asks again, and more than this (seconds of handshakes) comes too late for whoever waits.
pub const CHANNELS_COMING_MAX: u64 = 2_048;
/// Channels that are being opened at once; the rest wait their turn.
pub const CHANNELS_OPENING_MAX: usize = 32;
/// First and longest wait before a channel that could not be opened is tried again.
pub const CHANNEL_RETRY_FIRST: Duration = Duration::from_millis(100);
/// Longest wait before a channel that could not be opened is tried again.
pub const CHANNEL_RETRY_MAX: Duration = Duration::from_secs(5);

/// A channel that ends within this time without having served anyone counts as failed to open, so
/// that a server that drops every channel is not asked in a hot loop.
pub const CHANNEL_USELESS_BEFORE: Duration = Duration::from_secs(5);
/// How long an OPEN waits for its endpoint to be known: on another connection it may overtake the
/// answer to the bind.
pub const ROUTE_WAIT: Duration = Duration::from_secs(2);
/// How long a dropped [`crate::Conn`] waits for the client's end before it resets.
pub const LINGER: Duration = Duration::from_secs(5);

/// Events of sessions waiting for the supervisor, and aborts of channels waiting for their session.
pub const SESSION_QUEUE: usize = 256;
/// How long a goodbye may take.
pub const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the connections of a session that is over may take to be reset.
pub const RESET_WAIT: Duration = Duration::from_secs(2);
/// How long closing an endpoint waits for the server's answer.
pub const UNBIND_WAIT: Duration = Duration::from_secs(5);
/// Endpoints of one agent.
pub const ENDPOINTS_MAX: usize = 10_000;
/// An old session without connections is kept this long for its successor to come up.
pub const DRAIN_SUCCESSOR_WAIT: Duration = Duration::from_secs(5);
/// How often a draining session looks whether it is done; also what an open on its way may take.
pub const DRAIN_CHECK: Duration = Duration::from_millis(250);
/// The old session of a draining server is kept at most this long for its connections to end.
pub const DRAIN_MAX: Duration = Duration::from_secs(3600);
/// How long shutdown waits for connections to end unless told otherwise.
pub const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// How often rates are computed and the status is published when nothing else changes it.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Durations kept for percentiles, per endpoint: 8 bytes each, 4 KiB.
pub const DURATIONS_KEPT: usize = 512;

/// A configuration file at most, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// A traffic policy file at most, in bytes; a message carries 64 KiB.
pub const POLICY_BYTES_MAX: u64 = 60 << 10;
/// How long a request to the local API waits for the server's verdict about an endpoint.
pub const LOCAL_BIND_WAIT: Duration = Duration::from_secs(10);
/// A request body to the local API at most, in bytes.
pub const LOCAL_BODY_BYTES_MAX: usize = 128 << 10;
/// Longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 255;
/// Longest metadata, in bytes.
pub const METADATA_BYTES_MAX: usize = 4096;
/// Longest endpoint name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Health checks of this process that run at once; each holds a socket.
pub const PROBES_AT_ONCE_MAX: usize = 64;
