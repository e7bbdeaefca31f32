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
/// The highest number of an open; the channel is closed after it. At 1,000 a second: 49 days.
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
/// Idle channels that an edge may ask an agent to keep ready. Each costs about 35 KiB on both ends.
pub const CHANNELS_IDLE_MIN_MAX: u32 = 256;
