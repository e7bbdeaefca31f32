//! rathole: a server and a client, a connection between them for each visitor, of which it keeps
//! eight open ahead. Plain, or with TLS by OpenSSL and a certificate made for the run.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use portcullis_e2e::Process;
use portcullis_e2e::process;

use super::program;
use crate::target::{Map, Running};

/// Of the identity file, which lives in the run's own directory.
const PASSWORD: &str = "bench";
/// Longest that openssl may take for a key and its certificate.
const CERTIFICATE: Duration = Duration::from_secs(20);

/// What its two ends speak to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// `tcp`, as it comes.
    Plain,
    /// `tls`.
    Tls,
}

/// Starts both ends in front of `backend`.
pub(super) async fn start(
    backend: SocketAddr,
    map: Map<'_>,
    transport: Transport,
) -> anyhow::Result<Running> {
    let dir = program::directory()?;
    let (control, addr) = (program::free(), program::free());
    let (near, far) = match transport {
        Transport::Plain => (String::new(), String::new()),
        Transport::Tls => {
            certificate(dir.path());
            let path = dir.path().display();
            (
                format!(
                    "[server.transport]\ntype = \"tls\"\n[server.transport.tls]\n\
                     pkcs12 = \"{path}/identity.p12\"\npkcs12_password = \"{PASSWORD}\"\n"
                ),
                format!(
                    "[client.transport]\ntype = \"tls\"\n[client.transport.tls]\n\
                     trusted_root = \"{path}/certificate.pem\"\nhostname = \"localhost\"\n"
                ),
            )
        }
    };
    let server = format!(
        "[server]\nbind_addr = \"{control}\"\ndefault_token = \"bench\"\n{near}\
         [server.services.bench]\nbind_addr = \"{addr}\"\n"
    );
    let server = program::write(&dir, "server.toml", &server)?;
    let mut command = program::command("rathole")?;
    command.arg("--server").arg(server);
    let mut server = vec![Process::start("rathole server", command)];
    program::listens("rathole", control, &mut server).await?;

    let client = format!(
        "[client]\nremote_addr = \"{}\"\ndefault_token = \"bench\"\n{far}\
         [client.services.bench]\nlocal_addr = \"{backend}\"\n",
        map(control)
    );
    let client = program::write(&dir, "client.toml", &client)?;
    let mut command = program::command("rathole")?;
    command.arg("--client").arg(client);
    let mut processes = vec![Process::start("rathole client", command)];
    processes.append(&mut server);
    program::up("rathole", addr, processes, Some(dir)).await
}

/// A certificate of its own making for `localhost`, and the server's identity with its key.
fn certificate(dir: &Path) {
    let path = |name: &str| dir.join(name).display().to_string();
    let (key, pem, identity) = (
        path("key.pem"),
        path("certificate.pem"),
        path("identity.p12"),
    );
    let make = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {key} -out {pem}"
    );
    let bundle =
        format!("pkcs12 -export -inkey {key} -in {pem} -out {identity} -passout pass:{PASSWORD}");
    for arguments in [make, bundle] {
        process::run("openssl", arguments.split(' '), CERTIFICATE);
    }
}
