//! The live status as lines of text, fitted to the terminal.
//!
//! Must never: write to a terminal; it gives lines back.

use std::time::Duration;

use portcullis_agent::{EndpointState, EndpointStatus, SessionState, Status};
use portcullis_model::{ByteSize, Error, Timestamp};

/// Width of the first column.
const LABEL: usize = 13;
/// Endpoints that a low screen shows before anything but the session's state.
const ENDPOINTS_FIRST: usize = 2;

/// The whole screen, at most `height` lines of at most `width` characters.
pub(crate) fn render(status: &Status, width: usize, height: usize) -> Vec<String> {
    let mut lines = vec![
        spread("Portcullis", "(Ctrl-C to quit)", width),
        String::new(),
    ];
    lines.extend(session(status, width));
    lines.push(String::new());
    // On a low screen the addresses count, and whether they are online.
    let needed = status.endpoints.len().min(ENDPOINTS_FIRST) + 1;
    if lines.len() + needed > height {
        lines = vec![row("Session", &state(status))];
    }
    let room = height.saturating_sub(lines.len() + 4).max(1);
    lines.extend(endpoints(&status.endpoints, room));
    lines.push(String::new());
    lines.extend(connections(status));
    lines.truncate(height.max(1));
    lines.iter().map(|line| fit(line, width)).collect()
}

/// What stays on the terminal when the screen is gone.
pub(crate) fn farewell(status: &Status) -> Vec<String> {
    let total = status.connections;
    let moved = format!("{} in, {} out", size(total.bytes_in), size(total.bytes_out));
    vec![format!("{} connection(s), {moved}.", total.opened)]
}

fn session(status: &Status, width: usize) -> Vec<String> {
    let mut lines = vec![row("Session", &state(status))];
    if let Some(error) = &status.error {
        lines.extend(wrapped(&explained(error), width));
    }
    if let Some(session) = &status.session {
        lines.push(row("Account", &session.account));
        lines.push(row(
            "Region",
            &format!("{} ({})", session.region, session.node),
        ));
        lines.push(row(
            "Server",
            &format!("{}, release {}", status.server, session.server_version),
        ));
    } else {
        lines.push(row("Server", &status.server));
    }
    lines.push(row(
        "Latency",
        &status.latency.map_or_else(|| "-".to_owned(), millis),
    ));
    if let Some(addr) = &status.local_api {
        lines.push(row("Local API", addr));
    }
    lines
}

/// A text in the second column, on as many lines as it needs.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let room = width.saturating_sub(LABEL).max(LABEL);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| row("", line)).collect()
}

fn state(status: &Status) -> String {
    match (status.state, status.retry_at) {
        (SessionState::Reconnecting | SessionState::Connecting, Some(at)) => {
            let wait = at.since(Timestamp::from(jiff::Timestamp::now()));
            format!(
                "{} (attempt {}, next in {} s)",
                status.state.as_str(),
                status.attempts,
                wait.as_secs()
            )
        }
        (state, _) => state.as_str().to_owned(),
    }
}

fn endpoints(endpoints: &[EndpointStatus], room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        if lines.len() + 1 >= room && index + 1 < endpoints.len() {
            lines.push(row("", &format!("… and {} more", endpoints.len() - index)));
            break;
        }
        lines.push(row(
            if index == 0 { "Forwarding" } else { "" },
            &forwarding(endpoint),
        ));
        let checks = endpoint.health.as_ref();
        let error = endpoint
            .error
            .as_ref()
            .or(checks.and_then(|health| health.reason.as_ref()))
            .or(endpoint.upstream_error.as_ref());
        if let Some(error) = error {
            lines.push(row("", &format!("  {}", explained(error))));
        }
    }
    lines
}

/// `tcp://host:port -> upstream`, and where it stands unless it is online.
fn forwarding(endpoint: &EndpointStatus) -> String {
    let url = if endpoint.url.is_empty() {
        "tcp://"
    } else {
        &endpoint.url
    };
    let line = format!("{url} -> {}{}", endpoint.upstream, health(endpoint));
    if endpoint.state == EndpointState::Online {
        line
    } else {
        format!("{line} ({})", endpoint.state.as_str())
    }
}

/// What its checks say, unless that is nothing against it.
fn health(endpoint: &EndpointStatus) -> &'static str {
    match &endpoint.health {
        Some(health) if !health.healthy => " (unhealthy)",
        Some(health) if health.is_shaky() => " (degraded)",
        Some(_) | None => "",
    }
}

fn connections(status: &Status) -> Vec<String> {
    let total = &status.connections;
    let cells = [
        ("open", total.open.to_string()),
        ("total", total.opened.to_string()),
        ("failed", total.failed.to_string()),
        ("rt1", format!("{:.2}", total.rate1)),
        ("rt5", format!("{:.2}", total.rate5)),
        ("p50", span(total.p50)),
        ("p90", span(total.p90)),
        ("in", size(total.bytes_in)),
        ("out", size(total.bytes_out)),
    ];
    let width = |(name, value): &(&str, String)| name.len().max(value.len()).max(6) + 2;
    let head: String = cells
        .iter()
        .map(|cell| format!("{:<1$}", cell.0, width(cell)))
        .collect();
    let body: String = cells
        .iter()
        .map(|cell| format!("{:<1$}", cell.1, width(cell)))
        .collect();
    vec![
        row("Connections", head.trim_end()),
        row("", body.trim_end()),
    ]
}

/// A message without what could steer the terminal.
fn explained(error: &Error) -> String {
    let message: String = error
        .message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("{message} ({})", error.code)
}

fn row(label: &str, value: &str) -> String {
    format!("{label:LABEL$}{value}")
}

fn spread(left: &str, right: &str, width: usize) -> String {
    let gap = width.saturating_sub(left.len() + right.len()).max(2);
    format!("{left}{}{right}", " ".repeat(gap))
}

fn fit(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        line.to_owned()
    } else {
        line.chars()
            .take(width.saturating_sub(1))
            .chain(['…'])
            .collect()
    }
}

fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}

fn span(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0}ms", seconds * 1000.0)
    } else {
        format!("{seconds:.1}s")
    }
}

fn size(bytes: u64) -> String {
    const STEPS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match STEPS.iter().find(|(_, unit)| bytes >= *unit) {
        // Tenths of a unit, in whole numbers: bytes may be more than a float counts exactly.
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{} B", ByteSize(bytes).0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_model::Code;

    fn status(endpoints: usize) -> Status {
        let endpoint = |n: usize| EndpointStatus {
            url: format!("tcp://edge.example.com:{}", 20_000 + n),
            upstream: "localhost:5432".to_owned(),
            state: EndpointState::Online,
            ..EndpointStatus::default()
        };
        Status {
            endpoints: (0..endpoints).map(endpoint).collect(),
            server: "edge:7443".to_owned(),
            ..Status::default()
        }
    }

    #[test]
    fn the_screen_fits_any_terminal() {
        for endpoints in [0, 1, 40] {
            for (width, height) in [(80, 24), (20, 5), (1, 1), (200, 60)] {
                let lines = render(&status(endpoints), width, height);
                assert!(
                    lines.len() <= height
                        && lines
                            .iter()
                            .all(|line| line.chars().count() <= width.max(1)),
                    "{width}x{height}"
                );
            }
        }
    }

    #[test]
    fn endpoints_and_errors_are_shown() {
        let mut status = status(1);
        status.endpoints[0].state = EndpointState::Refused;
        status.endpoints[0].error = Some(Error::new(Code::CredentialAcl, "no\u{1b}[2J rule"));
        let text = render(&status, 100, 30).join("\n");
        assert!(
            text.contains("tcp://edge.example.com:20000 -> localhost:5432 (refused)"),
            "{text}"
        );
        assert!(
            text.contains("PTC_CREDENTIAL_ACL") && !text.contains('\u{1b}'),
            "{text}"
        );
    }

    #[test]
    fn a_low_screen_shows_the_address_first() {
        let text = render(&status(1), 60, 4).join("\n");
        assert!(text.contains("tcp://edge.example.com:20000"), "{text}");
    }

    #[test]
    fn a_long_error_keeps_its_code() {
        let mut status = status(1);
        status.error = Some(Error::new(Code::ServerUnreachable, "no way ".repeat(20)));
        let lines = render(&status, 60, 30);
        assert!(lines.iter().all(|line| line.chars().count() <= 60));
        assert!(
            lines.join("\n").contains("PTC_SERVER_UNREACHABLE"),
            "{lines:?}"
        );
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            (size(0), size(1536), size(5 << 30)),
            ("0 B".into(), "1.5 KiB".into(), "5.0 GiB".into())
        );
    }
}
