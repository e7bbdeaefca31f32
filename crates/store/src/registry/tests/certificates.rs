//! TLS material: found by the names of hosts, sealed, and gone with its account.

use std::time::Duration;

use portcullis_model::id::{CertificateAuthorityId, TlsCertificateId};
use portcullis_model::{CertificateAuthority, CertificateSummary, Timestamp, TlsCertificate};

use super::vaults::with_key;
use super::*;
use crate::kv::{Op, Txn};
use crate::requests::{
    EndpointUpdate, NewCertificateAuthority, NewCloudEndpoint, NewTlsCertificate, TextsUpdate,
};
use crate::{defaults, keys};

/// What no text may hold.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nY29ycmVjdCBob3JzZQ==\n-----END PRIVATE KEY-----\n";
const DAY: i64 = 86_400_000;

/// A summary of a certificate for names, valid between two days from the beginning of the test.
fn says(names: &[&str], from: i64, to: i64) -> CertificateSummary {
    let at = |day: i64| Timestamp::from_unix_millis(1_700_000_000_000 + day * DAY);
    let (ips, dns): (Vec<&str>, Vec<&str>) = names
        .iter()
        .partition(|name| name.parse::<std::net::IpAddr>().is_ok());
    CertificateSummary {
        common_name: "test".into(),
        organization: String::new(),
        organizational_unit: String::new(),
        locality: String::new(),
        province: String::new(),
        country: String::new(),
        issuer_common_name: "issuer".into(),
        serial_number: "01".into(),
        dns_names: dns.into_iter().map(str::to_owned).collect(),
        ips: ips.into_iter().filter_map(|ip| ip.parse().ok()).collect(),
        not_before: at(from),
        not_after: at(to),
        key_usages: Vec::new(),
        extended_key_usages: Vec::new(),
    }
}

fn new(names: &[&str], from: i64, to: i64) -> NewTlsCertificate {
    NewTlsCertificate {
        pem: format!("the chain for {}", names.join(" ")),
        private_key: Secret::new(KEY.into()),
        private_key_type: "ecdsa".into(),
        says: says(names, from, to),
        description: String::new(),
        metadata: String::new(),
    }
}

fn authority(pem: &str) -> NewCertificateAuthority {
    NewCertificateAuthority {
        pem: pem.into(),
        says: says(&[], 0, 10),
        description: String::new(),
        metadata: String::new(),
    }
}

impl Bed {
    async fn certificate(&self, names: &[&str], from: i64, to: i64) -> TlsCertificate {
        self.clock.advance(Duration::from_millis(1));
        let new = new(names, from, to);
        let made = self.registry.create_tls_certificate(&self.account, new);
        made.await.expect("a certificate").value
    }

    async fn authority(&self, pem: &str) -> CertificateAuthority {
        let new = authority(pem);
        let made = self
            .registry
            .create_certificate_authority(&self.account, new);
        made.await.expect("an authority").value
    }

    fn found(&self, name: &str, day: i64) -> Option<TlsCertificateId> {
        let now = Timestamp::from_unix_millis(1_700_000_000_000 + day * DAY);
        let snapshot = self.registry.snapshot();
        let found = snapshot.certificate_for(&self.account, name, now)?;
        assert_eq!(&*found.private_key, KEY);
        Some(found.id.clone())
    }
}

#[tokio::test]
async fn a_host_finds_the_newest_certificate_that_is_valid() {
    let bed = Bed::with(with_key(1)).await;
    let wild = bed.certificate(&["*.Example.com"], 0, 100).await.id;
    let exact = bed
        .certificate(&["a.example.com", "192.0.2.7"], 0, 10)
        .await
        .id;
    let renewed = bed.certificate(&["a.example.com"], 5, 20).await.id;
    for (name, day, expected) in [
        ("b.example.com", 1, Some(&wild)),
        ("B.EXAMPLE.COM", 1, Some(&wild)),
        ("b.example.com.", 1, Some(&wild)),
        ("b.example.com", 101, None),
        ("b.example.com", -1, None),
        ("example.com", 1, None),
        ("a.b.example.com", 1, None),
        ("*.example.com", 1, Some(&wild)),
        ("a.example.com", 1, Some(&exact)),
        ("a.example.com", 6, Some(&renewed)),
        ("a.example.com", 15, Some(&renewed)),
        ("a.example.com", 30, Some(&wild)),
        ("192.0.2.7", 1, Some(&exact)),
        ("com", 1, None),
        ("", 1, None),
    ] {
        assert_eq!(
            bed.found(name, day).as_ref(),
            expected,
            "{name} on day {day}"
        );
    }
    let (other, _) = bed.stranger().await;
    let snapshot = bed.registry.snapshot();
    let now = Timestamp::from_unix_millis(1_700_000_000_000 + DAY);
    assert!(
        snapshot
            .certificate_for(&other, "a.example.com", now)
            .is_none()
    );
    assert!(snapshot.certificate(&other, &exact).is_none());

    let delete = |id: TlsCertificateId| {
        let registry = bed.registry.clone();
        let account = bed.account.clone();
        async move { registry.delete_tls_certificate(&account, &id).await }
    };
    delete(renewed.clone()).await.expect("nothing names it");
    assert_eq!(bed.found("a.example.com", 6), Some(exact.clone()));
    delete(exact).await.expect("nothing names it");
    assert_eq!(bed.found("a.example.com", 6), Some(wild.clone()));
    delete(wild).await.expect("nothing names it");
    assert_eq!(bed.found("a.example.com", 6), None);
    assert_eq!(code(delete(renewed).await), Code::CertificateNotFound);
}

#[tokio::test]
async fn nothing_of_a_key_is_stored_or_printed_and_texts_change_nothing_else() {
    let bed = Bed::with(with_key(1)).await;
    let new = new(&["a.example.com", "a.example.com"], 0, 10);
    let printed = format!("{new:?}");
    let made = bed.registry.create_tls_certificate(&bed.account, new).await;
    let made = made.expect("made").value;
    let before = bed.registry.snapshot();
    let printed = format!("{printed} {made:?} {before:?}");
    let inner = KEY.lines().nth(1).expect("base64");
    assert!(printed.contains(made.id.as_str()) && !printed.contains(inner));
    for entry in bed.store.list("").await.expect("list").entries {
        let text = String::from_utf8_lossy(&entry.value);
        assert!(!text.contains(inner), "{}: {text}", entry.key);
    }
    let update = TextsUpdate {
        description: Some("web".into()),
        ..TextsUpdate::default()
    };
    let changed = bed
        .registry
        .update_tls_certificate(&bed.account, &made.id, update.clone())
        .await
        .expect("changed")
        .value;
    assert_eq!(changed.description, "web");
    assert_eq!(
        (&changed.private_key, &changed.pem),
        (&made.private_key, &made.pem)
    );
    let after = bed.registry.snapshot();
    let pem = |snapshot: &crate::Snapshot| snapshot.certificate(&bed.account, &made.id);
    let (one, other) = (pem(&before).expect("open"), pem(&after).expect("open"));
    assert!(Arc::ptr_eq(&one, &other), "what was made of it is kept");
    let kept = bed.authority("an authority").await;
    let before = bed
        .registry
        .snapshot()
        .authority_pem(&bed.account, &kept.id);
    bed.registry
        .update_certificate_authority(&bed.account, &kept.id, update)
        .await
        .expect("changed");
    let after = bed
        .registry
        .snapshot()
        .authority_pem(&bed.account, &kept.id);
    let (one, other) = (before.expect("there"), after.expect("there"));
    assert!(&*one == "an authority" && Arc::ptr_eq(&one, &other));
}

#[tokio::test]
async fn a_new_key_seals_private_keys_anew_and_no_other_place_opens_one() {
    let bed = Bed::with(with_key(1)).await;
    let count = defaults::RESEAL_PER_WRITE_MAX + 2;
    let mut made = Vec::new();
    for n in 0..count {
        made.push(
            bed.certificate(&[&format!("n{n}.example.com")], 0, 10)
                .await,
        );
    }
    assert_eq!(bed.registry.reseal_secrets().await.expect("nothing"), 0);
    let open = |newest| Registry::open(Arc::clone(&bed.store), with_key(newest), Clock::system());
    let second = open(2).await.expect("opens");
    assert_eq!(second.reseal_secrets().await.expect("sealed"), count);
    assert_eq!(second.reseal_secrets().await.expect("nothing"), 0);
    let read = |registry: &Registry, id: &TlsCertificateId| {
        registry.snapshot().certificate(&bed.account, id)
    };
    assert!(made.iter().all(|one| read(&second, &one.id).is_some()));
    let without = open(1).await.expect("opens all the same");
    assert_eq!(without.reseal_secrets().await.expect("nothing"), 0);
    assert!(read(&without, &made[0].id).is_none());

    // Whoever can write the database puts the key of one under the names of another: it does not open.
    let snapshot = second.snapshot();
    let record = |at: usize| {
        let entry = snapshot.tls_certificate(&bed.account, &made[at].id);
        TlsCertificate::clone(entry.expect("there"))
    };
    let forged = TlsCertificate {
        private_key: record(0).private_key,
        ..record(1)
    };
    let op = Op::Put {
        key: keys::tls_certificate(&bed.account, &forged.id),
        value: serde_json::to_vec(&forged).expect("plain data"),
        lease: None,
    };
    let txn = Txn {
        guards: Vec::new(),
        ops: vec![op],
    };
    bed.store.txn(txn).await.expect("written");
    let revision = bed.store.revision().await.expect("a revision");
    second.at_revision(revision).await.expect("seen");
    assert!(read(&second, &forged.id).is_none());
    let now = Timestamp::from_unix_millis(1_700_000_000_000 + DAY);
    let by_name = second
        .snapshot()
        .certificate_for(&bed.account, "n1.example.com", now);
    assert!(by_name.is_none());
}

#[tokio::test]
async fn sizes_counts_and_owners_are_checked() {
    let bed = Bed::with(with_key(1)).await;
    let (registry, account) = (&bed.registry, &bed.account);
    let make = |change: &dyn Fn(&mut NewTlsCertificate)| {
        let mut new = new(&["a.example.com"], 0, 10);
        change(&mut new);
        registry.create_tls_certificate(account, new)
    };
    let long = make(&|new| new.pem = "x".repeat(defaults::TLS_CERTIFICATE_BYTES_MAX + 1)).await;
    assert_eq!(code(long), Code::CertificateInvalid);
    let long = "x".repeat(defaults::PRIVATE_KEY_BYTES_MAX + 1);
    let long = make(&|new| new.private_key = Secret::new(long.clone())).await;
    assert_eq!(code(long), Code::CertificateInvalid);
    let many = vec!["a.example.com".to_owned(); defaults::CERTIFICATE_NAMES_MAX + 1];
    let many = make(&|new| new.says.dns_names = many.clone()).await;
    assert_eq!(code(many), Code::CertificateInvalid);
    let text = "x".repeat(defaults::DESCRIPTION_BYTES_MAX + 1);
    let long = make(&|new| new.description = text.clone()).await;
    assert_eq!(code(long), Code::DescriptionTooLong);
    let long = "x".repeat(defaults::CERTIFICATE_AUTHORITY_BYTES_MAX + 1);
    let long = registry
        .create_certificate_authority(account, authority(&long))
        .await;
    assert_eq!(code(long), Code::CertificateInvalid);

    let certificate = bed.certificate(&["a.example.com"], 0, 10).await.id;
    let ca = bed.authority("one").await.id;
    let empty = registry.update_tls_certificate(account, &certificate, TextsUpdate::default());
    assert_eq!(code(empty.await), Code::ApiEmptyUpdate);
    let empty = registry.update_certificate_authority(account, &ca, TextsUpdate::default());
    assert_eq!(code(empty.await), Code::ApiEmptyUpdate);
    let (other, _) = bed.stranger().await;
    let update = TextsUpdate {
        metadata: Some("mine".into()),
        ..TextsUpdate::default()
    };
    let refused = registry.update_tls_certificate(&other, &certificate, update.clone());
    assert_eq!(code(refused.await), Code::CertificateNotFound);
    let refused = registry.update_certificate_authority(&other, &ca, update);
    assert_eq!(code(refused.await), Code::CertificateAuthorityNotFound);
    let refused = registry.delete_tls_certificate(&other, &certificate).await;
    assert_eq!(code(refused), Code::CertificateNotFound);
    let refused = registry.delete_certificate_authority(&other, &ca).await;
    assert_eq!(code(refused), Code::CertificateAuthorityNotFound);
    let snapshot = registry.snapshot();
    assert!(snapshot.authority_pem(&other, &ca).is_none());
    assert_eq!(
        snapshot.authorities(&other).count() + snapshot.tls_certificates(&other).count(),
        0
    );

    for n in 1..defaults::CERTIFICATE_AUTHORITIES_MAX {
        bed.authority(&n.to_string()).await;
    }
    let refused = registry.create_certificate_authority(account, authority("more"));
    assert_eq!(code(refused.await), Code::CertificateAuthorityLimit);
    registry
        .delete_certificate_authority(account, &ca)
        .await
        .expect("nothing names it");
    bed.authority("again").await;
}

#[tokio::test]
async fn an_account_takes_its_material_with_it() {
    let bed = Bed::with(with_key(1)).await;
    let (registry, account) = (&bed.registry, &bed.account);
    bed.certificate(&["a.example.com"], 0, 10).await;
    bed.authority("one").await;
    let refused = registry.delete_account(account, false).await;
    let message = refused.expect_err("not empty").message;
    assert!(
        message.contains("1 certificate authorities, 1 TLS certificates"),
        "{message}"
    );
    registry
        .delete_account(account, true)
        .await
        .expect("by force");
    let left = bed.store.list("").await.expect("list").entries;
    assert!(!left.iter().any(|one| one.key.contains(account.as_str())));
    assert_eq!(bed.found("a.example.com", 1), None);
}

#[tokio::test]
async fn without_a_master_key_there_are_authorities_but_no_certificates() {
    let bed = Bed::new().await;
    bed.authority("one").await;
    let new = new(&["a.example.com"], 0, 10);
    let refused = bed.registry.create_tls_certificate(&bed.account, new).await;
    assert_eq!(code(refused), Code::SecretSealed);
    let unknown = CertificateAuthorityId::new(1_700_000_000, [9; 16]);
    let refused = bed
        .registry
        .delete_certificate_authority(&bed.account, &unknown)
        .await;
    assert_eq!(code(refused), Code::CertificateAuthorityNotFound);
}

/// A policy of a cloud endpoint that terminates with these.
fn terminating(certificate: &TlsCertificateId, ca: &CertificateAuthorityId) -> String {
    format!(
        "on_tcp_connect: [{{actions: [{{type: terminate-tls, config: {{server_certificate: {certificate}, \
         mutual_tls_certificate_authorities: [{ca}]}}}}, {{type: deny}}]}}]"
    )
}

#[tokio::test]
async fn what_a_policy_names_is_there_and_stays() {
    let bed = Bed::with(with_key(1)).await;
    let (registry, account) = (&bed.registry, &bed.account);
    let certificate = bed.certificate(&["a.example.com"], 0, 10).await.id;
    let ca = bed.authority("one").await.id;
    let (other, _) = bed.stranger().await;
    let endpoint = |policy: String| NewCloudEndpoint {
        url: "tcp://db.internal:1".into(),
        traffic_policy: policy,
        ..NewCloudEndpoint::default()
    };
    let theirs = registry
        .create_cloud_endpoint(&other, endpoint(terminating(&certificate, &ca)))
        .await
        .expect_err("not theirs");
    assert_eq!(theirs.code, Code::PolicyReference);
    for id in [certificate.to_string(), ca.to_string()] {
        assert!(theirs.message.contains(&id), "{}", theirs.message);
    }
    let unknown = TlsCertificateId::new(1_700_000_000, [9; 16]);
    let refused = registry
        .create_cloud_endpoint(account, endpoint(terminating(&unknown, &ca)))
        .await;
    assert_eq!(code(refused), Code::PolicyReference);
    let made = registry
        .create_cloud_endpoint(account, endpoint(terminating(&certificate, &ca)))
        .await
        .expect("all there")
        .value;
    let kept = registry.delete_tls_certificate(account, &certificate).await;
    let kept = kept.expect_err("in use");
    assert_eq!(kept.code, Code::CertificateInUse);
    assert!(kept.message.contains(made.id.as_str()), "{}", kept.message);
    let kept = registry.delete_certificate_authority(account, &ca).await;
    let kept = kept.expect_err("in use");
    assert_eq!(kept.code, Code::CertificateAuthorityInUse);
    assert!(kept.message.contains(made.id.as_str()), "{}", kept.message);

    let without = EndpointUpdate {
        traffic_policy: Some(DENY.into()),
        ..EndpointUpdate::default()
    };
    registry
        .update_cloud_endpoint(account, &made.id, without)
        .await
        .expect("changed");
    registry
        .delete_tls_certificate(account, &certificate)
        .await
        .expect("not in use");
    let gone = EndpointUpdate {
        traffic_policy: Some(terminating(&certificate, &ca)),
        ..EndpointUpdate::default()
    };
    let refused = registry
        .update_cloud_endpoint(account, &made.id, gone)
        .await;
    assert_eq!(code(refused), Code::PolicyReference);
    registry
        .delete_certificate_authority(account, &ca)
        .await
        .expect("not in use");
}
