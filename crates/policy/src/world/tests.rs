//! The token bucket against a plain count.

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;

fn rate(capacity: u32, seconds: u64) -> Rate {
    Rate {
        capacity,
        per_micros: seconds * 1_000_000,
    }
}

#[test]
fn a_full_bucket_gives_its_capacity_and_then_at_the_rate() {
    let rate = rate(3, 60);
    let mut bucket = TokenBucket::full(0, &rate);
    let taken = (0..10).filter(|_| bucket.take(0, &rate)).count();
    assert_eq!(taken, 3);
    assert!(!bucket.take(20 * SECOND - 1, &rate));
    assert!(bucket.take(20 * SECOND, &rate));
    assert!(!bucket.take(20 * SECOND, &rate));
    assert!(!bucket.is_full(79 * SECOND));
    assert!(bucket.is_full(80 * SECOND));
    // However long it waits, it holds no more than its capacity.
    let later = (0..10)
        .filter(|_| bucket.take(1_000_000 * SECOND, &rate))
        .count();
    assert_eq!(later, 3);
}

#[test]
fn a_clock_that_goes_back_adds_nothing() {
    let rate = rate(1, 1);
    let mut bucket = TokenBucket::full(100 * SECOND, &rate);
    assert!(bucket.take(100 * SECOND, &rate));
    assert!(!bucket.take(50 * SECOND, &rate));
    assert!(!bucket.take(50 * SECOND + 999_999, &rate));
    assert!(bucket.take(51 * SECOND, &rate));
}

#[test]
fn a_changed_rate_keeps_what_is_in_it() {
    let (narrow, wide) = (rate(10, 1), rate(100, 60));
    let mut bucket = TokenBucket::full(0, &narrow);
    assert!(bucket.take(0, &narrow));
    let taken = (0..100).filter(|_| bucket.take(0, &wide)).count();
    assert_eq!(taken, 9);
    let mut bucket = TokenBucket::full(0, &wide);
    let taken = (0..100).filter(|_| bucket.take(0, &narrow)).count();
    assert_eq!(taken, 10);
}

#[test]
fn extremes_do_not_overflow() {
    let rate = Rate {
        capacity: u32::MAX,
        per_micros: u64::MAX,
    };
    let mut bucket = TokenBucket::full(i64::MIN, &rate);
    assert!(bucket.take(i64::MAX, &rate));
    let nothing = Rate {
        capacity: 0,
        per_micros: 0,
    };
    assert!(!TokenBucket::full(0, &nothing).take(SECOND, &nothing));
}

proptest! {
    #[test]
    fn any_window_gives_at_most_capacity_and_what_came(
        capacity in 1_u32..20,
        micros in 1_u64..2_000_000,
        steps in prop::collection::vec(0_i64..300_000, 1..200),
    ) {
        let rate = Rate { capacity, per_micros: micros };
        let mut bucket = TokenBucket::full(0, &rate);
        let (mut now, mut taken) = (0_i64, Vec::new());
        for step in steps {
            now += step;
            if bucket.take(now, &rate) {
                taken.push(now);
            }
        }
        for (first, from) in taken.iter().enumerate() {
            for (last, to) in taken.iter().enumerate().skip(first) {
                let passed = u128::try_from(to - from).expect("in order");
                let allowed = u128::from(capacity) + passed * u128::from(capacity) / u128::from(micros);
                prop_assert!(u128::try_from(last - first + 1).expect("a count") <= allowed);
            }
        }
    }
}
