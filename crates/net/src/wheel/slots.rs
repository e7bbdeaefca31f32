//! The pure part of the timer wheel: timers in slots by their tick, armed and cancelled in constant
//! time, fired in the order of their ticks. It knows no clock.
//!
//! A timer that is further away than the wheel is round is looked at once per round.
//!
//! Must never: read a clock, wake anybody, or give a key to two timers at once.

use crate::defaults::WHEEL_SLOTS;

/// No entry.
const NONE: u32 = u32::MAX;
/// In place of the previous entry: in no slot.
const UNARMED: u32 = u32::MAX - 1;
const WORD_BITS: usize = 64;

/// A timer's name in its wheel, from [`Slots::add`] to [`Slots::remove`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u32);

/// Timers, each with what it is for.
pub(super) struct Slots<T> {
    /// Everything before this tick has fired.
    now: u64,
    /// The first entry of each slot.
    heads: Box<[u32]>,
    /// Which slots have entries, one bit each.
    occupied: [u64; WHEEL_SLOTS / WORD_BITS],
    entries: Vec<Entry<T>>,
    /// The first unused entry.
    unused: u32,
    /// Timers that were added and not removed.
    added: usize,
}

struct Entry<T> {
    tick: u64,
    /// What it is for; `None` in an unused entry.
    value: Option<T>,
    next: u32,
    prev: u32,
}

impl<T> Slots<T> {
    /// An empty wheel at tick 0.
    pub(super) fn new() -> Self {
        Self {
            now: 0,
            heads: vec![NONE; WHEEL_SLOTS].into_boxed_slice(),
            occupied: [0; WHEEL_SLOTS / WORD_BITS],
            entries: Vec::new(),
            unused: NONE,
            added: 0,
        }
    }

    /// Adds a timer; it is not armed yet.
    pub(super) fn add(&mut self, value: T) -> Key {
        let entry = Entry {
            tick: 0,
            value: Some(value),
            next: NONE,
            prev: UNARMED,
        };
        self.added += 1;
        if self.unused == NONE {
            self.entries.push(entry);
            return Key(u32::try_from(self.entries.len() - 1).unwrap_or(NONE));
        }
        let at = self.unused;
        self.unused = self.entry(at).next;
        *self.entry(at) = entry;
        Key(at)
    }

    /// Arms a timer, or moves it; a tick in the past is the next one. The tick that it got.
    pub(super) fn arm(&mut self, key: Key, tick: u64) -> u64 {
        let tick = tick.max(self.now);
        self.unlink(key.0);
        self.entry(key.0).tick = tick;
        self.link(key.0);
        tick
    }

    /// Cancels a timer; it stays.
    pub(super) fn disarm(&mut self, key: Key) {
        self.unlink(key.0);
    }

    /// What a timer is for.
    pub(super) fn value(&mut self, key: Key) -> Option<&mut T> {
        self.entry(key.0).value.as_mut()
    }

    /// Takes a timer away, armed or not.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.unlink(key.0);
        self.added -= 1;
        let unused = std::mem::replace(&mut self.unused, key.0);
        let entry = self.entry(key.0);
        entry.next = unused;
        let value = entry.value.take();
        if self.added == 0 {
            // The memory of a crowd goes with the last of it.
            self.entries = Vec::new();
            self.unused = NONE;
        }
        value
    }

    /// Fires what is due up to a tick, that one included. A fired timer stays, unarmed.
    pub(super) fn advance(&mut self, to: u64, mut fire: impl FnMut(&T)) {
        while self.now <= to {
            let Some(tick) = self.next_occupied().filter(|tick| *tick <= to) else {
                self.now = to + 1;
                return;
            };
            let mut at = self.heads[slot(tick)];
            while at != NONE {
                let entry = self.entry(at);
                let next = entry.next;
                if entry.tick <= tick {
                    entry.value.iter().for_each(&mut fire);
                    self.unlink(at);
                }
                at = next;
            }
            self.now = tick + 1;
        }
    }

    /// The tick of the next slot with an entry; that one may be there for a later round.
    pub(super) fn next_occupied(&self) -> Option<u64> {
        let first = slot(self.now);
        let (word, bit) = (first / WORD_BITS, first % WORD_BITS);
        let words = self.occupied.len();
        // The first slot's word comes twice: with its upper bits, and last with its lower ones.
        (0..=words).find_map(|step| {
            let mask = match step {
                0 => u64::MAX << bit,
                last if last == words => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let at = (word + step) % words;
            let bits = self.occupied[at] & mask;
            (bits != 0).then(|| {
                let found = at * WORD_BITS + bits.trailing_zeros() as usize;
                self.now + ((found + WHEEL_SLOTS - first) % WHEEL_SLOTS) as u64
            })
        })
    }

    fn link(&mut self, at: u32) {
        let slot = slot(self.entry(at).tick);
        let head = std::mem::replace(&mut self.heads[slot], at);
        self.occupied[slot / WORD_BITS] |= 1 << (slot % WORD_BITS);
        let entry = self.entry(at);
        (entry.prev, entry.next) = (NONE, head);
        if head != NONE {
            self.entry(head).prev = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let entry = self.entry(at);
        let (tick, next) = (entry.tick, entry.next);
        let prev = std::mem::replace(&mut entry.prev, UNARMED);
        if prev == UNARMED {
            return;
        }
        if next != NONE {
            self.entry(next).prev = prev;
        }
        if prev != NONE {
            self.entry(prev).next = next;
            return;
        }
        let slot = slot(tick);
        self.heads[slot] = next;
        if next == NONE {
            self.occupied[slot / WORD_BITS] &= !(1 << (slot % WORD_BITS));
        }
    }

    fn entry(&mut self, at: u32) -> &mut Entry<T> {
        &mut self.entries[at as usize]
    }
}

fn slot(tick: u64) -> usize {
    (tick % WHEEL_SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What is done to a wheel.
    #[derive(Debug, Clone)]
    enum Op {
        Add,
        Arm { which: usize, ahead: u64 },
        Disarm { which: usize },
        Remove { which: usize },
        Advance { by: u64 },
    }

    fn op() -> impl Strategy<Value = Op> {
        let round = WHEEL_SLOTS as u64;
        let ahead = prop_oneof![
            0..5u64,
            0..round,
            0..4 * round,
            Just(round),
            Just(2 * round)
        ];
        let which = 0..50usize;
        prop_oneof![
            2 => Just(Op::Add),
            4 => (which.clone(), ahead.clone())
                .prop_map(|(which, ahead)| Op::Arm { which, ahead }),
            1 => which.clone().prop_map(|which| Op::Disarm { which }),
            1 => which.prop_map(|which| Op::Remove { which }),
            2 => ahead.prop_map(|by| Op::Advance { by }),
        ]
    }

    proptest! {
        /// Against a model that looks at every timer: the same ones fire with the same advance, in the
        /// order of their ticks, and nothing is due before the next occupied slot.
        #[test]
        fn fires_what_a_list_would_fire(ops in prop::collection::vec(op(), 1..300)) {
            let mut slots = Slots::new();
            let mut model: BTreeMap<u32, (Key, Option<u64>)> = BTreeMap::new();
            let (mut now, mut names) = (0_u64, 0_u32);
            for op in ops {
                let pick = |which: usize| model.keys().copied().nth(which % model.len().max(1));
                match op {
                    Op::Add => {
                        let key = slots.add(names);
                        prop_assert!(model.values().all(|(other, _)| *other != key));
                        model.insert(names, (key, None));
                        names += 1;
                    }
                    Op::Arm { which, ahead } => if let Some(name) = pick(which) {
                        let (key, tick) = model.get_mut(&name).unwrap();
                        prop_assert_eq!(slots.arm(*key, now + ahead), now + ahead);
                        *tick = Some(now + ahead);
                    },
                    Op::Disarm { which } => if let Some(name) = pick(which) {
                        let (key, tick) = model.get_mut(&name).unwrap();
                        slots.disarm(*key);
                        *tick = None;
                    },
                    Op::Remove { which } => if let Some(name) = pick(which) {
                        let (key, _) = model.remove(&name).unwrap();
                        prop_assert_eq!(slots.remove(key), Some(name));
                    },
                    Op::Advance { by } => {
                        let to = now + by;
                        let first = model.values().filter_map(|(_, tick)| *tick).min();
                        match (slots.next_occupied(), first) {
                            (Some(next), Some(first)) => prop_assert!(now <= next && next <= first),
                            (next, first) => prop_assert!(next.is_none() && first.is_none()),
                        }
                        let mut fired = Vec::new();
                        slots.advance(to, |name| fired.push(*name));
                        let ticks: Vec<_> = fired.iter().map(|name| model[name].1).collect();
                        prop_assert!(ticks.is_sorted(), "{:?}", ticks);
                        fired.sort_unstable();
                        let due: Vec<u32> = model
                            .iter_mut()
                            .filter_map(|(name, (_, tick))| {
                                tick.take_if(|tick| *tick <= to).map(|_| *name)
                            })
                            .collect();
                        prop_assert_eq!(fired, due);
                        now = to + 1;
                    }
                }
            }
        }
    }

    #[test]
    fn a_tick_in_the_past_is_the_next_one() {
        let mut slots = Slots::new();
        let key = slots.add(());
        slots.advance(100, |()| panic!("nothing is armed"));
        assert_eq!(slots.arm(key, 7), 101);
        let mut fired = 0;
        slots.advance(101, |()| fired += 1);
        slots.advance(10_000, |()| fired += 1);
        assert_eq!(fired, 1);
    }

    #[test]
    fn memory_goes_with_the_last_timer() {
        let mut slots = Slots::new();
        let keys: Vec<_> = (0..1000).map(|n| slots.add(n)).collect();
        for key in &keys {
            slots.arm(*key, 5);
        }
        for key in keys {
            slots.remove(key);
        }
        assert_eq!(slots.entries.capacity(), 0);
        assert_eq!(slots.next_occupied(), None);
        assert!(size_of::<Entry<std::task::Waker>>() <= 32);
    }
}
