//! What services answer: pure judges over the bytes heard so far.
//!
//! Must never: allocate by what a stranger says, but for the short reason.

/// What the bytes heard so far come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It takes more bytes to tell.
    More,
    /// As it should be.
    Good,
    /// Not as it should be, and why.
    Bad(String),
}

impl Verdict {
    /// As a result, where no more can be heard.
    pub(super) fn or(self, otherwise: impl FnOnce() -> String) -> Result<(), String> {
        match self {
            Self::Good => Ok(()),
            Self::Bad(why) => Err(why),
            Self::More => Err(otherwise()),
        }
    }
}

/// Characters of an answer that a reason repeats.
const SHOWN_MAX: usize = 80;

fn shown(heard: &[u8]) -> String {
    let line = heard
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = &line[..line.len().min(SHOWN_MAX)];
    String::from_utf8_lossy(line).trim_end().to_owned()
}

fn other(heard: &[u8], expected: &str) -> Verdict {
    Verdict::Bad(format!(
        "it said `{}` where {expected} should be",
        shown(heard)
    ))
}

/// The bytes stand anywhere in what it says.
pub(super) fn expect(wanted: &[u8], heard: &[u8], ended: bool) -> Verdict {
    if heard
        .windows(wanted.len().max(1))
        .any(|part| part == wanted)
    {
        Verdict::Good
    } else if ended {
        other(heard, "what is expected")
    } else {
        Verdict::More
    }
}

/// One byte, `S` or `N`; or an error of the server, which only a PostgreSQL gives like this.
pub(super) fn postgres(heard: &[u8], _ended: bool) -> Verdict {
    match heard {
        [] => Verdict::More,
        [b'S' | b'N', ..] => Verdict::Good,
        // Message `E`: four bytes of length, then fields that begin with their letter.
        [b'E', rest @ ..] => match rest
            .first_chunk::<4>()
            .map(|length| u32::from_be_bytes(*length))
        {
            None => Verdict::More,
            Some(5..=65_536) => Verdict::Good,
            Some(_) => other(heard, "PostgreSQL's answer"),
        },
        _ => other(heard, "PostgreSQL's answer"),
    }
}

/// A packet of protocol 10: length in three bytes, number 0, version. `0xff` is a refusal.
pub(super) fn mysql(heard: &[u8], _ended: bool) -> Verdict {
    let [low, middle, high, number, version, rest @ ..] = heard else {
        return Verdict::More;
    };
    let length = u32::from_le_bytes([*low, *middle, *high, 0]);
    if *number != 0 || length < 2 {
        return other(heard, "MySQL's greeting");
    }
    match version {
        // The server's version follows, and ends with 0.
        10 => match rest.iter().position(|byte| *byte == 0) {
            Some(_) => Verdict::Good,
            None if rest.len() < 256 => Verdict::More,
            None => other(heard, "MySQL's greeting"),
        },
        0xff => {
            let whole = usize::try_from(length).unwrap_or(usize::MAX).min(256);
            if rest.len() + 1 < whole {
                return Verdict::More;
            }
            let why = rest.get(2..whole.saturating_sub(1)).unwrap_or_default();
            Verdict::Bad(format!("it refused: {}", shown(why)))
        }
        _ => other(heard, "MySQL's greeting"),
    }
}

/// `+PONG`, or the wish for a password: whoever asks for one is there.
pub(super) fn redis(heard: &[u8], ended: bool) -> Verdict {
    for good in [&b"+PONG\r\n"[..], b"-NOAUTH ", b"-NOPERM "] {
        if heard.starts_with(good) {
            return Verdict::Good;
        }
        if good.starts_with(heard) && !ended {
            return Verdict::More;
        }
    }
    match ended || heard.contains(&b'\n') || heard.len() > 256 {
        true => other(heard, "+PONG"),
        false => Verdict::More,
    }
}

/// `220 …`, after any number of lines `220-…`.
pub(super) fn smtp(heard: &[u8], ended: bool) -> Verdict {
    let mut rest = heard;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        match line {
            [b'2', b'2', b'0', b'-', ..] => rest = &rest[end + 1..],
            [b'2', b'2', b'0', ..] => return Verdict::Good,
            _ => return other(line, "220"),
        }
    }
    match ended {
        true => other(rest, "220"),
        false => Verdict::More,
    }
}

/// `SSH-`, at the beginning of a line: others may stand before it.
pub(super) fn ssh(heard: &[u8], ended: bool) -> Verdict {
    let mut lines = heard.split(|byte| *byte == b'\n');
    if lines.any(|line| line.starts_with(b"SSH-")) {
        return Verdict::Good;
    }
    match ended {
        true => other(heard, "SSH-"),
        false => Verdict::More,
    }
}

/// `HTTP/1.x STATUS`, with the status in the range.
pub(super) fn http((first, last): (u16, u16), heard: &[u8], ended: bool) -> Verdict {
    const VERSION: &[u8] = b"HTTP/1.";
    if !heard.starts_with(VERSION) && (heard.len() >= VERSION.len() || !VERSION.starts_with(heard))
    {
        return other(heard, "HTTP");
    }
    let Some(status) = heard.get(9..12) else {
        return match ended {
            true => other(heard, "HTTP"),
            false => Verdict::More,
        };
    };
    let status = std::str::from_utf8(status).ok();
    match status.and_then(|status| status.parse::<u16>().ok()) {
        Some(status) if (first..=last).contains(&status) => Verdict::Good,
        Some(status) => Verdict::Bad(format!("it answered with status {status}")),
        None => other(heard, "HTTP"),
    }
}
