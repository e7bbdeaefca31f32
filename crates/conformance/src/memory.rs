//! What the proxy and the kernel hold: resident memory of processes, memory of TCP sockets.

/// Resident memory of the processes together, in bytes; those that are gone count nothing.
pub(crate) fn resident(pids: &[u32]) -> u64 {
    pids.iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|status| resident_in(&status))
        .sum()
}

/// Memory of all TCP sockets of this network namespace, in bytes, where the kernel tells it.
pub(crate) fn sockets() -> Option<u64> {
    sockets_in(&std::fs::read_to_string("/proc/net/sockstat").ok()?)
}

/// What the kernel's buffers of one hop hold at most, in bytes: the sender's and the receiver's, see tcp(7).
pub(crate) fn hop_max() -> u64 {
    let largest = |file: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{file}")).ok()?;
        text.split_whitespace().nth(2)?.parse::<u64>().ok()
    };
    // Linux's own defaults where the kernel does not tell.
    largest("tcp_rmem").unwrap_or(6 << 20) + largest("tcp_wmem").unwrap_or(4 << 20)
}

/// `VmRSS` of `/proc/PID/status`, see proc(5).
fn resident_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// `mem` of the TCP line of `/proc/net/sockstat`, which counts pages of 4 KiB.
fn sockets_in(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    let pages: u64 = words.nth(1)?.parse().ok()?;
    Some(pages << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(
            resident_in("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t1\n"),
            Some(1234 << 10)
        );
        assert_eq!(resident_in("Name:\tx\n"), None);
        let sockstat =
            "sockets: used 9\nTCP: inuse 4 orphan 0 tw 1 alloc 6 mem 3\nUDP: inuse 0 mem 7\n";
        assert_eq!(sockets_in(sockstat), Some(3 << 12));
        assert_eq!(sockets_in(""), None);
    }

    #[test]
    fn a_hop_holds_something() {
        assert!(hop_max() > 1 << 16);
    }

    #[test]
    fn this_process_holds_something_and_a_missing_one_nothing() {
        assert!(resident(&[std::process::id()]) > 1 << 20);
        assert_eq!(resident(&[u32::MAX]), 0);
    }
}
