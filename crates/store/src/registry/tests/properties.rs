//! Random histories of several accounts: whatever they do, a place has one owner, passes on only
//! after its rest, and the snapshot that grew is the snapshot that a restart reads.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_model::{Binding, Endpoint, ReservedAddr};
use proptest::prelude::*;

use super::*;
use crate::requests::{DirectSpec, NewAddress, NewCloudEndpoint};
use crate::settings::SharedHost;
use crate::snapshot::Snapshot;

const REST: Duration = Duration::from_secs(1_000);
const ACCOUNTS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Reserve {
        account: usize,
        port: Option<u16>,
        host: usize,
    },
    Release {
        account: usize,
        place: usize,
    },
    Open {
        account: usize,
        agent: u8,
        generation: u64,
    },
    Close {
        account: usize,
        place: usize,
    },
    Bind {
        account: usize,
        place: usize,
        url: usize,
        pooled: bool,
        ephemeral: bool,
    },
    Unbind {
        account: usize,
        place: usize,
    },
    Cloud {
        account: usize,
        random: bool,
        place: usize,
    },
    Delete {
        account: usize,
        place: usize,
    },
    Direct {
        account: usize,
        port: u16,
    },
    Wait {
        seconds: u64,
    },
    Sweep,
}

fn port() -> impl Strategy<Value = u16> {
    20_000..20_006_u16
}

fn step() -> impl Strategy<Value = Step> {
    let account = 0..ACCOUNTS;
    let place = 0..6_usize;
    prop_oneof![
        3 => (account.clone(), proptest::option::of(port()), 0..2_usize)
            .prop_map(|(account, port, host)| Step::Reserve { account, port, host }),
        2 => (account.clone(), place.clone()).prop_map(|(account, place)| Step::Release { account, place }),
        3 => (account.clone(), 0..3_u8, 0..4_u64)
            .prop_map(|(account, agent, generation)| Step::Open { account, agent, generation }),
        1 => (account.clone(), place.clone()).prop_map(|(account, place)| Step::Close { account, place }),
        5 => (account.clone(), place.clone(), 0..6_usize, any::<bool>(), any::<bool>()).prop_map(
            |(account, place, url, pooled, ephemeral)| Step::Bind { account, place, url, pooled, ephemeral }
        ),
        2 => (account.clone(), place.clone()).prop_map(|(account, place)| Step::Unbind { account, place }),
        2 => (account.clone(), any::<bool>(), place.clone())
            .prop_map(|(account, random, place)| Step::Cloud { account, random, place }),
        1 => (account.clone(), place).prop_map(|(account, place)| Step::Delete { account, place }),
        1 => (account, port()).prop_map(|(account, port)| Step::Direct { account, port }),
        2 => (0..700_u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Sweep),
    ]
}

struct World {
    bed: Bed,
    accounts: Vec<(AccountId, Credential)>,
    /// Who was last seen on a place, and when.
    seen: BTreeMap<u16, (AccountId, Timestamp)>,
}

impl World {
    async fn new() -> Self {
        let mut settings = settings();
        settings.hosts = SharedHost::numbered("example.com", "eu", false, 2);
        for host in &mut settings.hosts {
            host.ports = "20000-20005".parse().expect("ports");
        }
        settings.address_rest = REST;
        let bed = Bed::with(settings).await;
        let mut accounts = vec![(bed.account.clone(), bed.credential.clone())];
        for n in 1..ACCOUNTS {
            let account = new_account(&bed.registry, &format!("a{n}"), None).await;
            let credential = new_credential(&bed.registry, &account, &[]).await;
            accounts.push((account, credential));
        }
        Self {
            bed,
            accounts,
            seen: BTreeMap::new(),
        }
    }

    fn addr(&self, account: usize, place: usize) -> Option<ReservedAddr> {
        let snapshot = self.bed.registry.snapshot();
        snapshot
            .addresses(&self.accounts[account].0)
            .nth(place)
            .map(|addr| (**addr).clone())
    }

    fn session(&self, account: usize, place: usize) -> Option<SessionId> {
        let snapshot = self.bed.registry.snapshot();
        snapshot
            .sessions(&self.accounts[account].0)
            .nth(place)
            .map(|session| session.id.clone())
    }

    fn endpoint(&self, account: usize, place: usize) -> Option<Endpoint> {
        let snapshot = self.bed.registry.snapshot();
        snapshot
            .endpoints(&self.accounts[account].0)
            .nth(place)
            .map(|entry| entry.record().clone())
    }

    fn url(&self, account: usize, which: usize) -> String {
        match which {
            0 | 1 => "tcp://".to_owned(),
            2 => "tcp://db.internal:1".to_owned(),
            n => self
                .addr(account, n - 3)
                .map_or("tcp://".to_owned(), |addr| format!("tcp://{}", addr.addr())),
        }
    }

    /// Does a step; refusals are part of life, faults are not.
    async fn step(&self, step: &Step) -> Result<(), Error> {
        let registry = &self.bed.registry;
        let id = |account: &usize| &self.accounts[*account].0;
        match step {
            Step::Reserve {
                account,
                port,
                host,
            } => {
                let host = port.map(|_| format!("{}.tcp.example.com", host + 1));
                let new = NewAddress {
                    host,
                    port: *port,
                    ..NewAddress::default()
                };
                registry.reserve_address(id(account), new).await.map(drop)
            }
            Step::Release { account, place } => match self.addr(*account, *place) {
                Some(addr) => registry
                    .release_address(id(account), &addr.id)
                    .await
                    .map(drop),
                None => Ok(()),
            },
            Step::Open {
                account,
                agent,
                generation,
            } => {
                let credential = &self.accounts[*account].1;
                registry
                    .open_session(session_of(credential, *agent, *generation))
                    .await
                    .map(drop)
            }
            Step::Close { account, place } => match self.session(*account, *place) {
                Some(session) => registry.close_session(&session).await.map(drop),
                None => Ok(()),
            },
            Step::Bind {
                account,
                place,
                url,
                pooled,
                ephemeral,
            } => {
                let Some(session) = self.session(*account, *place) else {
                    return Ok(());
                };
                let url = self.url(*account, *url);
                let spec = BindSpec {
                    pooling_enabled: *pooled,
                    ephemeral: *ephemeral,
                    ..spec(&url)
                };
                registry.bind_endpoint(&session, spec).await.map(drop)
            }
            Step::Unbind { account, place } => match self.endpoint(*account, *place) {
                Some(Endpoint {
                    id,
                    holder: Some(portcullis_model::endpoint::Holder::Session { session, .. }),
                    ..
                }) => registry.unbind_endpoint(&session, &id).await.map(drop),
                _ => Ok(()),
            },
            Step::Cloud {
                account,
                random,
                place,
            } => {
                let url = if *random {
                    "tcp://".to_owned()
                } else {
                    self.url(*account, place + 3)
                };
                let new = NewCloudEndpoint {
                    url,
                    traffic_policy: DENY.into(),
                    ..NewCloudEndpoint::default()
                };
                registry
                    .create_cloud_endpoint(id(account), new)
                    .await
                    .map(drop)
            }
            Step::Delete { account, place } => match self.endpoint(*account, *place) {
                Some(endpoint) => registry
                    .delete_endpoint(id(account), &endpoint.id)
                    .await
                    .map(drop),
                None => Ok(()),
            },
            Step::Direct { account, port } => {
                let spec = DirectSpec {
                    port: Some(*port),
                    upstream: "tcp://127.0.0.1:1".into(),
                    ..DirectSpec::default()
                };
                registry.bind_direct(id(account), spec).await.map(drop)
            }
            Step::Wait { seconds } => {
                self.bed.clock.advance(Duration::from_secs(*seconds));
                Ok(())
            }
            Step::Sweep => registry.sweep().await,
        }
    }

    /// Every port has one account at most (both hosts share their IPs), and changes hands only after
    /// its rest.
    fn check(&mut self, now: Timestamp) {
        let snapshot = self.bed.registry.snapshot();
        let mut owners: BTreeMap<u16, AccountId> = BTreeMap::new();
        let mut own = |port: u16, account: &AccountId, what: &str| {
            let owner = owners.entry(port).or_insert_with(|| account.clone());
            assert_eq!(owner, account, "port {port} has two owners ({what})");
        };
        for account in snapshot.accounts() {
            for addr in snapshot.addresses(&account.id) {
                own(addr.port.expect("kind port"), &account.id, "address");
                let claim = snapshot
                    .port_claim(&addr.host, addr.port.expect("kind port"))
                    .expect("a claim");
                assert_eq!(claim.account, account.id);
            }
        }
        for endpoint in snapshot
            .all_endpoints()
            .filter(|endpoint| endpoint.binding == Binding::Public)
        {
            own(endpoint.url.port(), &endpoint.account, "endpoint");
            let claim = snapshot
                .port_claim(endpoint.url.host(), endpoint.url.port())
                .expect("a claim");
            assert_eq!(
                claim.account, endpoint.account,
                "an endpoint stands on its account's place"
            );
        }
        for (port, account) in owners {
            if let Some((before, at)) = self
                .seen
                .get(&port)
                .filter(|(before, _)| *before != account)
            {
                assert!(
                    now.since(*at) >= REST,
                    "port {port} passed from {before} too soon"
                );
            }
            self.seen.insert(port, (account, now));
        }
    }
}

/// Everything a reader can find, in an order that does not depend on how it came about.
fn fingerprint(snapshot: &Snapshot) -> Vec<String> {
    let mut found = vec![format!("revision {}", snapshot.revision())];
    for account in snapshot.accounts() {
        found.push(format!("{account:?}"));
        found.extend(
            snapshot
                .sessions(&account.id)
                .map(|session| format!("{session:?}")),
        );
        found.extend(
            snapshot
                .addresses(&account.id)
                .map(|addr| format!("{addr:?}")),
        );
        found.extend(
            snapshot
                .credentials(&account.id)
                .map(|credential| format!("{credential:?}")),
        );
        found.extend(
            snapshot
                .endpoints(&account.id)
                .map(|endpoint| format!("{:?}", endpoint.record())),
        );
        for port in [1, 20_000] {
            let pool = snapshot.internal(&account.id, "db.internal", port);
            found.push(format!(
                "{:?}",
                pool.map(|pool| pool.members.iter().map(|m| &m.id).collect::<Vec<_>>())
            ));
        }
    }
    found.extend(snapshot.all_port_claims().map(|claim| format!("{claim:?}")));
    let pools = snapshot.public_pools().map(|pool| {
        format!(
            "{} {:?}",
            pool.url,
            pool.members
                .iter()
                .map(|member| &member.id)
                .collect::<Vec<_>>()
        )
    });
    let mut pools: Vec<String> = pools.collect();
    pools.sort();
    found.extend(pools);
    found.push(format!("{:?}", snapshot.listens()));
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn places_have_one_owner_and_rest_between_owners(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            let mut now = Timestamp::from_unix_millis(1_700_000_000_000);
            for step in &steps {
                if let Step::Wait { seconds } = step {
                    // What stood there until now was seen until now.
                    now = now.plus(Duration::from_secs(*seconds));
                    world.step(step).await.expect("time passes");
                    world.check(now);
                    continue;
                }
                if let Err(error) = world.step(step).await {
                    assert!(error.code.http_status() < 500 || error.code == Code::AddressExhausted, "{step:?}: {error}");
                }
                world.check(now);
            }
            let listing = world.bed.store.list("").await.expect("list");
            let grown = world.bed.registry.at_revision(listing.revision).await.expect("followed");
            let read = Snapshot::read(Arc::clone(grown.settings()), listing).expect("readable");
            assert_eq!(fingerprint(&grown), fingerprint(&read));
        });
    }
}
