//! `terminate-tls`: the handshake with a client, and everything that it needs ready before: settings of the
//! policy and a certificate, made into a terminator once and kept.
//!
//! The client has [`TLS_HELLO_TIMEOUT`] for its ClientHello and [`TLS_HANDSHAKE_TIMEOUT`] for its handshake; what it takes is not counted
//! against its upstream, whose deadline moves by as much. Behind the handshake nothing that was read before counts:
//! the next byte is the first in the clear.
//!
//! Must never: parse a certificate per connection, or go on in the clear where a handshake failed.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_model::{AccountId, Code, Error, Timestamp};
use portcullis_net::socket::{end_on_drop, reset_on_drop};
use portcullis_net::tls::certificate::{self, Certificate, Extension, Name};
use portcullis_net::tls::{
    ClientAuth, ClientVerification, Handshake, ServerIdentity, Setup, Terminator,
};
use portcullis_policy::sniff::{self, Front, Protocol};
use portcullis_policy::tls::{
    Authority, CertificateFacts, ExtensionFacts, Identity, NameFacts, Termination, TlsFacts,
    TlsVersion, Verification,
};
use portcullis_store::{CertificatePem, EndpointEntry, Snapshot};
use portcullis_telemetry::{CloseReason, Ended};
use rustls::server::ResolvesServerCert;
use tokio::time::Instant;

use crate::client::ClientIo;
use crate::connection::killed;
use crate::decide::Grounds;
use crate::defaults::{TERMINATORS_MAX, TLS_HANDSHAKE_TIMEOUT, TLS_HELLO_TIMEOUT};
use crate::farewell::{Parting, Refused};
use crate::reads::{self, Waiting};
use crate::world::Known;

/// Whose policy wants what.
pub(crate) struct Wanted<'a> {
    /// Whose certificates count.
    pub(crate) account: &'a AccountId,
    /// What the client reached.
    pub(crate) entry: &'a EndpointEntry,
    pub(crate) termination: &'a Arc<Termination>,
}

/// Terminates a client's TLS; its facts are `given` then. A request to cancel whose key is known comes in the clear,
/// whatever other connections do, and is left as it is.
///
/// # Errors
/// `tls_handshake`, `tls_no_certificate`, what is wrong with the policy's settings, or what ended the client.
pub(crate) async fn terminate(
    grounds: Grounds<'_>,
    wanted: Wanted<'_>,
    waiting: &mut Waiting<'_>,
    known: &mut Known,
) -> Result<(), Refused> {
    if known.given.tls.is_some() {
        return Err(CloseReason::Internal.into());
    }
    let began = Instant::now();
    let deadline = began + TLS_HANDSHAKE_TIMEOUT;
    let says = deadline.min(began + TLS_HELLO_TIMEOUT);
    let first = reads::hello(waiting.client, waiting.early, waiting.kill, says).await?;
    if first.cancel.is_some() {
        known.given.first.get_or_insert_with(|| first.clone());
        if grounds.cancelled(wanted.entry, known, None).is_some() {
            return Ok(());
        }
    }
    let terminator = ready(grounds, &wanted, first.sni.as_deref().unwrap_or_default())?;
    let (handshake, ja4) = shake_hands(&terminator, waiting, deadline).await?;
    let facts = facts(handshake, ja4, wanted.termination)?;
    grounds.record.add_policy(noted(&facts));
    let took = began.elapsed();
    waiting.extend(took);
    known.handshake += took;
    known.given.tls = Some(Arc::new(facts));
    let is_postgres = first.front == Front::Postgres || first.protocol == Protocol::Postgres;
    known.hello = Some(Box::new(first));
    // Its client speaks first, and may want to cancel something.
    if is_postgres {
        let within = waiting.within;
        let behind = reads::hello(waiting.client, waiting.early, waiting.kill, within).await?;
        known.behind = Some(Box::new(behind));
    }
    Ok(())
}

/// The handshake itself, with the fingerprint of the ClientHello.
///
/// # Errors
/// `tls_handshake` or `tls_no_certificate`, or what ended the client.
pub(crate) async fn shake_hands(
    terminator: &Terminator,
    waiting: &mut Waiting<'_>,
    deadline: Instant,
) -> Result<(Handshake, String), Refused> {
    let conn = waiting.client.take_plain().ok_or(CloseReason::Internal)?;
    // Whoever ends the connection meanwhile drops it with the handshake.
    reset_on_drop(conn.socket());
    let ahead = waiting.early.take();
    let ja4 = sniff::ja4(&ahead).unwrap_or_default();
    let shaking = portcullis_net::tls::terminate(conn, ahead, terminator, deadline);
    let outcome = tokio::select! {
        biased;
        () = waiting.kill.killed() => return Err(killed(waiting.kill, false).into()),
        outcome = shaking => outcome,
    };
    match outcome {
        Ok((stream, handshake)) => {
            end_on_drop(stream.get_ref().socket());
            waiting.client.set_tls(stream);
            Ok((handshake, ja4))
        }
        Err(failed) => {
            if let Some(conn) = failed.io {
                end_on_drop(conn.socket());
                *waiting.client = ClientIo::Plain(conn);
            }
            let reason = match failed.error.code {
                Code::TlsNoCertificate => CloseReason::TlsNoCertificate,
                _ => CloseReason::TlsHandshake,
            };
            Err(Refused {
                ended: Ended::with(reason, failed.error),
                parting: Parting::Finish,
            })
        }
    }
}

/// For the record: what was agreed on, and who the client is.
fn noted(facts: &TlsFacts) -> String {
    let mut line = format!("tls {} {}", facts.version, facts.cipher_suite);
    let mut add = |what: &str, value: &str| {
        if !value.is_empty() {
            // What comes from the client moves no cursor, and is not endless.
            let clean = value.chars().filter(|c| !c.is_control());
            line.extend([" ", what, "="]);
            line.extend(clean.take(NOTED_CHARS_MAX));
        }
    };
    add("sni", &facts.sni);
    add("alpn", &facts.alpn);
    if let Some(client) = &facts.client {
        add("client", &client.subject.text);
    }
    line
}

/// The most that the record says of one thing that a client said.
const NOTED_CHARS_MAX: usize = 128;

fn facts(
    handshake: Handshake,
    ja4: String,
    termination: &Arc<Termination>,
) -> Result<TlsFacts, Refused> {
    let describe = |der: &Vec<u8>| certificate::describe(der);
    let no_good = |error| Refused::from(Ended::with(CloseReason::TlsHandshake, error));
    let client = handshake.peer.as_ref().map(|der| {
        let mut facts = certificate_facts(describe(der)?);
        facts.pem = certificate::pem(der);
        Ok(facts)
    });
    // Ours was used; what cannot be told of it is left out.
    let server = handshake.server.as_ref().and_then(|der| describe(der).ok());
    Ok(TlsFacts {
        sni: handshake.sni,
        version: handshake.version,
        cipher_suite: handshake.cipher_suite,
        alpn: handshake.alpn,
        ja4,
        client: client.transpose().map_err(no_good)?,
        server: server.map(certificate_facts),
        termination: Some(Arc::clone(termination)),
    })
}

fn certificate_facts(certificate: Certificate) -> CertificateFacts {
    let extension = |it: Extension| ExtensionFacts {
        id: it.id,
        critical: it.critical,
        value: it.value,
    };
    CertificateFacts {
        subject: name_facts(certificate.subject),
        issuer: name_facts(certificate.issuer),
        dns_names: certificate.names.dns,
        email_addresses: certificate.names.emails,
        ip_addresses: certificate.names.ips,
        uris: certificate.names.uris,
        serial_number: certificate.serial_number,
        signature_algorithm: certificate.signature_algorithm,
        not_before: certificate.not_before.to_string(),
        not_after: certificate.not_after.to_string(),
        extensions: certificate.extensions.into_iter().map(extension).collect(),
        pem: String::new(),
    }
}

fn name_facts(name: Name) -> NameFacts {
    NameFacts {
        text: name.text,
        common_name: name.common_name,
        country: name.country,
        locality: name.locality,
        organization: name.organization,
        organizational_unit: name.organizational_unit,
        postal_code: name.postal_code,
        province: name.province,
        street_address: name.street_address,
    }
}

/// Terminators that were made, and of what.
#[derive(Default)]
pub(crate) struct Terminators {
    hashers: [RandomState; 2],
    table: Mutex<HashMap<u128, Made>>,
}

struct Made {
    of: Material,
    terminator: Terminator,
}

/// What a terminator is made of beside a policy's own words. Another certificate under the same id is other material.
#[derive(Clone)]
struct Material {
    certificate: Shown,
    /// In the order of the policy.
    authorities: Vec<Arc<str>>,
}

/// The certificate that is shown.
#[derive(Clone)]
enum Shown {
    /// The document's.
    Own,
    /// The account's.
    Stored(Arc<CertificatePem>),
    /// The server's.
    Fallback(Arc<dyn ResolvesServerCert>),
}

impl Material {
    fn is(&self, other: &Self) -> bool {
        let same = match (&self.certificate, &other.certificate) {
            (Shown::Own, Shown::Own) => true,
            (Shown::Stored(a), Shown::Stored(b)) => {
                Arc::ptr_eq(a, b)
                    || (a.id == b.id
                        && a.certificate == b.certificate
                        && a.private_key == b.private_key)
            }
            (Shown::Fallback(a), Shown::Fallback(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same && self.authorities == other.authorities
    }

    /// What tells it from others of the same policy, certificates that replace each other aside.
    fn name(&self) -> &str {
        match &self.certificate {
            Shown::Own => "own",
            Shown::Stored(stored) => stored.id.as_str(),
            Shown::Fallback(_) => "fallback",
        }
    }
}

/// The terminator for a client that asks for this name.
fn ready(grounds: Grounds<'_>, wanted: &Wanted<'_>, name: &str) -> Result<Terminator, Ended> {
    let Grounds { node, snapshot, .. } = grounds;
    let material = Material {
        certificate: shown(grounds, wanted, name)?,
        authorities: authorities(snapshot, wanted)?,
    };
    node.terminators
        .get(wanted.account, wanted.termination, material)
}

impl Terminators {
    fn get(
        &self,
        account: &AccountId,
        termination: &Termination,
        of: Material,
    ) -> Result<Terminator, Ended> {
        let parts = (account.as_str(), termination, of.name());
        let [high, low] = &self.hashers;
        let key = u128::from(high.hash_one(parts)) << 64 | u128::from(low.hash_one(parts));
        let table = || self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = table().get(&key)
            && made.of.is(&of)
        {
            return Ok(made.terminator.clone());
        }
        // Outside of the lock: it takes a millisecond, and others have theirs.
        let terminator = Terminator::new(&setup(termination, &of))
            .map_err(|error| Ended::with(CloseReason::TlsNoCertificate, error))?;
        let mut table = table();
        if table.len() >= TERMINATORS_MAX && !table.contains_key(&key) {
            table.clear();
        }
        let kept = terminator.clone();
        table.insert(key, Made { of, terminator });
        Ok(kept)
    }
}

fn shown(grounds: Grounds<'_>, wanted: &Wanted<'_>, name: &str) -> Result<Shown, Ended> {
    let Grounds { node, snapshot, .. } = grounds;
    match &wanted.termination.identity {
        Identity::Pem { .. } => Ok(Shown::Own),
        Identity::Stored(id) => snapshot
            .certificate(wanted.account, id)
            .map(Shown::Stored)
            .ok_or_else(|| no_certificate(format!("the account has no certificate `{id}`"))),
        Identity::Managed => snapshot
            .certificate_for(wanted.account, name, now())
            .map(Shown::Stored)
            .or_else(|| node.config.certificates.clone().map(Shown::Fallback))
            .ok_or_else(|| no_certificate(format!("there is no certificate for `{name}`"))),
    }
}

fn now() -> Timestamp {
    Timestamp::from_unix_millis(jiff::Timestamp::now().as_millisecond())
}

fn no_certificate(why: String) -> Ended {
    let error = Error::new(Code::TlsNoCertificate, why);
    Ended::with(CloseReason::TlsNoCertificate, error)
}

fn authorities(snapshot: &Snapshot, wanted: &Wanted<'_>) -> Result<Vec<Arc<str>>, Ended> {
    let each = wanted.termination.clients.authorities.iter();
    each.map(|authority| match authority {
        Authority::Pem(pem) => Ok(Arc::from(pem.as_str())),
        Authority::Stored(id) => snapshot.authority_pem(wanted.account, id).ok_or_else(|| {
            let why = format!("the account has no certificate authority `{id}`");
            let error = Error::new(Code::CertificateAuthorityNotFound, why);
            Ended::with(CloseReason::PolicyError, error)
        }),
    })
    .collect()
}

fn setup(termination: &Termination, of: &Material) -> Setup {
    let identity = match (&of.certificate, &termination.identity) {
        (Shown::Stored(stored), _) => ServerIdentity::Pem {
            certificate: stored.certificate.as_bytes().to_vec(),
            private_key: stored.private_key.as_bytes().to_vec(),
        },
        (Shown::Fallback(resolver), _) => ServerIdentity::Resolver(Arc::clone(resolver)),
        (
            Shown::Own,
            Identity::Pem {
                certificate,
                private_key,
            },
        ) => ServerIdentity::Pem {
            certificate: certificate.as_bytes().to_vec(),
            private_key: private_key.as_bytes().to_vec(),
        },
        // `Own` is made of a document that has one; nothing is shown, and the handshake fails.
        (Shown::Own, _) => ServerIdentity::Pem {
            certificate: Vec::new(),
            private_key: Vec::new(),
        },
    };
    let verification = match termination.clients.strategy {
        Verification::RequireAndVerify => ClientVerification::RequireAndVerify,
        Verification::RequireAny => ClientVerification::RequireAny,
        Verification::Request => ClientVerification::Request,
    };
    let asks = !termination.clients.authorities.is_empty();
    let clients = asks.then(|| ClientAuth {
        verification,
        authorities: (of.authorities.iter().map(|pem| pem.as_bytes().to_vec())).collect(),
    });
    Setup {
        only_13: termination.min_version == TlsVersion::V13,
        only_12: termination.max_version == TlsVersion::V12,
        identity,
        clients,
        alpn: (termination.alpn.iter().map(|name| name.as_bytes().to_vec())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts_of(sni: &str) -> TlsFacts {
        TlsFacts {
            sni: sni.to_owned(),
            version: "1.3".to_owned(),
            cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(),
            ..TlsFacts::default()
        }
    }

    #[derive(Debug)]
    struct Nothing;

    impl ResolvesServerCert for Nothing {
        fn resolve(
            &self,
            _hello: rustls::server::ClientHello<'_>,
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            None
        }
    }

    #[test]
    fn a_terminator_is_kept_until_what_it_is_made_of_is_another() {
        let terminators = Terminators::default();
        let termination = Termination::default();
        let (one, two) = (
            AccountId::new(1_700_000_000, [1; 16]),
            AccountId::new(1_700_000_000, [2; 16]),
        );
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(Nothing);
        let of = |resolver: &Arc<dyn ResolvesServerCert>| Material {
            certificate: Shown::Fallback(Arc::clone(resolver)),
            authorities: Vec::new(),
        };
        let kept = |terminators: &Terminators| {
            let table = terminators.table.lock().expect("not poisoned");
            let all: Vec<_> = table.values().map(|made| made.of.clone()).collect();
            all
        };
        for account in [&one, &one, &two] {
            let got = terminators.get(account, &termination, of(&resolver));
            assert!(got.is_ok());
        }
        assert_eq!(kept(&terminators).len(), 2, "one for each account");
        let other: Arc<dyn ResolvesServerCert> = Arc::new(Nothing);
        for account in [&one, &two] {
            assert!(terminators.get(account, &termination, of(&other)).is_ok());
        }
        let kept = kept(&terminators);
        assert_eq!(kept.len(), 2, "in the place of those before");
        assert!(kept.iter().all(|made| made.is(&of(&other))));
    }

    #[test]
    fn the_record_says_who_the_client_is_and_nothing_that_moves_a_cursor() {
        let mut facts = facts_of("a.example\n\x1b[2J");
        let subject = NameFacts {
            text: "CN=alice".repeat(100),
            ..NameFacts::default()
        };
        facts.client = Some(CertificateFacts {
            subject,
            ..CertificateFacts::default()
        });
        let line = noted(&facts);
        assert!(
            line.starts_with("tls 1.3 TLS_AES_128_GCM_SHA256 sni=a.example[2J client=CN=alice"),
            "{line}"
        );
        assert!(!line.contains(char::is_control) && line.len() < 400);
    }
}
