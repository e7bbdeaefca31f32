//! The opens of one end of a carrier, by their numbers.
//!
//! Must never: wait, or hold its lock while a frame is parsed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_proto::{CarrierState, FrameType, Header, Incoming, Role};

use super::outbox::Outbox;
use super::slot::Slot;
use super::violation;

/// Numbers are ours and count up, so one multiplication spreads them.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }
    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

type Slots = HashMap<u32, Arc<Slot>, BuildHasherDefault<NumberHasher>>;

/// What is to become of the carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    /// No more opens; it ends with the last one.
    Retiring,
    /// It is to end now.
    Killed,
    Closed,
}

#[derive(Debug)]
pub(super) struct Table {
    inner: Mutex<Inner>,
    live: AtomicU32,
}

#[derive(Debug)]
struct Inner {
    state: CarrierState,
    slots: Slots,
    life: Life,
}

impl Table {
    pub(super) fn new(role: Role) -> Self {
        Self {
            inner: Mutex::new(Inner {
                state: CarrierState::new(role),
                slots: Slots::default(),
                life: Life::Running,
            }),
            live: AtomicU32::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn has_room(&self) -> bool {
        let inner = self.lock();
        inner.life == Life::Running && inner.state.has_room()
    }

    pub(super) fn life(&self) -> Life {
        self.lock().life
    }

    pub(super) fn retire(&self) {
        let mut inner = self.lock();
        if inner.life == Life::Running {
            inner.life = Life::Retiring;
        }
    }

    pub(super) fn kill(&self) {
        let mut inner = self.lock();
        if inner.life != Life::Closed {
            inner.life = Life::Killed;
        }
    }

    /// Edge: begins an open and queues its OPEN; both under the lock, so that numbers go out in order.
    pub(super) fn open(
        &self,
        outbox: &Outbox,
        payload: &[u8],
        first_bytes: usize,
        now: Duration,
    ) -> io::Result<Arc<Slot>> {
        let mut inner = self.lock();
        if inner.life != Life::Running {
            return Err(super::lost());
        }
        let (number, mut state) = inner.state.open_next().map_err(violation)?;
        state.note_first_bytes(first_bytes);
        outbox.put(FrameType::Open, number, payload)?;
        Ok(self.insert(&mut inner, Slot::new(number, state, now)))
    }

    /// Edge: begins an open that continues another leg, and queues its RESUME.
    pub(super) fn resume(
        &self,
        outbox: &Outbox,
        payload: &[u8],
        now: Duration,
    ) -> io::Result<Arc<Slot>> {
        let mut inner = self.lock();
        if inner.life != Life::Running {
            return Err(super::lost());
        }
        let (number, state) = inner.state.resume_next().map_err(violation)?;
        outbox.put(FrameType::Resume, number, payload)?;
        Ok(self.insert(&mut inner, Slot::new(number, state, now)))
    }

    /// The slot of a number, if it lives.
    pub(super) fn find(&self, number: u32) -> Option<Arc<Slot>> {
        self.lock().slots.get(&number).cloned()
    }

    /// Agent: a number that is not in the table begins an open.
    pub(super) fn begin(
        &self,
        header: &Header,
        now: Duration,
    ) -> io::Result<(Arc<Slot>, Incoming)> {
        let mut inner = self.lock();
        let (state, incoming) = inner.state.on_unknown(header).map_err(violation)?;
        let slot = self.insert(&mut inner, Slot::new(header.open, state, now));
        Ok((slot, incoming))
    }

    fn insert(&self, inner: &mut Inner, slot: Slot) -> Arc<Slot> {
        let slot = Arc::new(slot);
        inner.slots.insert(slot.number(), Arc::clone(&slot));
        self.live.store(inner.state.live(), Ordering::Relaxed);
        slot
    }

    /// Both sides have released it. Whether it was the last one of a carrier that retires.
    pub(super) fn remove(&self, number: u32) -> bool {
        let mut inner = self.lock();
        if inner.slots.remove(&number).is_some() {
            inner.state.on_gone();
            self.live.store(inner.state.live(), Ordering::Relaxed);
        }
        // A burst's table is given back with its last open.
        if inner.slots.is_empty() && inner.slots.capacity() > 1024 {
            inner.slots = Slots::default();
        }
        inner.life != Life::Running && inner.slots.is_empty()
    }

    /// Ends it: everything that lived on it.
    pub(super) fn close(&self) -> Vec<Arc<Slot>> {
        let mut inner = self.lock();
        inner.life = Life::Closed;
        self.live.store(0, Ordering::Relaxed);
        std::mem::take(&mut inner.slots).into_values().collect()
    }
}
