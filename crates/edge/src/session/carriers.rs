//! The carriers of a session: opens begin on the one that has the fewest.
//!
//! Must never: wait, or keep a carrier that has ended.

use std::sync::{Arc, PoisonError, RwLock};

use portcullis_model::{Code, Error};
use portcullis_net::carrier::{Carrier, Flow};
use portcullis_net::channel::{EdgeOpening, OnCarrier, OpenHeader};
use portcullis_proto::Leg;
use portcullis_proto::defaults::CARRIERS_MAX;
use portcullis_telemetry::Records;

/// The carriers that live.
pub(crate) struct Carriers {
    inner: RwLock<Inner>,
    flow: Arc<Flow>,
    records: Records,
}

#[derive(Default)]
struct Inner {
    live: Vec<Carrier>,
    closed: bool,
}

impl Carriers {
    pub(crate) fn new(records: Records) -> Self {
        Self {
            inner: RwLock::default(),
            flow: Arc::default(),
            records,
        }
    }

    /// What the windows of its carriers share.
    pub(crate) fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    /// Begins an open on the least loaded carrier; `None` when there is none that takes it.
    pub(crate) fn open(&self, header: &OpenHeader, first: &[u8]) -> Option<EdgeOpening> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let carrier = inner.live.iter().min_by_key(|carrier| carrier.live())?;
        // One that broke a moment ago has not been taken off yet.
        carrier.open(header, first).ok().or_else(|| {
            inner
                .live
                .iter()
                .find_map(|other| other.open(header, first).ok())
        })
    }

    /// Begins an open that continues another leg, on the least loaded carrier.
    pub(crate) fn resume(&self, from: Leg) -> Option<OnCarrier> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let carrier = inner.live.iter().min_by_key(|carrier| carrier.live())?;
        carrier.resume(from)
    }

    /// Takes a carrier that the agent opened, until [`Self::remove`].
    ///
    /// # Errors
    /// `PTC_AGENT_LOST` when the session has ended, `PTC_NO_CHANNEL` when it has too many.
    pub(crate) fn add(&self, carrier: Carrier) -> Result<(), Error> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.closed {
            return Err(Error::new(Code::AgentLost, "the agent's session has ended"));
        }
        if inner.live.len() >= CARRIERS_MAX as usize {
            return Err(Error::new(
                Code::NoChannel,
                "the session has as many carriers as it may",
            ));
        }
        inner.live.push(carrier);
        self.records.metrics().carriers.inc();
        Ok(())
    }

    /// A carrier has ended.
    pub(crate) fn remove(&self, carrier: u64) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let before = inner.live.len();
        inner.live.retain(|live| live.id() != carrier);
        if inner.live.len() < before {
            self.records.metrics().carriers.dec();
        }
    }

    /// A connection goes on at a channel.
    pub(crate) fn promoted(&self) {
        self.records.metrics().promotions.inc();
    }

    /// A connection comes back from a channel.
    pub(crate) fn returned(&self) {
        self.records.metrics().returns.inc();
    }

    /// Takes no more opens: each carrier ends with its last one.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.closed = true;
        for carrier in &inner.live {
            carrier.retire();
        }
    }

    /// Ends what is left.
    pub(crate) fn kill(&self) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        for carrier in &inner.live {
            carrier.kill();
        }
    }
}
