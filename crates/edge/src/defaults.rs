//! Limits and defaults of the edge, each with its unit and what it costs.

use std::time::Duration;

/// Client connections of the node at once. Each costs about 15 KiB: two sockets (6–8 KiB in the
/// kernel), a task and a record (about 4 KiB), and a small relay buffer while bytes move; 100,000 are
/// 1.5 GiB. The limit on file descriptors is usually met first, and is taken into account at start.
pub const CONNECTIONS_MAX: usize = 100_000;
/// Client connections of one endpoint at once.
pub const CONNECTIONS_PER_ENDPOINT_MAX: u32 = 10_000;
/// Client connections of one source address (IPv6: /64) to one endpoint at once.
pub const CONNECTIONS_PER_SOURCE_MAX: u32 = 1_000;
/// Accept to established, PROXY header and up to three members included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A trusted peer's PROXY header must be there within this. Balancers send it with their first
/// packet; three seconds allow for one lost SYN-ACK and one lost packet.
pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence of both directions that ends a connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a drain waits for connections to end by themselves.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long cut connections get to write their records after a drain.
pub const CUT_TIMEOUT: Duration = Duration::from_secs(1);
/// `forward-internal` steps of one connection.
pub const FORWARD_HOPS_MAX: u32 = 16;
/// Work that the policies of one connection do at once, in units of about 100 ns: 1 ms, and what one policy may
/// take beyond it (25 ms). Then others have their turn on the thread.
pub const POLICY_UNITS_AT_ONCE: u64 = 10_000;
/// Pool members tried for one connection.
pub const MEMBERS_TRIED_MAX: usize = 3;
/// An open that takes longer than this ends when its client goes; before, watching costs more than the
/// slot is worth.
pub const CLIENT_WATCH_AFTER: Duration = Duration::from_millis(250);
/// Texts of upstreams that are kept parsed, about 200 bytes each: 3 MiB.
pub const UPSTREAMS_PARSED_MAX: usize = 16_384;
/// How long a member is passed over after its first failed open, while others are there. Twice as long after
/// each further one in a row.
pub const EJECT_FIRST: Duration = Duration::from_secs(5);
/// The longest of these.
pub const EJECT_MAX: Duration = Duration::from_secs(300);
/// Health checks of this node that run at once. Each holds a socket: half of [`DESCRIPTORS_RESERVED`]. Where all
/// of 10,000 time out at 2 s, a round takes 78 s instead of the interval.
pub const PROBES_AT_ONCE_MAX: usize = 256;
/// Connections that are decided again before others get a turn: about 100 µs by a policy of addresses.
pub const REEVALUATED_AT_ONCE: usize = 256;
/// After a change connections are decided again once more: one whose accept fell together with the
/// change was not yet to be seen.
pub const REEVALUATE_AGAIN: Duration = Duration::from_millis(500);

/// Connections on the agent port that have not said who they are. Each holds a socket and a TLS
/// handshake in progress, about 40 KiB: 80 MiB at most.
pub const AGENT_PENDING_MAX: usize = 2_048;
/// The same of one source address (IPv6: /64): an office of agents behind one NAT comes back within
/// seconds (each takes a few milliseconds), and one source cannot take all slots.
pub const AGENT_PENDING_PER_SOURCE_MAX: u32 = 128;
/// TLS handshake and first frame of a connection to the agent port, together.
pub const AGENT_HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one read of what a client says before its upstream is there: most first messages whole.
pub const EARLY_READ_BYTES: usize = 2 * 1024;
/// Carriers that each agent keeps unless the configuration says otherwise.
pub const CARRIERS: u32 = portcullis_proto::defaults::CARRIERS;
/// Carriers that an agent can be asked to keep.
pub const CARRIERS_MAX: u32 = portcullis_proto::defaults::CARRIERS_MAX;
/// Data channels of one session, idle and busy. Each costs about 35 KiB on both ends: 350 MiB.
pub const CHANNELS_PER_SESSION_MAX: usize = 10_000;
/// Idle channels that a session keeps at least.
pub const CHANNELS_IDLE_MIN: u32 = 2;
/// Idle channels that a session keeps at most: the burst that opens without a round trip.
pub const CHANNELS_IDLE_MAX: u32 = 64;
/// As many idle channels are kept as were opened within one set-up time in the busiest moment of the
/// last two of these windows; half as many with each window after.
pub const CHANNELS_PEAK_WINDOW: Duration = Duration::from_secs(1);
/// Round trips from asking for a channel until it is there: half a one for `need_channels`, one for TCP,
/// one for TLS 1.3, half a one for the channel's first message.
pub const CHANNEL_ROUND_TRIPS: u32 = 3;
/// The time until a channel is there, before anything was measured: that of a link of 100 ms.
pub const CHANNEL_SETUP_UNKNOWN: Duration =
    portcullis_net::defaults::ROUND_TRIP_UNKNOWN.saturating_mul(CHANNEL_ROUND_TRIPS);
/// Never reckoned shorter: what a client opens at once comes within this. At 100 opens a second it keeps
/// five channels.
pub const CHANNEL_SETUP_MIN: Duration = Duration::from_millis(50);
/// Never reckoned longer: three round trips by satellite, and the most that one late answer can say.
pub const CHANNEL_SETUP_MAX: Duration = Duration::from_secs(2);
/// Looks at a connection on a channel (one every [`SESSION_SWEEP`]) without a byte moved in between, after
/// which it returns to a carrier: three seconds.
pub const CHANNEL_QUIET_SWEEPS: u32 = 3;
/// Channels tried for one open, for those that died while they were idle.
pub const CHANNELS_TRIED_MAX: usize = 4;
/// Opens of one session that wait for a channel. A waiting open holds its client's slot anyway.
pub const CHANNEL_WAITERS_MAX: usize = 10_000;
/// `need_channels` is asked again when nothing came for this long while opens wait; doubles up to the
/// next while nothing comes at all.
pub const NEED_CHANNELS_AGAIN: Duration = Duration::from_millis(500);
/// The longest of these waits. An agent that hangs for a minute finds eleven requests, not 120.
pub const NEED_CHANNELS_AGAIN_MAX: Duration = Duration::from_secs(8);
/// Commands that wait for a session's actor. Senders on the data path shed when it is full; the
/// actor clears it within a write to its socket.
pub const SESSION_COMMANDS_MAX: usize = 1_024;
/// Requests of one session that the registry works on at once.
pub const SESSION_REQUESTS_MAX: usize = 32;
/// How long the agent may take to leave after `stop` before it is cut.
pub const SESSION_STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long between two tries to take a closed session off the registry.
pub const SESSION_CLOSE_AGAIN: Duration = Duration::from_millis(500);
/// A closed session is taken off the registry within this, or its lease ends it.
pub const SESSION_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// An address that could not be bound is tried again after this.
pub const LISTEN_RETRY: Duration = Duration::from_secs(2);
/// An `all addresses` listener that dedicated listeners of the same port stand in the way of costs
/// them a short gap for every try, so it is tried rarely.
pub const LISTEN_RETRY_CONTESTED: Duration = Duration::from_secs(60);
/// How long a refused peer on the agent port gets to read why.
pub const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a session that the registry dropped waits to hear from its successor why.
pub const SESSION_GONE_GRACE: Duration = Duration::from_millis(200);
/// How often a session looks after its idle channels.
pub const SESSION_SWEEP: Duration = Duration::from_secs(1);
/// How long the answer to a bind waits for the listeners; they take milliseconds.
pub const BIND_SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Descriptors that are left for what is not a client connection: store, agent port, listeners, logs.
pub const DESCRIPTORS_RESERVED: usize = 512;
/// Connections on the agent port that have not said who they are take at most this part of the
/// process's descriptors: an eighth.
pub const DESCRIPTORS_PENDING_SHARE: usize = 8;
/// Broken accept loops that wait to be noticed; the others wait to say so.
pub const LISTENERS_BROKEN_MAX: usize = 16;
/// Draws of a random address whose port turns out to be held by another program.
pub const RANDOM_DRAWS_MAX: u32 = 4;

/// Bytes that are read of a client before it is known what it speaks: the longest TLS ClientHello, 69 KiB
/// in as many records as it may have.
pub const FIRST_BYTES_MAX: usize = portcullis_policy::sniff::LOOK_BYTES_MAX;
/// How long a client has for its ClientHello where that decides which endpoint it is for.
pub const TLS_HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Requests for encryption of one PostgreSQL client that are answered, each with a byte: a client asks for
/// GSSAPI, then for TLS, then begins. Behind that it speaks PostgreSQL, and nothing more is waited for.
pub const ENCRYPTION_ANSWERS_MAX: u32 = 2;
/// Bytes of a request's head that a policy waits for: 16 KiB.
pub const REQUEST_HEAD_BYTES_MAX: usize = portcullis_policy::sniff::HEAD_BYTES_MAX;
/// How long a policy waits for a request's head.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read a policy's own answer.
pub const RESPOND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what a client still says is read behind a policy's answer: a round trip by satellite, twice.
pub const RESPOND_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// The most that is read so.
pub const RESPOND_DRAIN_BYTES_MAX: usize = 1024 * 1024;
/// The longest that `deny` with `mode: tarpit` keeps a client waiting.
pub const TARPIT_MAX: Duration = Duration::from_secs(30);
/// Clients that are kept waiting at once; one beyond that is closed at once. Each holds a socket, a task
/// and a place under the node's cap, about 8 KiB: 8 MiB.
pub const TARPITS_MAX: usize = 1_000;
/// Keys of `rate-limit` and of `limit-connections` that are counted at once, each. A key is kept as its hash,
/// with its account and its count at most 170 bytes: 162 MiB each. Where there are as many, a new one is refused:
/// what cannot be counted is not let in.
pub const POLICY_KEYS_MAX: usize = 1_000_000;
/// Of [`POLICY_KEYS_MAX`], one account has at most this part: a quarter. Its policies and its clients choose the
/// keys, and must not take those of all others.
pub const POLICY_KEYS_ACCOUNT_SHARE: usize = 4;
/// Keys that one connection may ask for, of both together. A policy has a few; one whose keys come from
/// what changes (a random number, the time) could take many, and is refused as where there is no room.
pub const POLICY_KEYS_PER_CONNECTION_MAX: usize = 64;
/// Parts that the counts of policies are locked in.
pub const POLICY_SHARDS: usize = 64;
/// Actions with `targets` whose turn is kept, each at most 64 targets and about 1 KiB: 64 MiB. Beyond that
/// they begin anew.
pub const POLICY_WHEELS_MAX: usize = 65_536;
/// Places under the node's cap that a dialled connection takes: it has twice the descriptors of another (its
/// link, a pair of sockets, the upstream's).
pub const DIALLED_PERMITS: u32 = 2;
/// How long what a dialled connection's story left may lie unread before the link is cut, and how long the
/// story may take to say what it ended with.
pub const DIALLED_REST: Duration = Duration::from_secs(10);
/// Connections that are taken from a socket of one's own, in case others on the machine are faster.
pub const LOOPBACK_TRIES_MAX: u32 = 8;
/// How often the files of places are looked at for changes.
pub const PLACE_FILES_POLL: Duration = Duration::from_secs(2);
/// Bytes of a MaxMind file; it is kept in memory whole. The largest that is sold is about 150 MB.
pub const PLACE_FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of a list of networks with categories: 3 million lines.
pub const CATEGORY_LIST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Networks of all such lists, 24 bytes each at most and twice that while they are read: 96 MiB.
pub const CATEGORY_NETWORKS_MAX: usize = 2_000_000;
/// Categories of all lists. A lookup asks each, in about 50 ns.
pub const CATEGORIES_MAX: usize = 4_096;
/// Bytes of a category.
pub const CATEGORY_BYTES_MAX: usize = 128;
/// Lists in one directory.
pub const CATEGORY_FILES_MAX: usize = 1_024;
/// How often counts that stand where they began are forgotten.
pub const POLICY_SWEEP: Duration = Duration::from_secs(30);
/// Where there is no room, how often a part of them is looked through for counts to forget: 16,000 at most,
/// about 100 µs.
pub const POLICY_SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// A TLS handshake with a client, its first bytes included. The establishment gets as much longer.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Ways of terminating TLS (a policy's settings and a certificate) that are kept parsed, each about 20 KiB with a
/// chain: 80 MiB at most. Beyond that they are parsed anew.
pub const TERMINATORS_MAX: usize = 4_096;
/// Keys of PostgreSQL backends that are known at once, about 80 bytes each: as many as there may be connections.
pub const CANCEL_KEYS_MAX: usize = CONNECTIONS_MAX;
/// Bytes of a PostgreSQL server among which its key is looked for: its parameters and a notice or two are less than
/// 2 KiB.
pub const TAP_BYTES_MAX: usize = 32 * 1024;
/// Flows of `limit-bandwidth` that are kept at once, about 72 bytes each: 14 MiB. Connections beyond have their own.
pub const BANDWIDTH_KEYS_MAX: usize = 200_000;
/// One account has at most this part of them: a quarter.
pub const BANDWIDTH_SHARES: usize = 4;
/// The most that one connection moves in one turn.
pub const BANDWIDTH_TURN_BYTES_MAX: usize = 16 * 1024;
