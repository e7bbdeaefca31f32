//! Names of TLS endpoints: who may have which, how long, and what a snapshot makes of them.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::requests::{EndpointUpdate, NewAddress, NewCloudEndpoint};
use crate::settings::overlap;
use crate::{Listen, TlsHost};

const LOCAL: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

impl Bed {
    async fn cloud(&self, account: &AccountId, url: &str) -> Result<String, Error> {
        let new = NewCloudEndpoint {
            url: url.into(),
            traffic_policy: DENY.into(),
            ..NewCloudEndpoint::default()
        };
        let made = self.registry.create_cloud_endpoint(account, new).await?;
        Ok(made.value.url.to_string())
    }

    /// Whose endpoint a client gets that asks for a name.
    fn at(&self, name: &str) -> Option<AccountId> {
        let snapshot = self.registry.snapshot();
        let pool = snapshot.tls(LOCAL, 443, name)?;
        Some(pool.members[0].account.clone())
    }
}

async fn tcp_address(bed: &Bed, account: &AccountId, port: u16) -> Result<String, Error> {
    let new = NewAddress {
        port: Some(port),
        ..NewAddress::default()
    };
    let made = bed.registry.reserve_address(account, new).await?;
    Ok(made.value.addr())
}

#[tokio::test]
async fn a_name_leads_to_its_endpoint_and_to_the_nearest_wildcard() {
    let bed = Bed::new().await;
    let me = bed.account.clone();
    for (url, stored) in [
        ("tls://a.edge.example.com", "tls://a.edge.example.com:443"),
        ("tls://*.EDGE.example.com", "tls://*.edge.example.com:443"),
        (
            "tls://*.b.edge.example.com:443",
            "tls://*.b.edge.example.com:443",
        ),
    ] {
        assert_eq!(bed.cloud(&me, url).await.as_deref(), Ok(stored));
    }
    let snapshot = bed.registry.snapshot();
    let leads = |name: &str| {
        let pool = snapshot.tls(LOCAL, 443, name)?;
        Some(pool.url.host().to_owned())
    };
    for (name, host) in [
        ("a.edge.example.com", Some("a.edge.example.com")),
        ("A.edge.Example.com.", Some("a.edge.example.com")),
        ("x.edge.example.com", Some("*.edge.example.com")),
        ("x.a.edge.example.com", Some("*.edge.example.com")),
        ("x.b.edge.example.com", Some("*.b.edge.example.com")),
        ("b.edge.example.com", Some("*.edge.example.com")),
        ("edge.example.com", None),
        ("*.edge.example.com", None),
        ("", None),
    ] {
        assert_eq!(leads(name).as_deref(), host, "{name}");
    }
    assert!(snapshot.tls(LOCAL, 444, "a.edge.example.com").is_none());
    let mapped: std::net::IpAddr = "::ffff:127.0.0.1".parse().expect("ip");
    assert!(snapshot.is_tls(mapped, 443));
    assert!(snapshot.public("a.edge.example.com", 443).is_none());
    assert!(snapshot.listener(LOCAL, 443).is_none());
}

#[tokio::test]
async fn the_port_is_open_while_there_is_an_endpoint() {
    let bed = Bed::new().await;
    assert!(bed.registry.snapshot().listens().is_empty());
    let url = "tls://a.edge.example.com";
    bed.cloud(&bed.account, url).await.expect("made");
    let snapshot = bed.registry.snapshot();
    let all = Listen {
        ip: None,
        port: 443,
    };
    assert_eq!(snapshot.listens().into_iter().collect::<Vec<_>>(), [all]);
    let endpoint = snapshot.all_endpoints().next().expect("one").id.clone();
    let record = snapshot.endpoint_by_id(&endpoint).expect("there");
    assert_eq!(snapshot.listens_of(record), [all]);
    bed.registry
        .delete_endpoint(&bed.account, &endpoint)
        .await
        .expect("deleted");
    assert!(bed.registry.snapshot().listens().is_empty());
}

#[tokio::test]
async fn ports_and_hosts_are_the_servers() {
    let mut settings = settings();
    settings.tls.port = Some(8443);
    settings.tls.bind = vec![LOCAL];
    settings.tls.hosts = vec![TlsHost {
        host: "Apps.example.org".into(),
        accounts: Vec::new(),
    }];
    let bed = Bed::with(settings).await;
    let me = bed.account.clone();
    assert_eq!(
        bed.cloud(&me, "tls://a.apps.example.org").await.as_deref(),
        Ok("tls://a.apps.example.org:8443")
    );
    let wrong = bed.cloud(&me, "tls://b.apps.example.org:443").await;
    let error = wrong.expect_err("the port");
    assert_eq!(error.code, Code::UrlPortScheme);
    assert!(error.message.contains("8443") && error.message.contains("`tls://b.apps.example.org`"));
    for url in ["tls://a.edge.example.com", "tls://a.example.net"] {
        let error = bed.cloud(&me, url).await.expect_err(url);
        assert_eq!(error.code, Code::AddressHostUnknown, "{url}");
        assert!(error.message.contains("apps.example.org"), "{error}");
    }
    let snapshot = bed.registry.snapshot();
    assert!(snapshot.is_tls(LOCAL, 8443) && !snapshot.is_tls(LOCAL, 443));
    let elsewhere = "192.0.2.1".parse().expect("ip");
    assert!(!snapshot.is_tls(elsewhere, 8443));
    let there = Listen {
        ip: Some(LOCAL),
        port: 8443,
    };
    assert_eq!(snapshot.listens().into_iter().collect::<Vec<_>>(), [there]);

    let mut off = super::settings();
    off.tls.port = Some(0);
    let bed = Bed::with(off).await;
    let error = bed.cloud(&bed.account, "tls://a.edge.example.com").await;
    assert_eq!(code(error), Code::UrlScheme);
    assert_eq!(
        code(bed.cloud(&bed.account, "tls://").await),
        Code::UrlScheme
    );
    assert!(bed.cloud(&bed.account, "tls://a.internal").await.is_ok());
}

#[tokio::test]
async fn a_name_and_what_overlaps_with_it_are_one_accounts() {
    let mut settings = settings();
    settings.tls.any_name = true;
    let bed = Bed::with(settings).await;
    let (other, _) = bed.stranger().await;
    let me = bed.account.clone();
    assert!(bed.cloud(&me, "tls://*.mine.org").await.is_ok());
    assert!(bed.cloud(&me, "tls://a.b.mine.net").await.is_ok());
    for url in [
        "tls://*.mine.org",
        "tls://a.mine.org",
        "tls://b.a.mine.org",
        "tls://*.a.mine.org",
        "tls://a.b.mine.net",
        "tls://*.b.mine.net",
        "tls://*.mine.net",
        "tls://*.net",
    ] {
        assert_eq!(
            code(bed.cloud(&other, url).await),
            Code::AddressForeign,
            "{url}"
        );
    }
    for url in [
        "tls://mine.org",
        "tls://c.b.mine.net",
        "tls://*.a.b.mine.net",
        "tls://amine.org",
    ] {
        assert!(bed.cloud(&other, url).await.is_ok(), "{url}");
    }
    assert!(bed.cloud(&me, "tls://x.mine.org").await.is_ok(), "its own");
    assert_eq!(bed.at("x.mine.org"), Some(me.clone()));
    assert_eq!(bed.at("mine.org"), Some(other.clone()));
    // What is the server's is not to be had by a wildcard above it.
    assert_eq!(
        code(bed.cloud(&me, "tls://*.example.com").await),
        Code::AddressHostUnknown
    );
    assert_eq!(
        code(bed.cloud(&me, "tls://*.edge.example.com").await),
        Code::UrlWildcard
    );
}

#[tokio::test]
async fn a_released_name_rests_for_its_account() {
    let bed = Bed::new().await;
    let (other, session) = bed.stranger().await;
    let mine = bed.session().await;
    let wanted = "tls://*.a.edge.example.com";
    let endpoint = bed.bind(&mine, wanted).await.expect("bound");
    bed.registry
        .unbind_endpoint(&mine, &endpoint.id)
        .await
        .expect("unbound");
    for url in [wanted, "tls://b.a.edge.example.com"] {
        assert_eq!(
            code(bed.bind(&session, url).await),
            Code::AddressResting,
            "{url}"
        );
    }
    let again = bed.bind(&mine, wanted).await.expect("its own at once");
    bed.registry
        .unbind_endpoint(&mine, &again.id)
        .await
        .expect("unbound");
    bed.clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    assert!(
        bed.bind(&session, "tls://b.a.edge.example.com")
            .await
            .is_ok()
    );
    assert_eq!(code(bed.bind(&mine, wanted).await), Code::AddressForeign);
    bed.registry.sweep().await.expect("swept");
    assert_eq!(bed.at("b.a.edge.example.com"), Some(other));
    let snapshot = bed.registry.snapshot();
    let claims: Vec<_> = snapshot.tls_claims("").map(|(name, _)| name).collect();
    assert_eq!(claims, ["com.example.edge.a.b"], "the rested one is gone");
}

#[tokio::test]
async fn names_of_a_lost_session_rest_from_the_sweep_on() {
    let bed = Bed::new().await;
    let (_, session) = bed.stranger().await;
    let mine = bed.session().await;
    let url = "tls://a.edge.example.com";
    bed.bind(&mine, url).await.expect("bound");
    bed.registry.close_session(&mine).await.expect("closed");
    bed.registry.sweep().await.expect("swept");
    let until = bed.registry.snapshot();
    let until = until
        .tls_claim("a.edge.example.com")
        .expect("kept")
        .resting_until;
    assert!(until.is_some());
    assert_eq!(code(bed.bind(&session, url).await), Code::AddressResting);
    bed.clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    bed.registry.sweep().await.expect("swept");
    assert!(
        bed.registry
            .snapshot()
            .tls_claim("a.edge.example.com")
            .is_none()
    );
    assert!(bed.bind(&session, url).await.is_ok());
}

#[tokio::test]
async fn an_agent_gets_its_random_name_again() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let first = bed.bind(&session, "tls://").await.expect("bound").url;
    assert!(first.to_string().starts_with("tls://"));
    let label = first
        .host()
        .strip_suffix(".edge.example.com")
        .expect("below");
    assert_eq!(label.len(), 12);
    let another = bed
        .registry
        .bind_endpoint(
            &session,
            BindSpec {
                name: "other".into(),
                ..spec("tls://")
            },
        )
        .await
        .expect("bound");
    assert_ne!(another.value.url, first);
    bed.registry.close_session(&session).await.expect("closed");
    let session = bed
        .open(&bed.credential, 1, 2)
        .await
        .expect("opens")
        .session
        .id;
    assert_eq!(
        bed.bind(&session, "tls://").await.expect("bound").url,
        first
    );
    let cloud = bed.cloud(&bed.account, "tls://").await.expect("made");
    assert_ne!(cloud, first.to_string());
}

#[tokio::test]
async fn members_of_a_pool_share_a_name() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let url = "tls://a.edge.example.com";
    let pooled = || BindSpec {
        pooling_enabled: true,
        ..spec(url)
    };
    let one = bed
        .registry
        .bind_endpoint(&session, pooled())
        .await
        .expect("bound");
    assert_eq!(code(bed.bind(&session, url).await), Code::PoolingThisOff);
    let two = bed
        .registry
        .bind_endpoint(&session, pooled())
        .await
        .expect("bound");
    let snapshot = bed.registry.snapshot();
    let pool = snapshot
        .tls(LOCAL, 443, "a.edge.example.com")
        .expect("a pool");
    assert_eq!(pool.members.len(), 2);
    bed.registry
        .unbind_endpoint(&session, &two.value.id)
        .await
        .expect("unbound");
    let claim = bed.registry.snapshot();
    let claim = claim.tls_claim("a.edge.example.com").expect("held");
    assert_eq!(claim.resting_until, None, "the other is there");
    assert_eq!(
        bed.at("a.edge.example.com").as_ref(),
        Some(&one.value.account)
    );
}

#[tokio::test]
async fn a_port_is_for_tcp_or_for_tls() {
    let bed = Bed::new().await;
    let (other, _) = bed.stranger().await;
    let me = bed.account.clone();
    tcp_address(&bed, &me, 443)
        .await
        .expect("nobody has a name");
    let error = bed
        .cloud(&other, "tls://a.edge.example.com")
        .await
        .expect_err("taken");
    assert_eq!(error.code, Code::AddressTaken);
    assert!(
        error.message.contains("tcp://edge.example.com:443"),
        "{error}"
    );
    assert_eq!(code(bed.cloud(&me, "tls://").await), Code::AddressTaken);

    let bed = Bed::new().await;
    let me = bed.account.clone();
    bed.cloud(&me, "tls://a.edge.example.com")
        .await
        .expect("free");
    let error = tcp_address(&bed, &me, 443).await.expect_err("for TLS");
    assert_eq!(error.code, Code::AddressPortNotPermitted);
    assert!(
        error.message.contains("tls://app.edge.example.com"),
        "{error}"
    );
    assert!(tcp_address(&bed, &me, 444).await.is_ok());

    let mut settings = settings();
    settings.tls.reserved = true;
    settings.tls.port = Some(20_000);
    let bed = Bed::with(settings).await;
    let session = bed.session().await;
    assert_eq!(
        code(tcp_address(&bed, &bed.account, 20_000).await),
        Code::AddressPortNotPermitted
    );
    for _ in 0..20 {
        let random = bed.bind(&session, "tcp://").await.expect("another");
        assert_ne!(random.url.port(), 20_000);
    }
}

#[tokio::test]
async fn internal_names_are_apart_by_scheme() {
    let bed = Bed::new().await;
    let me = bed.account.clone();
    for url in [
        "tcp://db.internal:443",
        "tls://db.internal",
        "tls://*.internal:5432",
    ] {
        bed.cloud(&me, url).await.expect(url);
    }
    assert_eq!(
        code(bed.cloud(&me, "tls://db.internal").await),
        Code::EndpointConflict
    );
    let snapshot = bed.registry.snapshot();
    let at = |url: &str| {
        let pool = snapshot.internal_at(&me, &url.parse().expect("a URL"));
        pool.map(|pool| pool.url.to_string())
    };
    assert_eq!(
        at("tcp://db.internal:443").as_deref(),
        Some("tcp://db.internal:443")
    );
    assert_eq!(
        at("tls://db.internal").as_deref(),
        Some("tls://db.internal:443")
    );
    assert_eq!(
        at("tls://x.internal:5432").as_deref(),
        Some("tls://*.internal:5432")
    );
    assert_eq!(at("tcp://x.internal:5432"), None);
    assert!(snapshot.listens().is_empty());
    let other = new_account(&bed.registry, "other", None).await;
    assert!(bed.cloud(&other, "tls://db.internal").await.is_ok());
}

#[tokio::test]
async fn a_change_moves_a_name_and_never_the_scheme() {
    let bed = Bed::new().await;
    let me = bed.account.clone();
    let new = |url: &str| NewCloudEndpoint {
        url: url.into(),
        traffic_policy: DENY.into(),
        ..NewCloudEndpoint::default()
    };
    let made = bed
        .registry
        .create_cloud_endpoint(&me, new("tls://a.edge.example.com"))
        .await
        .expect("made")
        .value;
    let change = |url: &str| EndpointUpdate {
        url: Some(url.into()),
        ..EndpointUpdate::default()
    };
    let update = |url: &'static str| {
        bed.registry
            .update_cloud_endpoint(&me, &made.id, change(url))
    };
    assert_eq!(
        code(update("tcp://a.internal:443").await),
        Code::UrlSchemeChange
    );
    let same = update("tls://a.edge.example.com").await.expect("the same");
    assert_eq!(same.value.url, made.url);
    let claim = bed.registry.snapshot();
    let claim = claim.tls_claim("a.edge.example.com").expect("held");
    assert_eq!(claim.resting_until, None);
    let moved = update("tls://b.edge.example.com").await.expect("moved");
    assert_eq!(moved.value.url.host(), "b.edge.example.com");
    assert!(bed.at("a.edge.example.com").is_none() && bed.at("b.edge.example.com").is_some());
    let claims = bed.registry.snapshot();
    let old = claims.tls_claim("a.edge.example.com").expect("rests");
    assert!(old.resting_until.is_some());
}

#[tokio::test]
async fn rules_of_credentials_count_for_names() {
    let bed = Bed::new().await;
    let credential = new_credential(
        &bed.registry,
        &bed.account,
        &["bind:tls://*.a.edge.example.com"],
    )
    .await;
    let session = bed.open(&credential, 9, 1).await.expect("opens").session.id;
    assert!(
        bed.bind(&session, "tls://x.a.edge.example.com")
            .await
            .is_ok()
    );
    assert!(
        bed.bind(&session, "tls://*.a.edge.example.com")
            .await
            .is_ok()
    );
    assert_eq!(
        code(bed.bind(&session, "tls://a.edge.example.com").await),
        Code::CredentialAcl
    );
    assert_eq!(
        code(bed.bind(&session, "tls://").await),
        Code::CredentialAclRandom
    );
}

#[tokio::test]
async fn what_is_left_of_an_account_rests() {
    let bed = Bed::new().await;
    let (other, _) = bed.stranger().await;
    bed.cloud(&other, "tls://a.edge.example.com")
        .await
        .expect("made");
    bed.registry
        .delete_account(&other, true)
        .await
        .expect("deleted");
    let me = bed.account.clone();
    assert_eq!(
        code(bed.cloud(&me, "tls://a.edge.example.com").await),
        Code::AddressResting
    );
}

#[derive(Debug, Clone)]
struct Step {
    who: usize,
    name: String,
    wait: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let name = prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..4);
    (0..2_usize, name, any::<bool>(), any::<bool>()).prop_map(|(who, labels, wild, wait)| Step {
        who,
        name: format!("{}{}.org", if wild { "*." } else { "" }, labels.join(".")),
        wait,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever asks for what in whatever order: names of two accounts never overlap.
    #[test]
    fn names_of_two_accounts_never_overlap(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut settings = settings();
            settings.tls.any_name = true;
            let bed = Bed::with(settings).await;
            let (other, _) = bed.stranger().await;
            let accounts = [bed.account.clone(), other];
            for Step { who, name, wait } in steps {
                if wait {
                    bed.clock.advance(Duration::from_secs(13 * 60 * 60));
                    bed.registry.sweep().await.expect("swept");
                }
                let made = bed.registry.create_cloud_endpoint(&accounts[who], NewCloudEndpoint {
                    url: format!("tls://{name}"),
                    traffic_policy: DENY.into(),
                    pooling_enabled: true,
                    ..NewCloudEndpoint::default()
                }).await;
                if let Ok(made) = made && wait {
                    bed.registry.delete_endpoint(&accounts[who], &made.value.id).await.expect("deleted");
                }
                let snapshot = bed.registry.snapshot();
                let live: Vec<_> = snapshot.tls_pools().collect();
                for one in &live {
                    let owner = &one.members[0].account;
                    assert!(one.members.iter().all(|member| member.account == *owner));
                    for another in &live {
                        let foreign = another.members[0].account != *owner;
                        assert!(!(foreign && overlap(one.url.host(), another.url.host())), "{} {}", one.url, another.url);
                    }
                }
            }
        });
    }
}
