//! The public hostname of a server that was not told one: the machine's name if others can resolve
//! it, else its primary IP, else localhost.
//!
//! Must never: send a packet; the primary IP is what the routes say.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};

use crate::config::hosts::check_hostname;

/// An address that no one has (RFC 5737, RFC 3849): asking for the route to it sends nothing.
const FAR_AWAY: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];

/// The hostname, found as described.
pub(crate) fn find() -> String {
    choose(machine_name(), resolves_beyond_this_machine, primary_ip)
}

fn choose(
    name: Option<String>,
    resolves: impl Fn(&str) -> bool,
    ip: impl Fn() -> Option<IpAddr>,
) -> String {
    match name.filter(|name| resolves(name)) {
        Some(name) => name,
        None => ip().map_or_else(|| "localhost".to_owned(), |ip| ip.to_string()),
    }
}

/// The machine's name, if it is one.
pub(crate) fn machine_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    check_hostname(&name)
        .ok()
        .filter(|name| name != "localhost")
}

/// Whether a name leads somewhere that is not loopback. Debian puts the machine's own name at
/// 127.0.1.1 in /etc/hosts, which is of no use to anyone else.
fn resolves_beyond_this_machine(name: &str) -> bool {
    let mut found = (name, 0).to_socket_addrs().into_iter().flatten();
    found.any(|addr| !addr.ip().is_loopback())
}

/// The address that the default route leaves from.
fn primary_ip() -> Option<IpAddr> {
    FAR_AWAY.iter().find_map(|far| {
        let far: SocketAddr = far.parse().ok()?;
        let any: SocketAddr = if far.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
            .parse()
            .ok()?;
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(far).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_preferred_if_it_leads_here() {
        let ip = || Some("192.0.2.7".parse().unwrap());
        assert_eq!(choose(Some("edge".into()), |_| true, ip), "edge");
        assert_eq!(choose(Some("edge".into()), |_| false, ip), "192.0.2.7");
        assert_eq!(choose(None, |_| true, ip), "192.0.2.7");
        assert_eq!(choose(None, |_| true, || None), "localhost");
    }
}
