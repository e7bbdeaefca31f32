//! Sections of the report, by which the table of what is to be reached finds them.

/// 64 short connections at once.
pub const CONNECTIONS_64: &str = "connections, 64 at once";
/// 256 short connections at once.
pub const CONNECTIONS_256: &str = "connections, 256 at once";
/// Round trips on 64 connections.
pub const ROUND_TRIPS_64: &str = "round trips, 64 connections";
/// Memory of 8,000 idle connections that moved 64 KiB each way.
pub const MEMORY_BUSY: &str = "memory, 8000 idle after 64 KiB each way";
/// Set-up time, from the two above.
pub const SETUP: &str = "time added to connection set-up";
/// One stream over a long link.
pub const LONG_LINK: &str = "one stream over 60 ms";
/// Bursts over a long link.
pub const BURST: &str = "50 ms round trip, bursts of 32";
/// Small exchanges beside bulk.
pub const BESIDE: &str = "small exchanges beside bulk";
/// Many listeners.
pub const LISTENERS: &str = "listeners of one node";
/// iperf3.
pub const IPERF: &str = "iperf3, as a cross-check";

/// Bulk with so many streams, up and down.
pub fn bulk_sections(streams: usize) -> [String; 2] {
    let plural = if streams == 1 { "stream" } else { "streams" };
    ["up", "down"].map(|way| format!("bulk, {streams} {plural} {way}"))
}

/// So many short connections at once.
pub fn connections(at_once: usize) -> String {
    format!("connections, {at_once} at once")
}

/// Round trips on so many connections.
pub fn round_trips(at_once: usize) -> String {
    format!("round trips, {at_once} connections")
}

/// So many idle connections, after each was busy as `after` says.
pub fn memory(count: usize, after: &str) -> String {
    format!("memory, {count} idle after {after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree() {
        assert_eq!(connections(64), CONNECTIONS_64);
        assert_eq!(connections(256), CONNECTIONS_256);
        assert_eq!(round_trips(64), ROUND_TRIPS_64);
        assert_eq!(memory(8_000, super::super::memory::BUSY), MEMORY_BUSY);
    }
}
