//! CIDRs: strict reading, and matching against a naive search.

use proptest::prelude::*;

use super::*;

fn set(cidrs: &[&str]) -> CidrSet {
    cidrs
        .iter()
        .map(|text| parse(text).expect("valid"))
        .collect()
}

#[test]
fn reads_networks_with_base_and_mask_only() {
    for text in [
        "10.0.0.0/8",
        "0.0.0.0/0",
        "203.0.113.7/32",
        "::/0",
        "::0/0",
        "2001:db8::/32",
        "2001:DB8::1/128",
    ] {
        assert!(parse(text).is_ok(), "{text}");
    }
    for (text, part) in [
        ("10.0.0.1/8", "write `10.0.0.0/8`, or `10.0.0.1/32`"),
        (
            "2001:db8::1/32",
            "write `2001:db8::/32`, or `2001:db8::1/128`",
        ),
        ("203.0.113.7", "write `203.0.113.7/32`"),
        ("2001:db8::1", "write `2001:db8::1/128`"),
        ("::ffff:203.0.113.7", "write `203.0.113.7/32`"),
        ("::ffff:10.1.0.0/104", "write `10.0.0.0/8`"),
        ("10.0.0.0/33", "0 to 32"),
        ("::/129", "0 to 128"),
        ("10.0.0.0/", "0 to 32"),
        ("10.0.0.0/+8", "0 to 32"),
        ("10.0.0.0/8/8", "0 to 32"),
        ("10.0.0/8", "not an IP address"),
        ("example.com/8", "not an IP address"),
        ("example.com", "such as `10.0.0.0/8`"),
        ("", "such as `10.0.0.0/8`"),
        (" 10.0.0.0/8", "not an IP address"),
    ] {
        let fault = parse(text).expect_err(text);
        assert!(fault.contains(part), "{text}: {fault}");
    }
}

#[test]
fn finds_the_longest_network() {
    let set = set(&[
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3/32",
        "10.200.0.0/16",
        "2001:db8::/32",
        "2001:db8:1::/48",
    ]);
    for (ip, network) in [
        ("10.1.2.3", Some("10.1.2.3/32")),
        ("10.1.2.4", Some("10.1.0.0/16")),
        ("10.2.0.0", Some("10.0.0.0/8")),
        ("10.255.255.255", Some("10.0.0.0/8")),
        ("11.0.0.0", Some("0.0.0.0/0")),
        ("9.255.255.255", Some("0.0.0.0/0")),
        ("::ffff:10.1.2.3", Some("10.1.2.3/32")),
        ("2001:db8:1::5", Some("2001:db8:1::/48")),
        ("2001:db8:2::5", Some("2001:db8::/32")),
        ("2001:db9::", None),
        ("::", None),
    ] {
        let found = set
            .find(ip.parse().expect("an address"))
            .map(|network| network.to_string());
        assert_eq!(found.as_deref(), network, "{ip}");
    }
    assert_eq!(set.len(), 7);
}

#[test]
fn families_are_apart_and_doubles_count_once() {
    let v6 = set(&["::/0", "::/0"]);
    assert_eq!(v6.len(), 1);
    assert!(!v6.contains("10.0.0.1".parse().expect("an address")));
    assert!(!set(&["0.0.0.0/0"]).contains("::1".parse().expect("an address")));
    assert!(CidrSet::default().is_empty());
}

/// Networks crowded into few bits, so that many nest.
fn crowded() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<u8>(), 0..=32_u8).prop_map(|(bits, length)| {
            let base = Ipv4Addr::from_bits(u32::from(bits).wrapping_mul(0x0101_0101));
            IpNet::V4(
                Ipv4Net::new(base, length)
                    .expect("a length up to 32")
                    .trunc(),
            )
        }),
        (any::<u8>(), 0..=128_u8).prop_map(|(bits, length)| {
            let base =
                Ipv6Addr::from_bits(u128::from(bits) * 0x0101_0101_0101_0101_0101_0101_0101_0101);
            IpNet::V6(
                Ipv6Net::new(base, length)
                    .expect("a length up to 128")
                    .trunc(),
            )
        }),
    ]
}

proptest! {
    #[test]
    fn matches_like_a_naive_search(networks in prop::collection::vec(crowded(), 0..60), at in any::<u8>(), noise in any::<u32>()) {
        let set: CidrSet = networks.iter().copied().collect();
        let spread = u32::from(at).wrapping_mul(0x0101_0101);
        let mut probes: Vec<IpAddr> = vec![
            Ipv4Addr::from_bits(spread).into(),
            Ipv4Addr::from_bits(spread ^ (noise >> 20)).into(),
            Ipv4Addr::from_bits(noise).into(),
            Ipv6Addr::from_bits(u128::from(at) * 0x0101_0101_0101_0101_0101_0101_0101_0101).into(),
            Ipv6Addr::from_bits(u128::from(noise) << 96).into(),
        ];
        probes.extend(networks.iter().flat_map(|network| [network.network(), network.broadcast()]));
        for ip in probes {
            let naive = networks.iter().filter(|network| network.contains(&unmap(ip))).max_by_key(|network| network.prefix_len());
            prop_assert_eq!(set.find(ip), naive.copied(), "{}", ip);
        }
    }

    #[test]
    fn what_is_printed_is_read(network in crowded()) {
        let mapped = matches!(network, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() && v6.prefix_len() >= 96);
        prop_assert_eq!(parse(&network.to_string()).ok(), (!mapped).then_some(network));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9a-f:./%+ -]{0,40}") {
        if let Ok(network) = parse(&text) {
            prop_assert_eq!(network, network.trunc());
        }
    }
}
