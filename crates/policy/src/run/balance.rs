//! Ways to choose a target, as pure functions: weights, counts and random numbers in, a place out.
//!
//! A weight of 0 is never chosen; whoever retries sets the weights of those already tried to 0
//! ([`open_weights`]).

use std::net::IpAddr;
use std::sync::Arc;

use portcullis_model::EndpointUrl;
use xxhash_rust::xxh64::xxh64;

use crate::world::Choice;

#[cfg(test)]
mod tests;

/// Smooth weighted round robin: of any run of as many choices as the weights sum up to each target gets
/// exactly its weight, and a heavy one does not get its share in one go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Smooth {
    /// How much each target is owed; their sum is 0 between choices.
    owed: Vec<i64>,
}

impl Smooth {
    /// The next target. Another number of weights begins afresh.
    pub fn next(&mut self, weights: &[u32]) -> Option<usize> {
        if self.owed.len() != weights.len() {
            self.owed.clear();
            self.owed.resize(weights.len(), 0);
        }
        let total: i64 = weights.iter().copied().map(i64::from).sum();
        let mut best: Option<(usize, i64)> = None;
        for (at, (owed, weight)) in self.owed.iter_mut().zip(weights).enumerate() {
            if *weight == 0 {
                continue;
            }
            *owed += i64::from(*weight);
            if best.is_none_or(|(_, most)| *owed > most) {
                best = Some((at, *owed));
            }
        }
        let (chosen, _) = best?;
        if let Some(owed) = self.owed.get_mut(chosen) {
            *owed -= total;
        }
        Some(chosen)
    }
}

/// The weights of a choice, without those of targets that were tried.
pub fn open_weights(choice: &Choice<'_>) -> Vec<u32> {
    let open = |(at, weight): (usize, &u32)| {
        if choice.tried.contains(&at) {
            0
        } else {
            *weight
        }
    };
    choice.weights.iter().enumerate().map(open).collect()
}

/// One at random by weight.
pub fn random(weights: &[u32], random: u64) -> Option<usize> {
    let total: u64 = weights.iter().copied().map(u64::from).sum();
    // The upper half of the product is below `total`, and even to 1 in 2^38 for the largest sum.
    let mut left = u64::try_from((u128::from(random) * u128::from(total)) >> 64).ok()?;
    weights.iter().position(|weight| {
        let found = left < u64::from(*weight);
        left = left.saturating_sub(u64::from(*weight));
        found
    })
}

/// Two different ones at random by weight, and of them the one with the lower count. A count that is
/// missing is 0.
pub fn random_two(weights: &[u32], counts: &[u64], seed: u64) -> Option<usize> {
    let first = random(weights, scatter(seed))?;
    let mut others = weights.to_vec();
    if let Some(weight) = others.get_mut(first) {
        *weight = 0;
    }
    let count = |at: usize| counts.get(at).copied().unwrap_or(0);
    let second = random(&others, scatter(seed.wrapping_add(1)));
    Some(match second {
        Some(second) if count(second) < count(first) => second,
        _ => first,
    })
}

/// The one with the fewest for its weight, itself counted in; equals are taken in turn from a random one.
pub fn least(weights: &[u32], counts: &[u64], seed: u64) -> Option<usize> {
    let load = |at: usize| {
        let weight = weights.get(at).copied().filter(|weight| *weight > 0)?;
        let count = counts.get(at).copied().unwrap_or(0).saturating_add(1);
        Some((u128::from(count), u128::from(weight)))
    };
    let start = usize::try_from(scatter(seed) >> 33).ok()?;
    let turn = |at: usize| (start + at) % weights.len().max(1);
    let mut best: Option<(usize, (u128, u128))> = None;
    for at in (0..weights.len()).map(turn) {
        let Some((count, weight)) = load(at) else {
            continue;
        };
        if best.is_none_or(|(_, (best, of))| count * of < best * weight) {
            best = Some((at, (count, weight)));
        }
    }
    best.map(|(at, _)| at)
}

/// The same one for the same client, by weighted rendezvous hashing: when a target goes, only its clients
/// move. `None` among the URLs is a rejection, which is hashed as a target of its own.
pub fn by_client(
    weights: &[u32],
    urls: &[Option<Arc<EndpointUrl>>],
    client: IpAddr,
) -> Option<usize> {
    let names: Vec<u64> = urls
        .iter()
        .map(|url| {
            url.as_ref().map_or(0, |url| {
                xxh64(url.host().as_bytes(), u64::from(url.port()) + 1)
            })
        })
        .collect();
    by_client_of(weights, &names, client)
}

/// The same for targets that are known by a hash of whatever names them.
pub fn by_client_of(weights: &[u32], names: &[u64], client: IpAddr) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (at, (weight, name)) in weights.iter().zip(names).enumerate() {
        if *weight == 0 {
            continue;
        }
        let hash = match crate::cidr::unmap(client) {
            IpAddr::V4(ip) => xxh64(&ip.octets(), *name),
            IpAddr::V6(ip) => xxh64(&ip.octets(), *name),
        };
        // In (0, 1): 52 of its bits, and half a step. -w / ln(h) is the weighted score.
        #[expect(clippy::cast_precision_loss, reason = "52 bits fit a double")]
        let even = ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        let score = -f64::from(*weight) / even.ln();
        if best.is_none_or(|(_, most)| score > most) {
            best = Some((at, score));
        }
    }
    best.map(|(at, _)| at)
}

/// A random number's bits spread over all places (splitmix64), so that a counter serves as one.
fn scatter(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
