//! Choices: exact shares, the same for the same client, never a weight of 0.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn counted(weights: &[u32], turns: u32, mut next: impl FnMut(u32) -> Option<usize>) -> Vec<u32> {
    let mut counts = vec![0; weights.len()];
    for turn in 0..turns {
        counts[next(turn).expect("a target")] += 1;
    }
    counts
}

fn urls(count: u16) -> Vec<Option<Arc<EndpointUrl>>> {
    (0..count)
        .map(|n| Some(Arc::new(EndpointUrl::new(&format!("s{n}.internal"), 5432))))
        .collect()
}

#[test]
fn smooth_takes_turns_as_published() {
    let mut smooth = Smooth::default();
    let turns: Vec<usize> = (0..7).filter_map(|_| smooth.next(&[5, 1, 1])).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn ten_thousand_choices_are_exact() {
    let weights = [70, 20, 10];
    let mut smooth = Smooth::default();
    assert_eq!(
        counted(&weights, 10_000, |_| smooth.next(&weights)),
        [7_000, 2_000, 1_000]
    );
}

#[test]
fn nothing_is_chosen_of_nothing() {
    for weights in [&[][..], &[0], &[0, 0]] {
        assert_eq!(Smooth::default().next(weights), None);
        assert_eq!(random(weights, 7), None);
        assert_eq!(random_two(weights, &[], 7), None);
        assert_eq!(least(weights, &[], 7), None);
        assert_eq!(
            by_client(weights, &urls(2), Ipv4Addr::LOCALHOST.into()),
            None
        );
    }
}

#[test]
fn another_number_of_targets_begins_afresh() {
    let mut smooth = Smooth::default();
    smooth.next(&[1, 1]);
    assert_eq!(smooth.next(&[1, 1, 1]), Some(0));
}

#[test]
fn random_covers_its_whole_range() {
    assert_eq!(random(&[1, 0, 3], 0), Some(0));
    assert_eq!(random(&[1, 0, 3], u64::MAX), Some(2));
    assert_eq!(random(&[1, 0, 3], u64::MAX / 4 + 2), Some(2));
}

#[test]
fn the_less_busy_of_two_is_taken() {
    for seed in 0..100 {
        assert_eq!(random_two(&[1, 1], &[5, 4], seed), Some(1));
        assert_eq!(random_two(&[1, 0], &[5, 4], seed), Some(0));
    }
    let chosen = counted(&[1, 1, 1], 3_000, |seed| {
        random_two(&[1, 1, 1], &[9, 9, 9], seed.into())
    });
    assert!(
        chosen.iter().all(|count| (850..1_150).contains(count)),
        "{chosen:?}"
    );
}

#[test]
fn the_fewest_for_its_weight_is_taken() {
    for seed in 0..50 {
        assert_eq!(least(&[1, 1, 1], &[3, 1, 2], seed), Some(1));
        // (5+1)/4 < (1+1)/1
        assert_eq!(least(&[4, 1], &[5, 1], seed), Some(0));
        assert_eq!(least(&[0, 1], &[0, 100], seed), Some(1));
    }
    let idle = counted(&[1, 1], 200, |seed| least(&[1, 1], &[0, 0], seed.into()));
    assert!(idle.iter().all(|count| *count > 50), "{idle:?}");
}

#[test]
fn clients_stay_when_another_target_goes() {
    let urls = urls(4);
    let (all, without) = ([1, 1, 1, 1], [1, 1, 0, 1]);
    let mut moved = 0;
    for n in 0..2_000_u32 {
        let client = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n));
        let before = by_client(&all, &urls, client).expect("a target");
        assert_eq!(by_client(&all, &urls, client), Some(before));
        let after = by_client(&without, &urls, client).expect("a target");
        assert_ne!(after, 2);
        assert!(before == 2 || before == after);
        moved += u32::from(before != after);
    }
    assert!((400..600).contains(&moved), "{moved}");
}

#[test]
fn clients_spread_by_weight() {
    let (urls, weights) = (urls(2), [3, 1]);
    let chosen = counted(&weights, 10_000, |n| {
        by_client(
            &weights,
            &urls,
            Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761)).into(),
        )
    });
    assert!((7_200..7_800).contains(&chosen[0]), "{chosen:?}");
}

#[test]
fn mapped_addresses_are_those_they_map() {
    let urls = urls(8);
    for n in 0..200_u32 {
        let v4 = Ipv4Addr::from_bits(n * 65_537);
        let mapped = IpAddr::from(v4.to_ipv6_mapped());
        assert_eq!(
            by_client(&[1; 8], &urls, mapped),
            by_client(&[1; 8], &urls, v4.into())
        );
    }
}

proptest! {
    #[test]
    fn smooth_is_exact_for_any_weights(weights in prop::collection::vec(0_u32..20, 1..8), rounds in 1_u32..4) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        let mut smooth = Smooth::default();
        let counts = counted(&weights, total * rounds, |_| smooth.next(&weights));
        let expected: Vec<u32> = weights.iter().map(|weight| weight * rounds).collect();
        prop_assert_eq!(counts, expected);
    }

    #[test]
    fn a_weight_of_nothing_is_never_chosen(weights in prop::collection::vec(0_u32..3, 1..6), seed in any::<u64>(), client in any::<u32>()) {
        let count = u16::try_from(weights.len()).expect("a few");
        let chosen = [
            Smooth::default().next(&weights),
            random(&weights, seed),
            random_two(&weights, &[seed, 1, 2], seed),
            least(&weights, &[seed, 1, 2], seed),
            by_client(&weights, &urls(count), Ipv4Addr::from_bits(client).into()),
        ];
        for chosen in chosen {
            prop_assert_eq!(chosen.is_some(), weights.iter().any(|weight| *weight > 0));
            prop_assert!(chosen.is_none_or(|at| weights[at] > 0));
        }
    }
}
