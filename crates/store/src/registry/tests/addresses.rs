//! Addresses of kind `port`: drawn, chosen, released, resting.

use std::time::Duration;

use portcullis_model::AddressKind;

use super::*;
use crate::requests::{AddressUpdate, NewAddress};
use crate::settings::SharedHost;

fn wish(port: u16) -> NewAddress {
    NewAddress {
        host: Some(HOST.into()),
        port: Some(port),
        ..NewAddress::default()
    }
}

#[tokio::test]
async fn a_random_address_is_in_the_range() {
    let bed = Bed::new().await;
    let addr = bed
        .registry
        .reserve_address(&bed.account, NewAddress::default())
        .await
        .expect("reserved")
        .value;
    assert_eq!(
        (addr.kind, addr.host.as_str(), addr.region.as_str()),
        (AddressKind::Port, HOST, "eu")
    );
    assert!((20_000..=29_999).contains(&addr.port.expect("a port")));
    let update = AddressUpdate {
        metadata: Some("m".into()),
        ..AddressUpdate::default()
    };
    let changed = bed
        .registry
        .update_address(&bed.account, &addr.id, update)
        .await
        .expect("changed")
        .value;
    assert_eq!(changed.metadata, "m");
    assert_eq!(
        code(
            bed.registry
                .update_address(&bed.account, &addr.id, AddressUpdate::default())
                .await
        ),
        Code::ApiEmptyUpdate
    );
}

#[tokio::test]
async fn a_chosen_port_is_unique_across_accounts() {
    let bed = Bed::new().await;
    let (other, _) = bed.stranger().await;
    let addr = bed
        .registry
        .reserve_address(&bed.account, wish(5432))
        .await
        .expect("reserved")
        .value;
    assert_eq!(addr.addr(), "edge.example.com:5432");
    assert_eq!(
        code(bed.registry.reserve_address(&other, wish(5432)).await),
        Code::AddressTaken
    );
    let again = bed
        .registry
        .reserve_address(&bed.account, wish(5432))
        .await
        .expect_err("twice");
    assert_eq!(again.code, Code::AddressTaken);
    assert!(again.message.contains(addr.id.as_str()), "{again}");
}

#[tokio::test]
async fn a_released_address_rests_for_its_last_owner() {
    let bed = Bed::new().await;
    let (other, _) = bed.stranger().await;
    let addr = bed
        .registry
        .reserve_address(&bed.account, wish(5432))
        .await
        .expect("reserved")
        .value;
    bed.registry
        .release_address(&bed.account, &addr.id)
        .await
        .expect("released");
    let refusal = bed
        .registry
        .reserve_address(&other, wish(5432))
        .await
        .expect_err("rests");
    assert_eq!(refusal.code, Code::AddressResting);
    assert!(
        refusal.message.contains("2023-11-15T22:13:20"),
        "says until when: {refusal}"
    );
    let back = bed
        .registry
        .reserve_address(&bed.account, wish(5432))
        .await
        .expect("its own")
        .value;
    bed.registry
        .release_address(&bed.account, &back.id)
        .await
        .expect("released");
    bed.clock.advance(Duration::from_secs(24 * 3600));
    bed.registry
        .reserve_address(&other, wish(5432))
        .await
        .expect("rested");
    assert_eq!(
        code(bed.registry.reserve_address(&bed.account, wish(5432)).await),
        Code::AddressTaken
    );
}

#[tokio::test]
async fn the_sweep_frees_what_has_rested() {
    let bed = Bed::new().await;
    let addr = bed
        .registry
        .reserve_address(&bed.account, wish(5432))
        .await
        .expect("reserved")
        .value;
    bed.registry
        .release_address(&bed.account, &addr.id)
        .await
        .expect("released");
    bed.registry.sweep().await.expect("sweeps");
    assert!(
        bed.registry.snapshot().port_claim(HOST, 5432).is_some(),
        "still rests"
    );
    bed.clock.advance(Duration::from_secs(25 * 3600));
    bed.registry.sweep().await.expect("sweeps");
    assert!(bed.registry.snapshot().port_claim(HOST, 5432).is_none());
}

#[tokio::test]
async fn random_draws_avoid_what_rests_until_nothing_else_is_left() {
    let mut settings = settings();
    settings.hosts[0].ports = "20000-20003".parse().expect("ports");
    let bed = Bed::with(settings).await;
    let (other, _) = bed.stranger().await;
    let first = bed
        .registry
        .reserve_address(&bed.account, wish(20_000))
        .await
        .expect("reserved")
        .value;
    bed.registry
        .release_address(&bed.account, &first.id)
        .await
        .expect("released");
    let mut drawn = Vec::new();
    for _ in 0..3 {
        let addr = bed
            .registry
            .reserve_address(&other, NewAddress::default())
            .await
            .expect("drawn")
            .value;
        drawn.push(addr.port.expect("port"));
    }
    drawn.sort_unstable();
    assert_eq!(drawn, [20_001, 20_002, 20_003]);
    assert_eq!(
        code(
            bed.registry
                .reserve_address(&other, NewAddress::default())
                .await
        ),
        Code::AddressExhausted
    );
    let own = bed
        .registry
        .reserve_address(&bed.account, NewAddress::default())
        .await
        .expect("its own rest");
    assert_eq!(own.value.port, Some(20_000));
}

#[tokio::test]
async fn hosts_and_ports_must_be_the_server_s() {
    let mut settings = settings();
    settings.hosts[0].choose = "1024-65535".parse().expect("ports");
    let bed = Bed::with(settings).await;
    let refusal = bed
        .registry
        .reserve_address(&bed.account, wish(22))
        .await
        .expect_err("not permitted");
    assert_eq!(refusal.code, Code::AddressPortNotPermitted);
    assert!(refusal.message.contains("1024-65535"), "{refusal}");
    let elsewhere = NewAddress {
        host: Some("other.example.com".into()),
        ..NewAddress::default()
    };
    let refusal = bed
        .registry
        .reserve_address(&bed.account, elsewhere)
        .await
        .expect_err("unknown host");
    assert_eq!(refusal.code, Code::AddressHostUnknown);
    assert!(refusal.message.contains(HOST), "{refusal}");
    let region = NewAddress {
        region: Some("mars".into()),
        ..NewAddress::default()
    };
    assert_eq!(
        code(bed.registry.reserve_address(&bed.account, region).await),
        Code::AddressRegion
    );
    assert_eq!(
        code(bed.registry.reserve_address(&bed.account, wish(0)).await),
        Code::UrlPortRange
    );
}

#[tokio::test]
async fn hosts_that_share_ips_share_their_ports() {
    let mut settings = settings();
    settings.hosts = SharedHost::numbered("example.com", "eu", false, 2);
    let own_ip = |host: SharedHost, ip: &str| SharedHost {
        bind: vec![ip.parse().expect("ip")],
        ..host
    };
    for host in &mut settings.hosts {
        *host = own_ip(host.clone(), "192.0.2.8");
    }
    settings.hosts.push(own_ip(
        SharedHost::new("alone.example.com", "eu"),
        "192.0.2.9",
    ));
    let bed = Bed::with(settings).await;
    let (other, _) = bed.stranger().await;
    let on = |host: &str| NewAddress {
        host: Some(host.into()),
        port: Some(5432),
        ..NewAddress::default()
    };
    let first = bed
        .registry
        .reserve_address(&bed.account, on("1.tcp.example.com"))
        .await
        .expect("reserved")
        .value;
    for account in [&bed.account, &other] {
        let refusal = bed
            .registry
            .reserve_address(account, on("2.tcp.example.com"))
            .await
            .expect_err("same IPs");
        assert_eq!(refusal.code, Code::AddressTaken);
        assert!(
            refusal.message.contains("1.tcp.example.com"),
            "names the holder: {refusal}"
        );
    }
    bed.registry
        .reserve_address(&other, on("alone.example.com"))
        .await
        .expect("its own IP");
    bed.registry
        .release_address(&bed.account, &first.id)
        .await
        .expect("released");
    assert_eq!(
        code(
            bed.registry
                .reserve_address(&other, on("2.tcp.example.com"))
                .await
        ),
        Code::AddressResting
    );
    bed.registry
        .reserve_address(&bed.account, on("2.tcp.example.com"))
        .await
        .expect("its own rest");
}

#[tokio::test]
async fn an_address_in_use_is_not_released() {
    let bed = Bed::new().await;
    let addr = bed
        .registry
        .reserve_address(&bed.account, wish(5432))
        .await
        .expect("reserved")
        .value;
    let session = bed.session().await;
    let endpoint = bed
        .bind(&session, "tcp://edge.example.com:5432")
        .await
        .expect("bound");
    assert_eq!(endpoint.addr.as_ref(), Some(&addr.id));
    let refusal = bed
        .registry
        .release_address(&bed.account, &addr.id)
        .await
        .expect_err("in use");
    assert_eq!(refusal.code, Code::AddressInUse);
    assert!(refusal.message.contains(endpoint.id.as_str()), "{refusal}");
    bed.registry
        .unbind_endpoint(&session, &endpoint.id)
        .await
        .expect("unbound");
    bed.registry
        .release_address(&bed.account, &addr.id)
        .await
        .expect("released");
    assert_eq!(
        code(bed.registry.release_address(&bed.account, &addr.id).await),
        Code::ApiNotFound
    );
}

#[tokio::test]
async fn a_random_address_of_an_agent_can_be_kept_by_reserving_it() {
    let bed = Bed::new().await;
    let (other, _) = bed.stranger().await;
    let session = bed.session().await;
    let endpoint = bed.bind(&session, "tcp://").await.expect("bound");
    let port = endpoint.url.port();
    assert_eq!(
        code(bed.registry.reserve_address(&other, wish(port)).await),
        Code::AddressTaken
    );
    let addr = bed
        .registry
        .reserve_address(&bed.account, wish(port))
        .await
        .expect("its own")
        .value;
    bed.registry.close_session(&session).await.expect("closed");
    bed.clock.advance(Duration::from_secs(48 * 3600));
    bed.registry.sweep().await.expect("sweeps");
    assert_eq!(
        code(bed.registry.reserve_address(&other, wish(port)).await),
        Code::AddressTaken
    );
    assert_eq!(addr.port, Some(port));
}

#[tokio::test]
async fn quotas_count_addresses() {
    let bed = Bed::with_plan(Plan {
        addresses_max: Some(2),
        ..Plan::default()
    })
    .await;
    for _ in 0..2 {
        bed.registry
            .reserve_address(&bed.account, NewAddress::default())
            .await
            .expect("reserved");
    }
    assert_eq!(
        code(
            bed.registry
                .reserve_address(&bed.account, NewAddress::default())
                .await
        ),
        Code::AddressLimit
    );
    let (other, _) = bed.stranger().await;
    bed.registry
        .reserve_address(&other, NewAddress::default())
        .await
        .expect("a quota of its own");
}

#[tokio::test]
async fn gated_accounts_are_told_what_to_do() {
    let plan = Plan {
        tcp: portcullis_model::account::TcpAccess::Verified,
        verify_hint: Some("Write to ops@example.com.".into()),
        ..Plan::default()
    };
    let bed = Bed::with_plan(plan).await;
    let refusal = bed
        .registry
        .reserve_address(&bed.account, NewAddress::default())
        .await
        .expect_err("gated");
    assert_eq!(refusal.code, Code::TcpNotAllowed);
    assert!(refusal.message.contains("ops@example.com"), "{refusal}");
    let session = bed.session().await;
    assert_eq!(
        code(bed.bind(&session, "tcp://").await),
        Code::TcpNotAllowed
    );
    let update = crate::AccountUpdate {
        verified: Some(true),
        ..crate::AccountUpdate::default()
    };
    bed.registry
        .update_account(&bed.account, update)
        .await
        .expect("verified");
    bed.bind(&session, "tcp://").await.expect("allowed now");
}

#[tokio::test]
async fn a_host_on_all_ips_shares_its_ports_with_every_other() {
    let mut settings = settings();
    let bind = vec!["127.0.0.1".parse().expect("ip")];
    let ports = crate::PortRanges::default();
    settings.hosts.push(SharedHost {
        bind,
        ports,
        ..SharedHost::new("127.0.0.1", "eu")
    });
    let bed = Bed::with(settings).await;
    let on = |host: &str| NewAddress {
        host: Some(host.into()),
        port: Some(5432),
        ..NewAddress::default()
    };
    bed.registry
        .reserve_address(&bed.account, on("127.0.0.1"))
        .await
        .expect("reserved");
    assert_eq!(
        code(bed.registry.reserve_address(&bed.account, on(HOST)).await),
        Code::AddressTaken
    );
    for _ in 0..20 {
        let drawn = bed
            .registry
            .reserve_address(&bed.account, NewAddress::default())
            .await
            .expect("drawn")
            .value;
        assert_eq!(drawn.host, HOST, "a host without a range is never drawn");
    }
}

#[tokio::test]
async fn who_comes_and_goes_does_not_take_the_range_from_others() {
    let mut settings = settings();
    settings.hosts[0].ports = "20000-20079".parse().expect("ports");
    let bed = Bed::with(settings).await;
    let (other, _) = bed.stranger().await;
    for _ in 0..100 {
        let new = NewAddress::default();
        let addr = bed.registry.reserve_address(&bed.account, new).await;
        let addr = addr.expect("its own places will do").value;
        let released = bed.registry.release_address(&bed.account, &addr.id).await;
        released.expect("released");
    }
    let theirs = bed.registry.reserve_address(&other, NewAddress::default());
    theirs.await.expect("something is left");
}
