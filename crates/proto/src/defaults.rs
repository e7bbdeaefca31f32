//! Every limit and default of the wire, with its unit and what it costs.

use std::time::Duration;

use crate::handshake::VersionRange;

/// Protocol versions that this release speaks.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };
/// ALPN of the agent port.
pub const ALPN: &[u8] = b"portcullis/1";
/// Label of the TLS exporter that a channel's MAC covers.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-portcullis-channel";
/// Bytes taken from the TLS exporter.
pub const EXPORTER_BYTES: usize = 32;
/// First bytes of a link without TLS; a TLS connection begins with 0x16.
pub const PLAIN_MAGIC: [u8; 4] = *b"PTCL";
/// Bytes of a session key.
pub const SESSION_KEY_BYTES: usize = 32;

/// Bytes of a control message's body. A session buffers at most one, so 10,000 sessions that all
/// stop one byte short of the end hold 640 MiB; only authenticated peers get past the first message.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a data frame's header.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Bytes of a data frame's payload: what its length field can say.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = u16::MAX as usize;
/// Bytes of the JSON in an OPEN frame: four short fields take under 300.
pub const OPEN_HEADER_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the client that an OPEN frame may carry. The edge keeps them until the verdict.
pub const OPEN_FIRST_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an OPEN frame's payload: length field, JSON, first bytes.
pub const OPEN_PAYLOAD_BYTES_MAX: usize = 2 + OPEN_HEADER_BYTES_MAX + OPEN_FIRST_BYTES_MAX;
/// Bytes of the JSON in a REFUSED or RESET frame.
pub const REASON_BYTES_MAX: usize = 4 * 1024;
/// Bytes of an error's message that is sent to the peer; what is longer is cut at a character. JSON
/// may write a byte as six (`\u0000`), so 512 stay below `REASON_BYTES_MAX` with the code and braces.
pub const REASON_MESSAGE_BYTES_MAX: usize = 512;
/// Bytes of a CREDIT frame's payload: u32 BE.
pub const CREDIT_BYTES: usize = 4;
/// Bytes of a RESUME frame's payload: link u64 BE, open u32 BE.
pub const LEG_BYTES: usize = 12;
/// Bytes of a SWITCH frame's payload: link u64 BE, open u32 BE, offset u64 BE.
pub const SWITCH_BYTES: usize = LEG_BYTES + 8;
/// Bytes of an open that may wait for its reader on a carrier, at first, in each direction. Both
/// sides begin with this credit, so it is part of the wire.
pub const WINDOW_INITIAL: u32 = 64 * 1024;
/// Bytes that a window grows to at most: 1 MiB a round trip of 60 ms is 140 Mbit/s; what wants more
/// belongs on a channel.
pub const WINDOW_MAX: u32 = 1024 * 1024;
/// Bytes that the windows of one session may have beyond their first size: 17 full ones.
pub const WINDOW_BUDGET: u32 = 16 * 1024 * 1024;
/// A window whose reader took nothing for so long shrinks with the next bytes.
pub const WINDOW_QUIET: Duration = Duration::from_secs(2);
/// Bytes of one burst beyond which a direction is bulky: two windows, so a page of an answer isn't.
pub const BULK_BURST: u64 = 128 * 1024;
/// Bytes within a second from which on a direction is bulky.
pub const BULK_SECOND: u64 = 1024 * 1024;
/// How long both directions of a connection on a channel are quiet before it returns to a carrier.
pub const DEMOTE_AFTER: Duration = Duration::from_secs(3);
/// Credit that may be outstanding for one open. Only the giver is hurt by more; the limit keeps the
/// arithmetic in an u32.
pub const CREDIT_MAX: u32 = i32::MAX as u32;
/// Bytes of a DATA frame's payload on a carrier: what stands in front of another open's first byte.
pub const CARRIER_DATA_BYTES_MAX: usize = 16 * 1024;
/// Opens that may live on one carrier at once. Their windows are bounded by the session's budget.
pub const CARRIER_OPENS_MAX: u32 = 16 * 1024;
/// The highest number of an open; the link is closed after it. At 1,000 a second: 49 days.
pub const OPEN_MAX: u32 = u32::MAX;
/// How long a RESET may wait for a clogged direction before `abort` tells it on the control connection.
pub const RESET_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How often each side of a session sends a heartbeat.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// How long a heartbeat may stay without any sign of life before the peer counts as lost. A dead
/// peer is so found after at most interval + tolerance = 25 s.
pub const HEARTBEAT_TOLERANCE: Duration = Duration::from_secs(15);
/// The shortest interval or tolerance that a peer may ask for.
pub const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// The longest interval or tolerance that a peer may ask for.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(300);

/// From hello to welcome, on either side.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the agent waits for the answer to a request before it gives the session up. The edge
/// answers from its store, which retries for at most 10 s.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests of one session without an answer. Each costs the edge up to one message: 64 MiB for
/// one hostile session, about 300 KiB for an ordinary one.
pub const REQUESTS_PENDING_MAX: usize = 1024;
/// How long the edge waits for the agent's goodbye after `stop` before it closes.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Channels that one `need_channels` may ask for.
pub const NEED_CHANNELS_MAX: u32 = 256;
/// Idle channels that an agent keeps ready unless the edge says otherwise.
pub const CHANNELS_IDLE_MIN: u32 = 4;
/// Carriers that an agent keeps unless the server's configuration says otherwise: two cores can seal
/// and open at once.
pub const CARRIERS: u32 = 2;
/// Carriers that an edge may ask an agent to keep.
pub const CARRIERS_MAX: u32 = 64;
/// Idle channels that an edge may ask an agent to keep ready. Each costs about 35 KiB on both ends.
pub const CHANNELS_IDLE_MIN_MAX: u32 = 256;
