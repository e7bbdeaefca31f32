//! The agent's record of one connection: opened first, consumed last; that is its log line and its
//! place in the statistics.
//!
//! Must never: be closed twice, or silently not at all.

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_model::Error;
use portcullis_net::channel::OpenHeader;
use portcullis_net::relay::{Counters, RelayEnd, Side};

use crate::endpoint::LocalEndpoint;
use crate::stats::{OpenConnection, Stats};

/// How a connection ended at the agent.
#[derive(Debug)]
pub(crate) enum End {
    /// The edge was told why.
    Refused(Error),
    /// The client left before the upstream was there.
    ClientGone,
    /// The channel broke before the bytes could flow.
    ChannelLost(Error),
    /// The client's TLS could not be terminated.
    Insecure(Error),
    /// The upstream did not take the client's first bytes.
    FirstBytes(Error),
    /// The relay came to its end.
    Relayed(RelayEnd),
    /// The program dropped the connection after its end.
    Returned,
    /// The program dropped the connection while the client was still sending.
    Cut,
    /// The session ended under it.
    SessionEnded,
    /// The record was dropped unclosed, by a panic.
    Aborted,
}

impl From<RelayEnd> for End {
    fn from(end: RelayEnd) -> Self {
        Self::Relayed(end)
    }
}

impl End {
    /// The word in the log.
    fn label(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::ClientGone => "client_gone",
            Self::ChannelLost(_) => "channel_lost",
            Self::Insecure(_) => "tls_handshake",
            Self::FirstBytes(_) => "upstream_failed",
            Self::Relayed(RelayEnd::Finished { .. }) | Self::Returned => "finished",
            Self::Relayed(RelayEnd::Reset { by: Side::Client }) => "client_reset",
            Self::Relayed(RelayEnd::Reset { by: Side::Upstream }) => "upstream_reset",
            Self::Relayed(RelayEnd::Failed {
                side: Side::Client, ..
            }) => "client_failed",
            Self::Relayed(RelayEnd::Failed {
                side: Side::Upstream,
                ..
            }) => "upstream_failed",
            Self::Relayed(
                RelayEnd::Idle
                | RelayEnd::ClientIdle
                | RelayEnd::ServerIdle
                | RelayEnd::HalfCloseIdle
                | RelayEnd::LifetimeOver,
            ) => "idle",
            Self::Relayed(RelayEnd::Killed) | Self::SessionEnded => "session_ended",
            Self::Cut => "program_closed",
            Self::Aborted => "aborted",
        }
    }

    /// What went wrong, for the log.
    fn cause(&self) -> Option<String> {
        match self {
            Self::Refused(error)
            | Self::ChannelLost(error)
            | Self::Insecure(error)
            | Self::FirstBytes(error) => {
                let internal = error
                    .internal
                    .as_ref()
                    .map(|internal| format!(": {internal}"));
                Some(format!("{error}{}", internal.unwrap_or_default()))
            }
            Self::Relayed(RelayEnd::Failed { source, .. }) => Some(source.to_string()),
            _ => None,
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Record {
    endpoint: Arc<LocalEndpoint>,
    connection: String,
    client: SocketAddr,
    books: OpenConnection,
    closed: bool,
}

impl Record {
    pub(crate) fn open(
        endpoint: &Arc<LocalEndpoint>,
        header: &OpenHeader,
        total: &Arc<Stats>,
    ) -> Self {
        Self {
            endpoint: Arc::clone(endpoint),
            connection: header.connection_id.to_string(),
            client: header.client,
            books: OpenConnection::begin(&endpoint.stats, total),
            closed: false,
        }
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        self.books.counters()
    }

    /// Consumes the record: the log line.
    pub(crate) fn close(mut self, end: End) {
        if matches!(
            end,
            End::Refused(_) | End::ChannelLost(_) | End::Insecure(_) | End::FirstBytes(_)
        ) {
            self.books.failed();
        }
        self.log(&end);
        self.closed = true;
    }

    fn log(&self, end: &End) {
        let counters = self.books.counters();
        let (bytes_in, bytes_out) = (counters.from(Side::Client), counters.from(Side::Upstream));
        let (endpoint, connection, client) = (self.endpoint.name(), &self.connection, self.client);
        let (end, cause, lasted) = (end.label(), end.cause(), self.books.age());
        if let Some(cause) = cause {
            tracing::warn!(target: "portcullis_agent::access", endpoint, connection, %client, end, cause, bytes_in, bytes_out, ?lasted, "connection closed");
        } else {
            tracing::info!(target: "portcullis_agent::access", endpoint, connection, %client, end, bytes_in, bytes_out, ?lasted, "connection closed");
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.closed {
            self.log(&End::Aborted);
        }
    }
}
