//! Who listens on a port: Linux's `/proc`, as far as we may read it. For error messages only.
//!
//! Must never: fail loudly; without an answer the message just lacks the name.

use std::fs;
use std::path::Path;

/// `TCP_LISTEN` in `/proc/net/tcp`.
const STATE_LISTEN: &str = "0A";

/// The name and process id of the program that listens on a port, such as `nginx (pid 4711)`.
pub(super) fn of_port(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, port))?;
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        holds(&process.path(), &wanted).then(|| describe(pid, &process.path()))
    })
}

fn listening_inode(table: &str, port: u16) -> Option<String> {
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.ends_with(&wanted) && *state == STATE_LISTEN).then(|| (*inode).to_owned())
    })
}

fn holds(process: &Path, wanted: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false; // another user's process
    };
    descriptors
        .flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted))
}

fn describe(pid: u32, process: &Path) -> String {
    match fs::read_to_string(process.join("comm")) {
        Ok(name) => format!("{} (pid {pid})", name.trim()),
        Err(_) => format!("pid {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_listening_line() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 111 1 0\n\
            1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0\n";
        assert_eq!(listening_inode(table, 8080).as_deref(), Some("222"));
        assert_eq!(listening_inode(table, 80), None);
    }
}
