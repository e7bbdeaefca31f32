//! The certificates that the server shows to clients whose TLS it terminates: of an ACME authority, else of its own
//! CA; and the task that has them renewed.
//!
//! Must never: keep the task when the server ends.

use std::path::Path;
use std::sync::Arc;

use portcullis_model::Error;
use portcullis_net::seal::MasterKey;
use portcullis_net::task;
use portcullis_net::tls::acme::Acme;
use portcullis_net::tls::{CertAuthority, Managed};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::acme::AcmeSettings;

/// What is shown, and what keeps it valid.
pub(super) struct Certificates {
    /// Answers handshakes.
    pub(super) resolver: Arc<Managed>,
    /// Whose challenges are answered where TLS names are served.
    pub(super) acme: Option<Acme>,
    renewal: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Certificates {
    /// Reads what was issued earlier, and asks for what is missing or due.
    pub(super) fn start(
        acme: Option<&AcmeSettings>,
        data_dir: &Path,
        master: &Arc<MasterKey>,
        authority: &CertAuthority,
        host: &str,
    ) -> Result<Self, Error> {
        let acme = acme
            .map(|settings| Acme::open(settings.config(), data_dir, master))
            .transpose()?;
        let renewal = acme.clone().map(|acme| {
            let stop = CancellationToken::new();
            (stop.clone(), task::spawn("acme", acme.run(stop)))
        });
        Ok(Self {
            resolver: Managed::new(acme.clone(), authority, host)?,
            acme,
            renewal,
        })
    }

    /// Ends an order that is under way; what is kept stays.
    pub(super) async fn stop(self) {
        if let Some((stop, task)) = self.renewal {
            stop.cancel();
            // A panic has been logged by then.
            drop(task.await);
        }
    }
}
