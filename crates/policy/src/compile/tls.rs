//! `terminate-tls`: versions, the certificate that is shown, what clients have to show.
//!
//! Must never: put a private key, or any part of one, into a message.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_model::Code;

use super::fields::Fields;
use super::{Reading, values};
use crate::cel::Template;
use crate::decide::{LaterTls, Terminate};
use crate::defaults::{AGENT_ALPN, ALPN_MAX, ALPN_NAME_BYTES_MAX, AUTHORITIES_MAX};
use crate::document::{Node, quoted};
use crate::suggest::nearest;
use crate::tls::{Authority, ClientCertificates, Identity, Termination, TlsVersion, Verification};

const KEYS: [&str; 7] = [
    "min_version",
    "max_version",
    "server_certificate",
    "server_private_key",
    "mutual_tls_certificate_authorities",
    "mutual_tls_verification_strategy",
    "alpn",
];
const STRATEGIES: [(&str, Verification); 3] = [
    ("require-and-verify", Verification::RequireAndVerify),
    ("require-any", Verification::RequireAny),
    ("request", Verification::Request),
];

/// What is expected of a PEM text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pem {
    Certificate,
    PrivateKey,
}

pub(super) fn read(path: &str, config: Node, reading: &mut Reading) -> Option<Terminate> {
    // Without a config all of it is the server's choice.
    let config = match config {
        Node::Null => Node::Map(Vec::new()),
        config => config,
    };
    let problems = &mut reading.problems;
    let what = "the config of terminate-tls";
    let mut fields = Fields::open(config, path, what, Code::PolicyConfig, problems)?;
    let [min, max, certificate, key, authorities, strategy, alpn] =
        KEYS.map(|key| fields.take(key).filter(|node| *node != Node::Null));
    fields.close(&KEYS, problems);
    let versions = read_versions(path, min, max, reading);
    let shown = read_identity(path, certificate, key, reading);
    let clients = read_clients(path, authorities, strategy, reading);
    let alpn = read_alpn(&format!("{path}.alpn"), alpn, reading);
    let ((min_version, max_version), (identity, pair)) = (versions?, shown?);
    let (clients, authorities) = clients?;
    let termination = Termination {
        min_version,
        max_version,
        identity,
        clients,
        alpn: alpn?,
    };
    Some(if pair.is_none() && authorities.is_empty() {
        Terminate::Known(Arc::new(termination))
    } else {
        Terminate::Later(Box::new(LaterTls {
            known: termination,
            pair,
            authorities,
        }))
    })
}

fn read_versions(
    path: &str,
    min: Option<Node>,
    max: Option<Node>,
    reading: &mut Reading,
) -> Option<(TlsVersion, TlsVersion)> {
    let min_path = format!("{path}.min_version");
    let min = read_version(&min_path, min, TlsVersion::V12, reading);
    let max = read_version(
        &format!("{path}.max_version"),
        max,
        TlsVersion::V13,
        reading,
    );
    let (min, max) = (min?, max?);
    if min > max {
        let message = "`min_version` is above `max_version`".to_owned();
        reading.problems.add(Code::PolicyConfig, &min_path, message);
        return None;
    }
    Some((min, max))
}

/// Without quotes YAML reads a number.
fn read_version(
    path: &str,
    node: Option<Node>,
    absent: TlsVersion,
    reading: &mut Reading,
) -> Option<TlsVersion> {
    let Some(node) = node else {
        return Some(absent);
    };
    let text = match &node {
        Node::Text(text) => text.clone(),
        Node::Number(number) => number.to_string(),
        _ => String::new(),
    };
    match text.as_str() {
        "1.2" => Some(TlsVersion::V12),
        "1.3" => Some(TlsVersion::V13),
        _ => values::wrong(path, &node, "`1.2` or `1.3`", reading),
    }
}

/// The certificate that is known now, or the texts of one that is known only while the policy runs.
type Shown = (Identity, Option<(Template, Template)>);

fn read_identity(
    path: &str,
    certificate: Option<Node>,
    key: Option<Node>,
    reading: &mut Reading,
) -> Option<Shown> {
    let certificate_path = format!("{path}.server_certificate");
    let key_path = format!("{path}.server_private_key");
    match (certificate, key) {
        (None, None) => Some((Identity::Managed, None)),
        (None, Some(_)) => {
            let message = "`server_private_key` needs `server_certificate` beside it".to_owned();
            reading.problems.add(Code::PolicyConfig, path, message);
            None
        }
        (Some(Node::Text(text)), key) if text.starts_with("cert_") => {
            if key.is_some() {
                let message =
                    "a certificate that is named by its id (`cert_…`) has its key; leave it out";
                let problems = &mut reading.problems;
                problems.add(Code::PolicyConfig, &key_path, message.to_owned());
                return None;
            }
            let Ok(id) = text.parse() else {
                let message = format!("{} is no id of a TLS certificate (`cert_…`)", quoted(&text));
                let problems = &mut reading.problems;
                problems.add(Code::PolicyConfig, &certificate_path, message);
                return None;
            };
            Some((Identity::Stored(id), None))
        }
        (Some(_), None) => {
            let message = "`server_certificate` needs `server_private_key` beside it, unless it is the id of one that is stored (`cert_…`)".to_owned();
            reading.problems.add(Code::PolicyConfig, path, message);
            None
        }
        (Some(certificate), Some(key)) => {
            let certificate = read_pem(&certificate_path, certificate, Pem::Certificate, reading);
            let key = read_pem(&key_path, key, Pem::PrivateKey, reading);
            let (certificate, key) = (certificate?, key?);
            let known = match (certificate.literal(), key.literal()) {
                (Some(certificate), Some(key)) => Identity::Pem {
                    certificate: certificate.to_owned(),
                    private_key: key.to_owned(),
                },
                _ => return Some((Identity::Managed, Some((certificate, key)))),
            };
            Some((known, None))
        }
    }
}

/// Those that are known, and the place and text of those that are known only while the policy runs.
type Clients = (ClientCertificates, Vec<(usize, Template)>);

fn read_clients(
    path: &str,
    authorities: Option<Node>,
    strategy: Option<Node>,
    reading: &mut Reading,
) -> Option<Clients> {
    let strategy_path = format!("{path}.mutual_tls_verification_strategy");
    let has_strategy = strategy.is_some();
    let strategy = strategy.map_or(Some(Verification::default()), |node| {
        read_strategy(&strategy_path, &node, reading)
    });
    let list_path = format!("{path}.mutual_tls_certificate_authorities");
    let items = read_list(&list_path, authorities, reading)?;
    if items.is_empty() && has_strategy {
        let message = "it says what is done with the certificates of clients, and `mutual_tls_certificate_authorities` lists none; list at least one".to_owned();
        reading
            .problems
            .add(Code::PolicyConfig, &strategy_path, message);
        return None;
    }
    let (mut known, mut later, mut faulty) = (Vec::new(), Vec::new(), false);
    for (place, item) in items.into_iter().enumerate() {
        match read_authority(&format!("{list_path}[{place}]"), item, reading) {
            Some(Ok(authority)) => known.push(authority),
            Some(Err(template)) => later.push((place, template)),
            None => faulty = true,
        }
    }
    let strategy = strategy?;
    let authorities = (!faulty).then_some(known)?;
    Some((
        ClientCertificates {
            strategy,
            authorities,
        },
        later,
    ))
}

/// The authorities as they stand in the document.
fn read_list(path: &str, node: Option<Node>, reading: &mut Reading) -> Option<Vec<Node>> {
    let items = match node {
        None => return Some(Vec::new()),
        Some(Node::List(items)) => items,
        Some(Node::Text(_)) => {
            let message = "a list of certificate authorities is expected, and this is a text; put `- ` in front of it".to_owned();
            reading.problems.add(Code::PolicyConfig, path, message);
            return None;
        }
        Some(other) => {
            return values::wrong(path, &other, "a list of certificate authorities", reading);
        }
    };
    if items.is_empty() {
        let message = "the list is empty, so clients are asked for no certificate";
        reading.notice(path, message);
    }
    if items.len() > AUTHORITIES_MAX {
        let message = format!(
            "there are {} certificate authorities; at most {AUTHORITIES_MAX} are possible",
            items.len()
        );
        reading.problems.add(Code::PolicyTooLarge, path, message);
        return None;
    }
    Some(items)
}

fn read_strategy(path: &str, node: &Node, reading: &mut Reading) -> Option<Verification> {
    let expected = "`require-and-verify`, `require-any` or `request`";
    let Node::Text(text) = node else {
        return values::wrong(path, node, expected, reading);
    };
    let found = STRATEGIES.iter().find(|(name, _)| name == text);
    if found.is_none() {
        let message = match nearest(text, &STRATEGIES.map(|(name, _)| name)) {
            Some(meant) => format!(
                "there is no strategy {}; did you mean `{meant}`?",
                quoted(text)
            ),
            None => format!("there is no strategy {}; write {expected}", quoted(text)),
        };
        reading.problems.add(Code::PolicyConfig, path, message);
    }
    found.map(|(_, strategy)| *strategy)
}

fn read_authority(
    path: &str,
    node: Node,
    reading: &mut Reading,
) -> Option<Result<Authority, Template>> {
    if let Node::Text(text) = &node
        && text.starts_with("ca_")
    {
        let id = text.parse().ok();
        if id.is_none() {
            let message = format!(
                "{} is no id of a certificate authority (`ca_…`)",
                quoted(text)
            );
            reading.problems.add(Code::PolicyConfig, path, message);
        }
        return id.map(Authority::Stored).map(Ok);
    }
    let template = read_pem(path, node, Pem::Certificate, reading)?;
    Some(match template.literal() {
        Some(text) => Ok(Authority::Pem(text.to_owned())),
        None => Err(template),
    })
}

/// A PEM text, which is checked as far as it can be without knowing certificates, or one with `${…}`.
fn read_pem(path: &str, node: Node, pem: Pem, reading: &mut Reading) -> Option<Template> {
    let expected = match pem {
        Pem::Certificate => "a certificate as PEM text",
        Pem::PrivateKey => "a private key as PEM text",
    };
    let text = values::text(path, node, expected, reading)?;
    if !text.contains("${")
        && let Err(message) = check_pem(&text, pem)
    {
        reading.problems.add(Code::PolicyConfig, path, message);
        return None;
    }
    values::template(path, &text, reading)
}

/// Says what is wrong with a PEM text, and nothing of what is in it.
fn check_pem(text: &str, pem: Pem) -> Result<(), String> {
    let labels = labels(text)?;
    let is_key = |label: &&str| label.ends_with("PRIVATE KEY");
    let (what, begins) = match pem {
        Pem::Certificate => ("certificate", "-----BEGIN CERTIFICATE-----"),
        Pem::PrivateKey => ("private key", "-----BEGIN PRIVATE KEY-----"),
    };
    let found = match pem {
        Pem::Certificate => labels
            .iter()
            .filter(|label| **label == "CERTIFICATE")
            .count(),
        Pem::PrivateKey => labels.iter().filter(|label| is_key(label)).count(),
    };
    if found == 0 {
        return Err(format!(
            "there is no {what} in the text: no line `{begins}`; in YAML put it under `|`, so that it keeps its lines"
        ));
    }
    if pem == Pem::PrivateKey && found > 1 {
        return Err("there is more than one private key in the text".to_owned());
    }
    if labels.iter().any(|label| label.starts_with("ENCRYPTED")) || text.contains("Proc-Type:") {
        return Err("the private key is encrypted; give it without a passphrase".to_owned());
    }
    Ok(())
}

/// The labels of the blocks of a PEM text.
fn labels(text: &str) -> Result<Vec<&str>, String> {
    let mut labels = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let label = line
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"))
            // A text that has lost its lines.
            .filter(|label| !label.contains("-----"));
        let Some(label) = label else {
            continue;
        };
        let number = labels.len() + 1;
        let mut content = String::new();
        loop {
            match lines.next() {
                None => return Err(format!("block {number} of the PEM text has no end")),
                Some(line) if line.starts_with("-----END ") => break,
                // Headers of an older form.
                Some(line) if line.contains(':') => {}
                Some(line) => content.push_str(line),
            }
        }
        if content.is_empty() || STANDARD.decode(content.as_bytes()).is_err() {
            return Err(format!("block {number} of the PEM text is not base64"));
        }
        labels.push(label);
    }
    Ok(labels)
}

fn read_alpn(path: &str, node: Option<Node>, reading: &mut Reading) -> Option<Vec<String>> {
    let items = match node {
        None => return Some(Vec::new()),
        Some(Node::List(items)) => items,
        Some(other) => return values::wrong(path, &other, "a list of protocols", reading),
    };
    if items.len() > ALPN_MAX {
        let message = format!(
            "there are {} protocols; at most {ALPN_MAX} are possible",
            items.len()
        );
        reading.problems.add(Code::PolicyTooLarge, path, message);
        return None;
    }
    let mut names: Vec<String> = Vec::with_capacity(items.len());
    let mut faulty = false;
    for (place, item) in items.into_iter().enumerate() {
        let path = format!("{path}[{place}]");
        let Some(name) = values::text(&path, item, "the name of a protocol, such as `h2`", reading)
        else {
            faulty = true;
            continue;
        };
        let is_name = (1..=ALPN_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name || name.contains("${") {
            let message = format!(
                "{} is no name of a protocol; use 1 to {ALPN_NAME_BYTES_MAX} printable characters without spaces",
                quoted(&name)
            );
            reading.problems.add(Code::PolicyConfig, &path, message);
            faulty = true;
        } else if name == AGENT_ALPN {
            let message = format!("{AGENT_ALPN} is the agent port's own; name another protocol");
            reading.problems.add(Code::PolicyConfig, &path, message);
            faulty = true;
        } else if names.contains(&name) {
            let message = format!("the protocol {} stands twice", quoted(&name));
            reading.problems.add(Code::PolicyConfig, &path, message);
            faulty = true;
        } else {
            names.push(name);
        }
    }
    (!faulty).then_some(names)
}

/// Says what is wrong with a PEM text that a `${…}` came to, and nothing of what is in it.
pub(crate) fn check_certificate(text: &str) -> Result<(), String> {
    check_pem(text, Pem::Certificate)
}

/// The same of a private key.
pub(crate) fn check_private_key(text: &str) -> Result<(), String> {
    check_pem(text, Pem::PrivateKey)
}
