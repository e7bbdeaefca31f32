//! Pools: which member gets a connection.
//!
//! Members are ranked (well, ejected, unhealthy, gone), and one of the best rank is chosen by the strategy of
//! the oldest member. Where nobody is well the next rank serves: a wrong check must not take a service down.
//!
//! Must never: wait; everything comes from an immutable snapshot and from this node's counts.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use portcullis_model::PoolStrategy;
use portcullis_model::endpoint::Holder;
use portcullis_policy::balance;
use portcullis_store::{EndpointEntry, Pool, Snapshot};
use rand::Rng as _;
use tokio::time::Instant;

use crate::node::Node;
use crate::route::{Routed, Tries};
use crate::status::Standing;
use crate::status::ejection::stay_ejected;

/// How promising a member is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Well,
    Ejected,
    Unhealthy,
    Gone,
}

/// A member of the pool that was not tried.
pub(crate) fn member(node: &Node, pool: &Pool, tries: &Tries) -> Option<Routed> {
    // One alone is it, however it fares; most pools are that small.
    if let [only] = pool.members.as_slice() {
        return (!tries.was_tried(&only.id)).then(|| Routed {
            endpoint: Arc::clone(only),
            others: false,
        });
    }
    let ranks: Vec<_> = ranks(node, pool)
        .into_iter()
        .zip(&pool.members)
        .map(|(rank, member)| (!tries.was_tried(&member.id)).then_some(rank))
        .collect();
    let own: Vec<u32> = pool
        .members
        .iter()
        .map(|member| member.pool.weight)
        .collect();
    let weights = weights(&ranks, &own)?;
    let chosen = choose(node, pool, &weights, tries)?;
    let others = ranks.iter().flatten().count() > 1;
    pool.members.get(chosen).map(|endpoint| Routed {
        endpoint: Arc::clone(endpoint),
        others,
    })
}

/// Says which endpoints came or changed since `before` and ask for another strategy than their pool has.
pub(crate) fn tell_disagreement(before: &Snapshot, now: &Snapshot) {
    for endpoint in now
        .all_endpoints()
        .filter(|endpoint| endpoint.pooling_enabled)
    {
        let old = before.endpoint_by_id(&endpoint.id);
        if old.is_some_and(|old| old.pool == endpoint.pool && old.url == endpoint.url) {
            continue;
        }
        let pool = now.pool_of(endpoint.record());
        let Some(oldest) = pool.and_then(|pool| pool.members.first()) else {
            continue;
        };
        if oldest.pool.strategy != endpoint.pool.strategy {
            let (asks, in_use) = (endpoint.pool.strategy, oldest.pool.strategy);
            tracing::warn!(endpoint = %endpoint.id, url = %endpoint.url, %asks, %in_use, oldest = %oldest.id, "the pool goes by the strategy of its oldest member");
        }
    }
}

/// The rank of every member.
fn ranks(node: &Node, pool: &Pool) -> Vec<Rank> {
    let mut until: Vec<Option<Instant>> = Vec::new();
    let mut ranks: Vec<Rank> = Vec::with_capacity(pool.members.len());
    for member in &pool.members {
        let rank = match node.status.standing(&member.id) {
            _ if !lives(node, member) => Rank::Gone,
            Standing::Unhealthy => Rank::Unhealthy,
            Standing::Ejected(at) => {
                until.resize(ranks.len(), None);
                until.push(Some(at));
                Rank::Ejected
            }
            Standing::Well => Rank::Well,
        };
        ranks.push(rank);
    }
    if until.is_empty() {
        return ranks;
    }
    until.resize(ranks.len(), None);
    let well: Vec<usize> = (0..ranks.len())
        .filter(|at| matches!(ranks[*at], Rank::Well | Rank::Ejected))
        .collect();
    let theirs: Vec<_> = well.iter().map(|at| until[*at]).collect();
    for (at, stays) in well.into_iter().zip(stay_ejected(&theirs)) {
        if ranks[at] == Rank::Ejected && !stays {
            ranks[at] = Rank::Well;
        }
    }
    ranks
}

/// Whether the endpoint can be opened from here: its policy decides, the edge dials, or its session is
/// connected to this node.
fn lives(node: &Node, endpoint: &EndpointEntry) -> bool {
    match &endpoint.holder {
        Some(Holder::Session { session, .. }) => node.sessions.serves(session),
        Some(Holder::Direct { .. }) | None => true,
    }
}

/// The weights of the best rank that has any member; 0 for all others. Where all of that rank weigh
/// nothing they weigh the same. `None`: nobody is left.
fn weights(ranks: &[Option<Rank>], own: &[u32]) -> Option<Vec<u32>> {
    let best = ranks.iter().flatten().min().copied()?;
    let of = |at: usize, weight: u32| match ranks.get(at) {
        Some(Some(rank)) if *rank == best => weight,
        _ => 0,
    };
    let weights: Vec<u32> = own
        .iter()
        .enumerate()
        .map(|(at, weight)| of(at, *weight))
        .collect();
    if weights.iter().any(|weight| *weight > 0) {
        return Some(weights);
    }
    Some((0..own.len()).map(|at| of(at, 1)).collect())
}

/// The place of the member that gets the connection.
fn choose(node: &Node, pool: &Pool, weights: &[u32], tries: &Tries) -> Option<usize> {
    if let [only] = weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0)
        .map(|(at, _)| at)
        .take(2)
        .collect::<Vec<_>>()
        .as_slice()
    {
        return Some(*only);
    }
    let counts = || -> Vec<u64> {
        let each = pool.members.iter();
        each.map(|member| u64::from(node.admission.count_of(&member.id)))
            .collect()
    };
    let seed = rand::rng().next_u64();
    let strategy = pool.members.first()?.pool.strategy;
    match strategy {
        PoolStrategy::Weighted => turn(node, pool, weights, tries, seed),
        PoolStrategy::Random => balance::random(weights, seed),
        PoolStrategy::LeastConnections => balance::least(weights, &counts(), seed),
        PoolStrategy::RandomTwo => balance::random_two(weights, &counts(), seed),
        PoolStrategy::HashClientIp => {
            let names: Vec<u64> = pool.members.iter().map(|member| name(member)).collect();
            balance::by_client_of(weights, &names, tries.client())
        }
    }
}

/// The next in turn. Who comes again because the first did not answer is drawn: the order of turns is for
/// those who come first, and stays exact. Who is decided afresh keeps its turn.
fn turn(node: &Node, pool: &Pool, weights: &[u32], tries: &Tries, seed: u64) -> Option<usize> {
    if !tries.is_first() {
        return balance::random(weights, seed);
    }
    let mut turns = tries.turns();
    let had = pool
        .members
        .iter()
        .zip(weights)
        .position(|(member, weight)| *weight > 0 && turns.contains(&member.id));
    if had.is_some() {
        return had;
    }
    let (first, last) = (pool.members.first()?, pool.members.last()?);
    let state = &node.policy_state;
    let key = state.key_of(first.id.as_str(), "pool", last.id.as_str());
    let chosen = state.turn(key, weights)?;
    turns.push(pool.members.get(chosen)?.id.clone());
    Some(chosen)
}

/// What a member is known by across restarts of its agent: a new session gives it a new id, and its clients
/// are to stay with it.
fn name(member: &EndpointEntry) -> u64 {
    let mut hasher = DefaultHasher::new(); // without keys: the same on every node and after a start
    match &member.holder {
        Some(Holder::Session { agent, .. }) => {
            (agent.as_str(), member.name.as_str()).hash(&mut hasher)
        }
        Some(Holder::Direct { upstream }) => {
            (upstream.as_str(), member.name.as_str()).hash(&mut hasher)
        }
        None => member.id.as_str().hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_rank_alone_has_weight() {
        let ranks = [
            Some(Rank::Gone),
            Some(Rank::Well),
            None,
            Some(Rank::Ejected),
            Some(Rank::Well),
        ];
        assert_eq!(weights(&ranks, &[9, 1, 9, 9, 3]), Some(vec![0, 1, 0, 0, 3]));
        let sick = [Some(Rank::Gone), Some(Rank::Unhealthy), None];
        assert_eq!(weights(&sick, &[9, 2, 9]), Some(vec![0, 2, 0]));
        assert_eq!(
            weights(&[None, Some(Rank::Gone)], &[1, 1]),
            Some(vec![0, 1])
        );
        assert_eq!(weights(&[None, None], &[1, 1]), None);
        assert_eq!(weights(&[], &[]), None);
    }

    #[test]
    fn a_weight_of_nothing_gets_none_while_another_has_one() {
        let well = [Some(Rank::Well), Some(Rank::Well), Some(Rank::Unhealthy)];
        assert_eq!(weights(&well, &[0, 5, 5]), Some(vec![0, 5, 0]));
        assert_eq!(weights(&well, &[0, 0, 5]), Some(vec![1, 1, 0]));
    }
}
