//! The agent's way to its server: TCP, directly or through a proxy, then TLS. Both the control
//! connection and the channels take it; the channels do without TLS where the user says so.

use portcullis_model::Error;
use portcullis_net::{outbound, tls};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::settings::Settings;

/// Connects by the deadline.
///
/// # Errors
/// `PTC_DNS_FAILED`, `PTC_SERVER_UNREACHABLE`, `PTC_PROXY_CONNECT_FAILED`, `PTC_SERVER_UNTRUSTED`.
pub(crate) async fn connect(settings: &Settings, deadline: Instant) -> Result<tls::Stream, Error> {
    let address = &settings.server.address;
    let stream = connect_plain(settings, deadline).await?;
    tls::connect(stream, settings.tls.clone(), address, deadline).await
}

/// Connects by the deadline, without TLS.
///
/// # Errors
/// `PTC_DNS_FAILED`, `PTC_SERVER_UNREACHABLE`, `PTC_PROXY_CONNECT_FAILED`.
pub(crate) async fn connect_plain(
    settings: &Settings,
    deadline: Instant,
) -> Result<TcpStream, Error> {
    let address = &settings.server.address;
    outbound::connect(address, settings.proxy.as_ref(), deadline).await
}
