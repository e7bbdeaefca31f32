//! Redis: commands as an array of strings, and those that people type into a terminal.

use super::bytes::{Stop, Told, begins, byte, must};
use super::{First, Looked, Protocol};

/// Most digits of the count of an array; a server takes at most 1,048,576 strings.
const DIGITS_MAX: usize = 7;
/// With what a connection begins that doesn't use arrays. Commands that read or write keys are left out: their
/// names are methods of HTTP (`GET`) or commands of other protocols.
const COMMANDS: [&[u8]; 8] = [
    b"AUTH", b"CLIENT", b"COMMAND", b"ECHO", b"HELLO", b"INFO", b"PING", b"SELECT",
];

/// An array of strings: `*2\r\n$4\r\nAUTH\r\n…`.
pub(super) fn resp(bytes: &[u8], _ended: bool) -> Told<Looked> {
    must(byte(bytes, 0)? == b'*')?;
    must(matches!(byte(bytes, 1)?, b'1'..=b'9'))?;
    let digits = bytes[1..].iter().take_while(|byte| byte.is_ascii_digit());
    let digits = digits.count();
    must(digits <= DIGITS_MAX)?;
    begins(&bytes[1 + digits..], b"\r\n$")?;
    Ok(Looked::Found(First::of(Protocol::Redis)))
}

/// A line that begins with a command.
pub(super) fn inline(bytes: &[u8], _ended: bool) -> Told<Looked> {
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\r' | b'\n');
    let Some(end) = bytes.iter().position(is_end) else {
        let may = |command: &&[u8]| {
            command
                .get(..bytes.len())
                .is_some_and(|front| front.eq_ignore_ascii_case(bytes))
        };
        return Err(if COMMANDS.iter().any(may) {
            Stop::More
        } else {
            Stop::Not
        });
    };
    let is_one = |command: &&[u8]| command.eq_ignore_ascii_case(&bytes[..end]);
    must(COMMANDS.iter().any(is_one))?;
    Ok(Looked::Found(First::of(Protocol::Redis)))
}
