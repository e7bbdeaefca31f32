//! Whatever a policy says, its compiled form decides as a reader of the document would who goes through it
//! line by line. The reader here shares nothing with the machine but the document's text.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::strategy::Strategy as Any;
use serde_json::{Value, json};

use super::*;
use crate::tls::{CertificateFacts, NameFacts};

/// What `terminate-tls` may demand of a client.
const DEMANDS: [(&str, &str); 4] = [
    ("", ""),
    ("A", "require-and-verify"),
    ("B", "require-and-verify"),
    ("A", "require-any"),
];
/// Most limits of bandwidth of a connection.
const SLOWED_MAX: usize = 16;

/// A condition, and what it means.
#[derive(Debug, Clone)]
enum Holds {
    ClientIs(u32),
    ClientIn(u32, u8),
    PortIs(u16),
    PortBelow(u16),
    VarIs(u8, i64),
    /// Of the client's certificate, which has its port for a name.
    NameIs(u16),
    /// Fails where the port is this one, and holds anywhere else.
    DividesBy(u16),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

#[derive(Debug, Clone)]
enum Does {
    Restrict {
        enforce: bool,
        allow: Vec<(u32, u8)>,
        deny: Vec<(u32, u8)>,
        /// Whether the lists go through a variable's text.
        by_text: bool,
    },
    Set(u8, i64),
    SetPort(u8),
    Deny(u8),
    Close,
    Forward(u8, bool),
    /// With one of the demands.
    Terminate(usize),
    Slow,
}

/// What a reader keeps in mind.
#[derive(Default)]
struct Mind {
    vars: BTreeMap<u8, i64>,
    /// What the first termination demanded.
    terminated: Option<usize>,
    slowed: usize,
}

impl Mind {
    /// Whether another termination goes on.
    fn terminate(&mut self, demand: usize) -> bool {
        let Some(before) = self.terminated else {
            self.terminated = Some(demand);
            return true;
        };
        match demand {
            0 => true,
            3 => before > 0,
            _ => before == demand,
        }
    }
}

type Written = Vec<(Vec<Holds>, Vec<Does>)>;

fn base((bits, length): (u32, u8)) -> u32 {
    bits & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn cidr(net: (u32, u8)) -> String {
    format!("{}/{}", Ipv4Addr::from_bits(base(net)), net.1)
}

fn within(ip: u32, net: (u32, u8)) -> bool {
    base((ip, net.1)) == base(net)
}

impl Holds {
    fn text(&self) -> String {
        match self {
            Self::ClientIs(ip) => format!("conn.client_ip == '{}'", Ipv4Addr::from_bits(*ip)),
            Self::ClientIn(bits, length) => {
                format!("inCidrRange(conn.client_ip, '{}')", cidr((*bits, *length)))
            }
            Self::PortIs(port) => format!("conn.client_port == {port}"),
            Self::PortBelow(port) => format!("conn.client_port < {port}"),
            Self::VarIs(name, value) => format!("vars.v{name} == {value}"),
            Self::NameIs(port) => format!("conn.tls.client.subject.common_name == 'c{port}'"),
            Self::DividesBy(port) => format!("9 / (conn.client_port - {port}) < 100"),
            Self::Not(inner) => format!("!({})", inner.text()),
            Self::And(a, b) => format!("({}) && ({})", a.text(), b.text()),
            Self::Or(a, b) => format!("({}) || ({})", a.text(), b.text()),
        }
    }

    /// `Err` where it fails. A variable that is not set equals no number. As CEL has it, `&&` and `||` pass over an error
    /// when the other side decides.
    fn holds(&self, ip: u32, port: u16, mind: &Mind) -> Result<bool, ()> {
        let side = |inner: &Self| inner.holds(ip, port, mind);
        match self {
            Self::ClientIs(other) => Ok(ip == *other),
            Self::ClientIn(bits, length) => Ok(within(ip, (*bits, *length))),
            Self::PortIs(other) => Ok(port == *other),
            Self::PortBelow(other) => Ok(port < *other),
            Self::VarIs(name, value) => Ok(mind.vars.get(name) == Some(value)),
            // A client that was not asked shows none.
            Self::NameIs(other) => {
                Ok(mind.terminated.is_some_and(|demand| demand > 0) && port == *other)
            }
            Self::DividesBy(other) => (port != *other).then_some(true).ok_or(()),
            Self::Not(inner) => side(inner).map(|held| !held),
            Self::And(a, b) => match (side(a), side(b)) {
                (Ok(false), _) | (_, Ok(false)) => Ok(false),
                (Ok(true), Ok(true)) => Ok(true),
                _ => Err(()),
            },
            Self::Or(a, b) => match (side(a), side(b)) {
                (Ok(true), _) | (_, Ok(true)) => Ok(true),
                (Ok(false), Ok(false)) => Ok(false),
                _ => Err(()),
            },
        }
    }
}

impl Does {
    fn ends(&self) -> bool {
        matches!(self, Self::Deny(_) | Self::Close | Self::Forward(_, false))
    }

    fn written(&self) -> Vec<Value> {
        match self {
            Self::Restrict {
                enforce,
                allow,
                deny,
                by_text,
            } => {
                let list =
                    |nets: &[(u32, u8)]| nets.iter().map(|net| cidr(*net)).collect::<Vec<_>>();
                let config = |allow: Value, deny: Value| json!({ "type": "restrict-ips", "config": { "enforce": enforce, "allow": allow, "deny": deny } });
                if *by_text {
                    let vars = json!([{ "allow": list(allow) }, { "deny": list(deny) }]);
                    vec![
                        json!({ "type": "set-vars", "config": { "vars": vars } }),
                        config(json!(["${vars.allow}"]), json!(["${vars.deny}"])),
                    ]
                } else {
                    vec![config(json!(list(allow)), json!(list(deny)))]
                }
            }
            Self::Set(name, value) => {
                vec![
                    json!({ "type": "set-vars", "config": { "vars": [{ format!("v{name}"): value }] } }),
                ]
            }
            Self::SetPort(name) => {
                vec![
                    json!({ "type": "set-vars", "config": { "vars": [{ format!("v{name}"): "${conn.client_port}" }] } }),
                ]
            }
            Self::Deny(mode) => {
                let mode = ["close", "reset"][usize::from(*mode % 2)];
                vec![json!({ "type": "deny", "config": { "mode": mode } })]
            }
            Self::Close => vec![json!({ "type": "close-connection" })],
            Self::Forward(to, go_on) => {
                let url = format!("tcp://t{to}.internal:5432");
                let on_error = if *go_on { "continue" } else { "halt" };
                vec![
                    json!({ "type": "forward-internal", "config": { "url": url, "on_error": on_error } }),
                ]
            }
            Self::Terminate(demand) => {
                let (authority, strategy) = DEMANDS[*demand];
                let config = match authority {
                    "" => json!({}),
                    name => json!({
                        "mutual_tls_certificate_authorities": [format!("-----BEGIN CERTIFICATE-----\n{0}{0}{0}{0}\n-----END CERTIFICATE-----", name)],
                        "mutual_tls_verification_strategy": strategy,
                    }),
                };
                vec![json!({ "type": "terminate-tls", "config": config })]
            }
            Self::Slow => vec![json!({ "type": "limit-bandwidth", "config": { "rate": "1MB" } })],
        }
    }
}

/// What a reader says becomes of the connection, with every forward failing.
fn read(rules: &Written, ip: u32, port: u16) -> Vec<String> {
    let mut mind = Mind::default();
    let mut told = Vec::new();
    for (at, (conditions, actions)) in rules.iter().enumerate() {
        let mut held = true;
        for (place, condition) in conditions.iter().enumerate() {
            match condition.holds(ip, port, &mind) {
                Ok(true) => {}
                Ok(false) => held = false,
                Err(()) => {
                    told.push(format!("failed on_tcp_connect[{at}].expressions[{place}]"));
                    return told;
                }
            }
            if !held {
                break;
            }
        }
        for (place, action) in actions.iter().enumerate().filter(|_| held) {
            let place: usize = actions[..place].iter().map(|one| one.written().len()).sum();
            let config = format!("failed on_tcp_connect[{at}].actions[{place}].config");
            match action {
                Does::Terminate(demand) => {
                    if !mind.terminate(*demand) {
                        told.push(format!("{config}.mutual_tls_certificate_authorities"));
                        return told;
                    }
                }
                Does::Slow => {
                    mind.slowed += 1;
                    if mind.slowed > SLOWED_MAX {
                        told.push(format!("{config}.rate"));
                        return told;
                    }
                }
                Does::Restrict {
                    enforce,
                    allow,
                    deny,
                    ..
                } => {
                    let allowed = allow.iter().any(|net| within(ip, *net));
                    let denied = deny.iter().any(|net| within(ip, *net));
                    if *enforce && (denied || !allowed) {
                        told.push(format!("restricted by {at}"));
                        return told;
                    }
                }
                Does::Set(name, value) => {
                    mind.vars.insert(*name, *value);
                }
                Does::SetPort(name) => {
                    mind.vars.insert(*name, i64::from(port));
                }
                Does::Deny(mode) => {
                    told.push(format!("denied by {at} {}", mode % 2));
                    return told;
                }
                Does::Close => {
                    told.push(format!("closed by {at}"));
                    return told;
                }
                Does::Forward(to, go_on) => {
                    told.push(format!("forward t{to}.internal"));
                    if !go_on {
                        return told;
                    }
                }
            }
        }
    }
    told.push(format!("fell through, slowed {}", mind.slowed));
    told
}

/// What the machine says, in the same words.
fn machine(rules: &Written, ip: u32, port: u16) -> Vec<String> {
    let rules: Vec<Value> = rules
        .iter()
        .enumerate()
        .map(|(at, (conditions, actions))| {
            let expressions: Vec<String> = conditions.iter().map(Holds::text).collect();
            let actions: Vec<Value> = actions.iter().flat_map(Does::written).collect();
            json!({ "name": at.to_string(), "expressions": expressions, "actions": actions })
        })
        .collect();
    let policy = policy(&json!({ "on_tcp_connect": rules }).to_string());
    let conn = Conn::new(
        SocketAddr::new(Ipv4Addr::from_bits(ip).into(), port),
        "203.0.113.5:20001".parse().expect("an address"),
    );
    let (mut run, world, mut given) = (Run::default(), Fake::default(), Given::default());
    let mut told = Vec::new();
    loop {
        let next = with_facts(conn, &given, |facts| run.go(&policy, facts, &world));
        let decision = match next {
            Next::Done(decision) => decision,
            Next::Need(Need::Tls(termination)) => {
                assert!(given.tls.is_none(), "TLS is terminated once");
                let shows = !termination.clients.authorities.is_empty();
                let client = shows.then(|| CertificateFacts {
                    subject: NameFacts {
                        common_name: format!("c{port}"),
                        ..NameFacts::default()
                    },
                    ..CertificateFacts::default()
                });
                given.tls = Some(Arc::new(TlsFacts {
                    client,
                    termination: Some(termination),
                    ..TlsFacts::default()
                }));
                continue;
            }
            next => panic!("{next:?}"),
        };
        let (line, goes_on) = match decision {
            Decision::Forward { url, on_error, .. } => (
                format!("forward {}", url.host()),
                on_error == OnError::Continue,
            ),
            Decision::Deny { rule, mode } => (
                format!("denied by {rule} {}", u8::from(mode == DenyMode::Reset)),
                false,
            ),
            Decision::Close { rule } => (format!("closed by {rule}"), false),
            Decision::Restricted { rule, .. } => (format!("restricted by {rule}"), false),
            Decision::Failed { path, .. } => (format!("failed {path}"), false),
            Decision::FallThrough => {
                let slowed = run.bandwidths().len();
                (format!("fell through, slowed {slowed}"), false)
            }
            other => panic!("{other:?}"),
        };
        told.push(line);
        if !goes_on {
            return told;
        }
        run.failed(&Error::of(Code::UpstreamRefused));
    }
}

/// Few addresses and ports, so that conditions hold often.
fn ip() -> impl Any<Value = u32> {
    (0_u32..4, 0_u32..4).prop_map(|(high, low)| 0x0a00_0000 + (high << 16) + low)
}

fn net() -> impl Any<Value = (u32, u8)> {
    (
        ip(),
        prop::sample::select(vec![0_u8, 8, 14, 16, 30, 31, 32]),
    )
}

fn holds() -> impl Any<Value = Holds> {
    let leaf = prop_oneof![
        ip().prop_map(Holds::ClientIs),
        net().prop_map(|(bits, length)| Holds::ClientIn(bits, length)),
        (1_u16..6).prop_map(Holds::PortIs),
        (1_u16..6).prop_map(Holds::PortBelow),
        (0_u8..3, 0_i64..4).prop_map(|(name, value)| Holds::VarIs(name, value)),
        (1_u16..6).prop_map(Holds::DividesBy),
        (1_u16..6).prop_map(Holds::NameIs),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| Holds::Not(Box::new(a))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Holds::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Holds::Or(Box::new(a), Box::new(b))),
        ]
    })
}

fn does() -> impl Any<Value = Does> {
    let nets = || prop::collection::vec(net(), 0..4);
    prop_oneof![
        3 => (any::<bool>(), nets(), nets(), any::<bool>()).prop_map(|(enforce, allow, deny, by_text)| Does::Restrict { enforce, allow, deny, by_text }),
        3 => (0_u8..3, 0_i64..4).prop_map(|(name, value)| Does::Set(name, value)),
        1 => (0_u8..3).prop_map(Does::SetPort),
        1 => any::<u8>().prop_map(Does::Deny),
        1 => Just(Does::Close),
        2 => (0_u8..3, any::<bool>()).prop_map(|(to, go_on)| Does::Forward(to, go_on)),
        3 => (0..DEMANDS.len()).prop_map(Does::Terminate),
        1 => Just(Does::Slow),
    ]
}

/// Rules; behind an action that always ends a rule nothing may stand.
fn written() -> impl Any<Value = Written> {
    let actions = prop::collection::vec(does(), 1..4).prop_map(|mut actions| {
        if let Some(end) = actions.iter().position(Does::ends) {
            actions.truncate(end + 1);
        }
        actions
    });
    prop::collection::vec((prop::collection::vec(holds(), 0..3), actions), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_machine_decides_as_a_reader_does(rules in written(), ip in ip(), port in 1_u16..6) {
        prop_assert_eq!(machine(&rules, ip, port), read(&rules, ip, port));
    }
}
