//! The cases, in the order in which they run.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::rig::Rig;
use crate::rig::Side::{Client, Target};
use crate::verdict::Outcome;

mod clogged;
mod closing;
mod half_close;
mod idle;
mod integrity;
mod isolation;
mod opening;
mod reset;
mod small;
mod stalled;
mod urgent_byte;

/// What a case runs as.
type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// One thing that users of TCP rely on.
pub struct Case {
    /// Stable name.
    pub name: &'static str,
    /// What about TCP it is about.
    pub group: &'static str,
    /// Why users rely on it, in one line.
    pub rationale: &'static str,
    /// Why the kernel may not allow it: the case then runs without a proxy first, and says nothing
    /// about the proxy if that fails.
    pub(crate) kernel: Option<&'static str>,
    /// When it counts as hanging.
    pub(crate) limit: Duration,
    pub(crate) run: fn(&Rig) -> Running<'_>,
}

/// All cases, in the order in which they run.
pub fn all() -> &'static [Case] {
    CASES
}

const fn case(
    group: &'static str,
    name: &'static str,
    rationale: &'static str,
    run: fn(&Rig) -> Running<'_>,
) -> Case {
    Case {
        name,
        group,
        rationale,
        kernel: None,
        limit: Duration::from_secs(90),
        run,
    }
}

const HALF_CLOSE: &str = "half-close";
const RESET: &str = "reset";
const CLOGGED: &str = "clogged";
const CLOSING: &str = "closing";
const OPENING: &str = "opening";
const BYTES: &str = "bytes";
const CROWD: &str = "crowd";

const CASES: &[Case] = &[
    case(
        OPENING,
        "server-speaks-first",
        "SMTP, SSH, MySQL: the client waits for a greeting before it says a word",
        |rig| Box::pin(opening::server_speaks_first(rig)),
    ),
    case(
        OPENING,
        "zero-length-sessions",
        "port checks and health checks connect and close; the server sees each one, ended cleanly",
        |rig| Box::pin(opening::zero_length(rig)),
    ),
    case(
        OPENING,
        "upstream-refuses",
        "a client of a dead service is told at once, by a refusal, a reset or an end",
        |rig| Box::pin(opening::refused(rig)),
    ),
    case(
        OPENING,
        "upstream-accepts-late",
        "what a client sends to a busy service waits and arrives",
        |rig| Box::pin(opening::accepted_late(rig)),
    ),
    case(
        OPENING,
        "client-ends-before-accept",
        "send and forget (syslog, metrics): bytes of a client that left arrive whole",
        |rig| Box::pin(opening::ends_before_accept(rig)),
    ),
    case(
        OPENING,
        "client-resets-before-accept",
        "a client that gave up is not taken for one that finished, and is not kept open",
        |rig| Box::pin(opening::resets_before_accept(rig)),
    ),
    case(
        HALF_CLOSE,
        "half-close-client",
        "the request ends with FIN, then comes the reply (rsh, scp, nc -N, HTTP/1.0), of any size",
        |rig| Box::pin(half_close::at_once(rig, Client)),
    ),
    case(
        HALF_CLOSE,
        "half-close-target",
        "a server that has said all still gets the rest of what the client sends, of any size",
        |rig| Box::pin(half_close::at_once(rig, Target)),
    ),
    case(
        HALF_CLOSE,
        "half-close-client-late-reply",
        "work between the end of the request and the reply takes time",
        |rig| Box::pin(half_close::late(rig, Client)),
    ),
    case(
        HALF_CLOSE,
        "half-close-target-late-bytes",
        "a client may go on long after the server's end",
        |rig| Box::pin(half_close::late(rig, Target)),
    ),
    case(
        HALF_CLOSE,
        "simultaneous-close",
        "both ends finish at the same moment; both get everything",
        |rig| Box::pin(closing::simultaneous(rig)),
    ),
    case(
        HALF_CLOSE,
        "half-close-trickle",
        "half-closed for longer than the idle limit, with a byte now and then, is not idle",
        |rig| Box::pin(idle::trickle(rig)),
    ),
    case(
        HALF_CLOSE,
        "half-close-silent",
        "half-closed and silent for longer than the idle limit ends, and not as if it were complete",
        |rig| Box::pin(idle::silent(rig)),
    ),
    case(
        RESET,
        "reset-client",
        "a client that dies between two requests is seen as gone, not as finished",
        |rig| Box::pin(reset::quiet(rig, Client)),
    ),
    case(
        RESET,
        "reset-target",
        "a server that dies between two replies is seen as gone, not as finished",
        |rig| Box::pin(reset::quiet(rig, Target)),
    ),
    case(
        RESET,
        "reset-client-in-stream",
        "an upload that broke off must not look complete",
        |rig| Box::pin(reset::in_stream(rig, Client)),
    ),
    case(
        RESET,
        "reset-target-in-stream",
        "a download that broke off must not look complete",
        |rig| Box::pin(reset::in_stream(rig, Target)),
    ),
    case(
        RESET,
        "reset-client-undelivered",
        "the same while the proxy holds bytes that the server has not read",
        |rig| Box::pin(reset::undelivered(rig, Client)),
    ),
    case(
        RESET,
        "reset-target-undelivered",
        "the same while the proxy holds bytes that the client has not read",
        |rig| Box::pin(reset::undelivered(rig, Target)),
    ),
    case(
        RESET,
        "reset-client-before-bytes",
        "a reset counts before any byte was sent",
        |rig| Box::pin(reset::before_bytes(rig, Client)),
    ),
    case(
        RESET,
        "reset-target-before-bytes",
        "a server that turns a client away with a reset is seen to do so",
        |rig| Box::pin(reset::before_bytes(rig, Target)),
    ),
    case(
        RESET,
        "reset-client-after-its-fin",
        "a client that half-closed and then dies frees the server that works for it",
        |rig| Box::pin(reset::after_own_fin(rig, Client)),
    ),
    case(
        RESET,
        "reset-target-after-its-fin",
        "a server that half-closed and then dies is seen by a client that still sends",
        |rig| Box::pin(reset::after_own_fin(rig, Target)),
    ),
    case(
        RESET,
        "reset-client-after-target-fin",
        "an upload that breaks off after the server's end must not look complete",
        |rig| Box::pin(reset::after_their_fin(rig, Client)),
    ),
    case(
        RESET,
        "reset-target-after-client-fin",
        "a server that dies while a half-closed client waits: the reply must not look complete",
        |rig| Box::pin(reset::after_their_fin(rig, Target)),
    ),
    case(
        CLOGGED,
        "clogged-client-ends",
        "FIN behind a full path in both directions: all arrives once the readers read",
        |rig| Box::pin(clogged::ends(rig, Client)),
    ),
    case(
        CLOGGED,
        "clogged-target-ends",
        "the same from the server's side",
        |rig| Box::pin(clogged::ends(rig, Target)),
    ),
    case(
        CLOGGED,
        "clogged-client-resets",
        "a reset overtakes a full path: the server is free at once, though it does not read",
        |rig| Box::pin(clogged::resets(rig, Client)),
    ),
    case(
        CLOGGED,
        "clogged-target-resets",
        "the same from the server's side",
        |rig| Box::pin(clogged::resets(rig, Target)),
    ),
    case(
        CLOGGED,
        "clogged-client-closes",
        "close with unread bytes is a reset by the kernel's rule; the server is free at once",
        |rig| Box::pin(clogged::closes(rig, Client)),
    ),
    case(
        CLOGGED,
        "clogged-target-closes",
        "the same from the server's side",
        |rig| Box::pin(clogged::closes(rig, Target)),
    ),
    case(
        CLOGGED,
        "clogged-one-way-client-resets",
        "an upload that the server does not read is given up: the server is free at once",
        |rig| Box::pin(clogged::one_way(rig, Client)),
    ),
    case(
        CLOGGED,
        "clogged-one-way-target-resets",
        "a download that the client does not read breaks off: the client is told at once",
        |rig| Box::pin(clogged::one_way(rig, Target)),
    ),
    case(
        CLOSING,
        "urgent-close-client",
        "write and close at once: not a byte is lost, at any size",
        |rig| Box::pin(closing::urgent(rig, Client)),
    ),
    case(
        CLOSING,
        "urgent-close-target",
        "the same from the server's side: the end of a reply is its last byte",
        |rig| Box::pin(closing::urgent(rig, Target)),
    ),
    case(
        CLOSING,
        "urgent-close-many",
        "the same on many connections at a time, where races show",
        |rig| Box::pin(closing::urgent_many(rig)),
    ),
    case(
        CLOSING,
        "last-words",
        "a reply that is through survives bytes that the client sends after the server closed",
        |rig| Box::pin(closing::last_words(rig)),
    ),
    Case {
        kernel: Some(
            "close with unread bytes makes the sender's kernel send RST and drop what it holds",
        ),
        ..case(
            CLOSING,
            "close-with-unread",
            "a server that replies and closes without reading the request loses its reply",
            |rig| Box::pin(closing::with_unread(rig)),
        )
    },
    case(
        BYTES,
        "tiny-writes-client",
        "terminals and games write byte by byte; order is kept",
        |rig| Box::pin(small::tiny_writes(rig, Client)),
    ),
    case(
        BYTES,
        "tiny-writes-target",
        "the same from the server's side",
        |rig| Box::pin(small::tiny_writes(rig, Target)),
    ),
    case(
        BYTES,
        "out-of-band-byte",
        "telnet and FTP send urgent bytes: nothing around one is lost, and nothing hangs",
        |rig| Box::pin(urgent_byte::quiet(rig)),
    ),
    case(
        BYTES,
        "out-of-band-in-bulk",
        "the same in the middle of a bulk transfer, where a proxy may splice",
        |rig| Box::pin(urgent_byte::in_bulk(rig)),
    ),
    case(
        BYTES,
        "large-request-response",
        "requests and replies of any size take turns on one connection",
        |rig| Box::pin(integrity::request_response(rig)),
    ),
    case(
        BYTES,
        "integrity-both-ways",
        "bulk in both directions at once arrives byte by byte as it was sent",
        |rig| Box::pin(integrity::both_ways(rig)),
    ),
    case(
        CROWD,
        "concurrent-connections",
        "five hundred connections at a time each get their own bytes back",
        |rig| Box::pin(integrity::concurrent(rig)),
    ),
    case(
        CROWD,
        "stalled-reader",
        "who does not read holds its own sender back, not a thousand neighbours, and memory is bounded",
        |rig| Box::pin(stalled::stalled(rig)),
    ),
    Case {
        limit: Duration::from_secs(300),
        ..case(
            CROWD,
            "isolation-under-resets",
            "ten thousand connections reset with data in flight: no byte of one reaches another",
            |rig| Box::pin(isolation::under_resets(rig)),
        )
    },
];
