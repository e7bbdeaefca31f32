//! Which sockets to close and open so that the node listens where it should. Pure.
//!
//! A socket on all addresses also gets what is for a dedicated IP of the same port (routing goes by
//! the local address), and the kernel lets only one of the two exist; so it covers the dedicated ones.
//! While it cannot be bound, they stand on their own: nobody's trouble on a shared host may take a
//! dedicated address down.

use std::collections::BTreeSet;

use portcullis_store::Listen;

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Sockets to close first.
    pub(crate) close: Vec<Listen>,
    /// Sockets to open then.
    pub(crate) open: Vec<Listen>,
}

/// The steps from the sockets that are `held` to what is `wanted`, leaving out those that are `resting`
/// after a failed try.
pub(crate) fn plan(
    wanted: &BTreeSet<Listen>,
    held: &BTreeSet<Listen>,
    resting: &BTreeSet<Listen>,
) -> Plan {
    let tried = |listen: &Listen| wanted.contains(listen) && !resting.contains(listen);
    let needed: BTreeSet<Listen> = wanted
        .iter()
        .filter(|listen| tried(listen) && (listen.ip.is_none() || !tried(&all_of(listen.port))))
        .copied()
        .collect();
    Plan {
        close: held.difference(&needed).copied().collect(),
        open: needed.difference(held).copied().collect(),
    }
}

/// The socket on all addresses of a port.
pub(crate) fn all_of(port: u16) -> Listen {
    Listen { ip: None, port }
}

/// Whether trying this one makes others of the same port step aside.
pub(crate) fn is_contested(listen: &Listen, wanted: &BTreeSet<Listen>) -> bool {
    listen.ip.is_none()
        && wanted
            .iter()
            .any(|other| other.port == listen.port && other.ip.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> BTreeSet<Listen> {
        texts.iter().map(|text| listen(text)).collect()
    }

    fn listen(text: &str) -> Listen {
        let (ip, port) = text.rsplit_once(':').expect("ip:port");
        Listen {
            ip: (ip != "*").then(|| ip.parse().expect("ip")),
            port: port.parse().expect("port"),
        }
    }

    fn steps(wanted: &[&str], held: &[&str], resting: &[&str]) -> Plan {
        plan(&set(wanted), &set(held), &set(resting))
    }

    #[test]
    fn opens_what_is_missing_and_closes_what_is_not_wanted() {
        let plan = steps(&["*:1", "*:2"], &["*:2", "*:3"], &[]);
        assert_eq!(
            plan,
            Plan {
                close: vec![listen("*:3")],
                open: vec![listen("*:1")]
            }
        );
        assert_eq!(steps(&["*:1"], &["*:1"], &[]), Plan::default());
    }

    #[test]
    fn a_resting_socket_is_not_tried() {
        assert_eq!(steps(&["*:1"], &[], &["*:1"]), Plan::default());
    }

    #[test]
    fn dedicated_addresses_of_a_port_stand_side_by_side() {
        let plan = steps(&["10.0.0.1:5432", "10.0.0.2:5432"], &[], &[]);
        assert_eq!(
            plan.open,
            vec![listen("10.0.0.1:5432"), listen("10.0.0.2:5432")]
        );
    }

    #[test]
    fn all_addresses_cover_dedicated_ones() {
        let plan = steps(&["*:5", "10.0.0.1:5"], &["10.0.0.1:5"], &[]);
        assert_eq!(
            plan,
            Plan {
                close: vec![listen("10.0.0.1:5")],
                open: vec![listen("*:5")]
            }
        );
        let back = steps(&["10.0.0.1:5"], &["*:5"], &[]);
        assert_eq!(
            back,
            Plan {
                close: vec![listen("*:5")],
                open: vec![listen("10.0.0.1:5")]
            }
        );
    }

    #[test]
    fn dedicated_ones_stand_alone_while_all_addresses_rest() {
        let plan = steps(&["*:5", "10.0.0.1:5"], &[], &["*:5"]);
        assert_eq!(
            plan,
            Plan {
                close: vec![],
                open: vec![listen("10.0.0.1:5")]
            }
        );
        assert!(is_contested(&listen("*:5"), &set(&["*:5", "10.0.0.1:5"])));
        assert!(!is_contested(&listen("*:5"), &set(&["*:5", "10.0.0.1:6"])));
    }
}
