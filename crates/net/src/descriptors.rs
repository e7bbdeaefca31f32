//! How many file descriptors this process may have, for those who divide them up at start.
//!
//! Must never: change the limit; that is the binary's.

/// The soft limit; `None` where the system does not say.
pub fn limit() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// `configured`, or less: an `n`th of the process's descriptors. For ports that strangers reach, so
/// that those who only connect there cannot take what the others need.
pub fn at_most_an(n: usize, configured: usize) -> usize {
    // Without a limit that can be read the configuration stands alone; accept loops back off anyway.
    let share = limit().map_or(usize::MAX, |limit| limit / n);
    configured.min(share).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_more_than_configured_and_never_nothing() {
        let limit = limit().expect("Linux says it");
        assert_eq!(at_most_an(2, 1), 1);
        assert_eq!(at_most_an(2, usize::MAX), limit / 2);
        assert_eq!(at_most_an(usize::MAX, 10), 1);
    }
}
