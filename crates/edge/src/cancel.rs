//! Requests to cancel of PostgreSQL. They come on a connection of their own and name a key that the upstream gave
//! to another one, so they go to the member that gave it.
//!
//! The key is found by a look at what an upstream says to a client that speaks PostgreSQL in the clear: the
//! messages up to `BackendKeyData`, which pass on untouched. Behind it the tap is idle, and what can be spliced is.
//!
//! Must never: keep a key in the clear (only hashes, keyed by a secret of the process), hold bytes back, or know of a
//! connection that is over.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_model::{Endpoint, EndpointId};
use portcullis_policy::sniff::CancelKey;

use crate::defaults::{CANCEL_KEYS_MAX, TAP_BYTES_MAX};

/// The keys that upstreams gave out, and which member of which pool gave each.
#[derive(Default)]
pub(crate) struct Cancels {
    hashers: [RandomState; 2],
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    given: HashMap<u128, (u64, EndpointId)>,
    serial: u64,
}

/// The pool that a connection reached, as far as keys care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pool(u64);

impl Cancels {
    /// The pool that an endpoint is a member of: requests to cancel come to the same.
    pub(crate) fn pool_of(&self, endpoint: &Endpoint) -> Pool {
        let parts = (endpoint.account.as_str(), &endpoint.url);
        Pool(self.hashers[0].hash_one(parts))
    }

    /// The member that gave out a key, to a connection that is there.
    pub(crate) fn find(&self, pool: Pool, key: &CancelKey) -> Option<EndpointId> {
        let hash = self.hash(pool, key);
        self.table().given.get(&hash).map(|(_, id)| id.clone())
    }

    fn hash(&self, pool: Pool, key: &CancelKey) -> u128 {
        let [high, low] = &self.hashers;
        let parts = (pool.0, key);
        u128::from(high.hash_one(parts)) << 64 | u128::from(low.hash_one(parts))
    }

    /// Notes a key; `None` where there is no room.
    fn note(self: &Arc<Self>, pool: Pool, key: &CancelKey, member: &EndpointId) -> Option<Noted> {
        let hash = self.hash(pool, key);
        let mut table = self.table();
        if table.given.len() >= CANCEL_KEYS_MAX && !table.given.contains_key(&hash) {
            return None;
        }
        table.serial += 1;
        let serial = table.serial;
        table.given.insert(hash, (serial, member.clone()));
        Some(Noted {
            cancels: Arc::clone(self),
            hash,
            serial,
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key in the table, which goes with its connection.
struct Noted {
    cancels: Arc<Cancels>,
    hash: u128,
    serial: u64,
}

impl Drop for Noted {
    fn drop(&mut self) {
        let mut table = self.cancels.table();
        // Another connection may have been given the same since.
        if table
            .given
            .get(&self.hash)
            .is_some_and(|(serial, _)| *serial == self.serial)
        {
            table.given.remove(&self.hash);
        }
        if table.given.is_empty() {
            table.given.shrink_to(0);
        }
    }
}

/// Looks for a connection's key in what its upstream says.
pub(crate) struct Tap {
    state: State,
    pool: Pool,
    member: EndpointId,
    cancels: Arc<Cancels>,
    noted: Option<Noted>,
}

impl Tap {
    /// For a connection that reached a pool and is served by a member.
    pub(crate) fn new(cancels: &Arc<Cancels>, pool: Pool, member: &EndpointId) -> Self {
        Self {
            state: State::Looking(Parser::default()),
            pool,
            member: member.clone(),
            cancels: Arc::clone(cancels),
            noted: None,
        }
    }

    /// Whether it wants to see more.
    pub(crate) fn is_looking(&self) -> bool {
        matches!(self.state, State::Looking(_))
    }

    /// So much was said to the client.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let State::Looking(parser) = &mut self.state else {
            return;
        };
        match parser.feed(bytes) {
            Fed::More => {}
            Fed::Over => self.state = State::Over,
            Fed::Key(key) => {
                self.noted = self.cancels.note(self.pool, &key, &self.member);
                self.state = State::Over;
            }
        }
    }
}

enum State {
    Looking(Parser),
    Over,
}

/// What the messages so far came to.
#[derive(Debug, PartialEq, Eq)]
enum Fed {
    More,
    /// There is no key, or none that can be found.
    Over,
    Key(CancelKey),
}

/// Where it is in a message of the backend: a byte for its type, four for its length, the content.
#[derive(Default)]
struct Parser {
    /// Bytes looked at so far.
    seen: usize,
    header: [u8; 5],
    header_len: usize,
    /// Bytes of content to come.
    content: usize,
    /// The content of `BackendKeyData`.
    key: Vec<u8>,
}

/// The shortest and the longest content of `BackendKeyData`: a process, and a key of 4 to 256 bytes.
const KEY_DATA_BYTES: std::ops::RangeInclusive<usize> = 8..=4 + 256;

impl Parser {
    fn feed(&mut self, mut bytes: &[u8]) -> Fed {
        self.seen = self.seen.saturating_add(bytes.len());
        while !bytes.is_empty() {
            let is_header = self.header_len < self.header.len();
            let wanted = match is_header {
                true => self.header.len() - self.header_len,
                false => self.content,
            };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if is_header {
                self.header[self.header_len..][..part.len()].copy_from_slice(part);
                self.header_len += part.len();
                if self.header_len == self.header.len()
                    && let Some(over) = self.begin()
                {
                    return over;
                }
            } else {
                self.content -= part.len();
                if self.header[0] == b'K' {
                    self.key.extend_from_slice(part);
                }
            }
            if self.header_len == self.header.len() && self.content == 0 {
                if self.header[0] == b'K' {
                    return self.found();
                }
                self.header_len = 0;
            }
        }
        match self.seen > TAP_BYTES_MAX {
            true => Fed::Over,
            false => Fed::More,
        }
    }

    /// A header is there.
    fn begin(&mut self) -> Option<Fed> {
        let [kind, length @ ..] = self.header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        // The length counts itself.
        let Some(content) = length.checked_sub(4) else {
            return Some(Fed::Over);
        };
        self.content = content;
        match kind {
            b'K' if KEY_DATA_BYTES.contains(&content) => None,
            // What a server says before it is ready: authentication, parameters, notices, a lower version.
            b'R' | b'S' | b'N' | b'v' if content <= TAP_BYTES_MAX => None,
            _ => Some(Fed::Over),
        }
    }

    fn found(&mut self) -> Fed {
        match self.key.split_first_chunk() {
            Some((process, key)) => Fed::Key(CancelKey {
                process: u32::from_be_bytes(*process),
                key: key.to_vec(),
            }),
            None => Fed::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 4).expect("short");
        [&[kind], &length.to_be_bytes()[..], content].concat()
    }

    fn hello(key: &[u8]) -> Vec<u8> {
        [
            message(b'R', &[0, 0, 0, 0]),
            message(b'S', b"server_version\x0015\0"),
            message(b'N', b""),
            message(b'K', &[&7_u32.to_be_bytes()[..], key].concat()),
            message(b'Z', b"I"),
        ]
        .concat()
    }

    /// What comes of bytes that are cut at every place.
    fn cut_everywhere(bytes: &[u8]) -> Vec<Fed> {
        let through = |at: usize| {
            let mut parser = Parser::default();
            match parser.feed(&bytes[..at]) {
                Fed::More => parser.feed(&bytes[at..]),
                done => done,
            }
        };
        (0..=bytes.len()).map(through).collect()
    }

    #[test]
    fn a_key_is_found_wherever_the_bytes_are_cut() {
        for length in [4, 32, 256] {
            let key = CancelKey {
                process: 7,
                key: vec![9; length],
            };
            for fed in cut_everywhere(&hello(&key.key)) {
                assert_eq!(fed, Fed::Key(key.clone()));
            }
        }
    }

    #[test]
    fn what_has_no_key_is_not_looked_at_any_further() {
        let refused = message(b'E', b"SFATAL\0\0");
        for bytes in [&refused[..], &message(b'Z', b"I"), b"SSH-2.0-OpenSSH\r\n"] {
            for fed in cut_everywhere(bytes) {
                assert_eq!(fed, Fed::Over, "{bytes:?}");
            }
        }
        // A key of no length, a length that is none, and more than anyone says before its key.
        assert_eq!(Parser::default().feed(&message(b'K', b"1234")), Fed::Over);
        assert_eq!(Parser::default().feed(b"R\0\0\0\x03"), Fed::Over);
        let long = message(b'S', &vec![0; 1_000]).repeat(TAP_BYTES_MAX / 1_000 + 1);
        assert_eq!(Parser::default().feed(&long), Fed::Over);
    }

    #[test]
    fn a_key_is_known_in_its_pool_for_as_long_as_its_connection_lives() {
        let cancels = Arc::new(Cancels::default());
        let member = EndpointId::new(1_700_000_000, [1; 16]);
        let other = EndpointId::new(1_700_000_000, [2; 16]);
        let key = CancelKey {
            process: 7,
            key: vec![1, 2, 3, 4],
        };
        let mut tap = Tap::new(&cancels, Pool(1), &member);
        assert!(tap.is_looking());
        tap.feed(&hello(&key.key));
        assert!(!tap.is_looking());
        assert_eq!(cancels.find(Pool(1), &key), Some(member));
        assert_eq!(cancels.find(Pool(2), &key), None, "another pool");
        let mut again = Tap::new(&cancels, Pool(1), &other);
        again.feed(&hello(&key.key));
        drop(tap);
        assert_eq!(cancels.find(Pool(1), &key), Some(other), "the later one's");
        drop(again);
        assert_eq!(cancels.find(Pool(1), &key), None);
    }
}
