//! Who wins when an agent installation that has a session opens another. Pure.
//!
//! A generation is one run of an agent process. A newer run takes over from an older one's stale
//! session at once, and a run from its own. An older run that comes back while a newer one is served
//! shows that both live (a copied state directory): the older wins, and the newer is told so.

use portcullis_model::{Code, Timestamp, TunnelSession};

use crate::defaults;
use crate::records::AgentRecord;

/// What happens to the sessions there are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Takeover<'a> {
    /// The new session opens; these end, and their agents are told the code.
    Open {
        ended: Vec<(&'a TunnelSession, Code)>,
        /// A generation that is refused as long as an older one is served.
        refused_generation: Option<u64>,
        takeovers: u32,
        takeovers_since: Timestamp,
    },
    /// The new session is refused; what is served stays.
    Refuse,
}

/// Decides. `live` are the sessions of the installation; those of the same run on other nodes stay.
pub(super) fn decide<'a>(
    record: Option<&AgentRecord>,
    live: &[&'a TunnelSession],
    generation: u64,
    node: &str,
    now: Timestamp,
) -> Takeover<'a> {
    let refused = record.and_then(|record| record.refused_generation);
    if refused == Some(generation) && live.iter().any(|session| session.generation < generation) {
        return Takeover::Refuse;
    }
    let in_window =
        record.filter(|record| now.since(record.takeovers_since) < defaults::TAKEOVER_WINDOW);
    let (mut takeovers, takeovers_since) = in_window.map_or((0, now), |record| {
        (record.takeovers, record.takeovers_since)
    });
    let same = |session: &&&TunnelSession| session.generation == generation && session.node == node;
    if live.iter().any(|session| same(&session)) {
        if takeovers >= defaults::TAKEOVERS_MAX {
            return Takeover::Refuse;
        }
        takeovers += 1;
    }
    let newer = live
        .iter()
        .map(|session| session.generation)
        .filter(|other| *other > generation)
        .max();
    let ended = live
        .iter()
        .filter(|session| session.generation != generation || same(session))
        .map(|session| {
            let code = if session.generation > generation {
                Code::AgentDuplicate
            } else {
                Code::AgentFenced
            };
            (*session, code)
        })
        .collect();
    Takeover::Open {
        ended,
        refused_generation: newer.or(refused),
        takeovers,
        takeovers_since,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis_model::{AccountId, AgentId, CredentialId, SessionId, TokenHash};

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn now() -> Timestamp {
        Timestamp::from_unix_millis(NOW)
    }

    fn session(generation: u64, node: &str) -> TunnelSession {
        TunnelSession {
            id: SessionId::new(1_700_000_000, [generation as u8; 16]),
            account: AccountId::new(1_700_000_000, [1; 16]),
            credential: CredentialId::new(1_700_000_000, [1; 16]),
            agent: AgentId::new(1_700_000_000, [1; 16]),
            generation,
            node: node.into(),
            ip: std::net::Ipv4Addr::LOCALHOST.into(),
            agent_version: String::new(),
            os: String::new(),
            arch: String::new(),
            hostname: String::new(),
            region: String::new(),
            metadata: String::new(),
            started_at: now(),
        }
    }

    fn record(refused_generation: Option<u64>, takeovers: u32) -> AgentRecord {
        AgentRecord {
            secret_hash: TokenHash::of("s"),
            refused_generation,
            takeovers,
            takeovers_since: now(),
            seen_at: now(),
        }
    }

    fn codes(takeover: Takeover<'_>) -> Vec<(u64, Code)> {
        match takeover {
            Takeover::Open { ended, .. } => ended
                .iter()
                .map(|(session, code)| (session.generation, *code))
                .collect(),
            Takeover::Refuse => panic!("refused"),
        }
    }

    #[test]
    fn a_newer_run_takes_over_wherever_the_older_is() {
        let (here, there) = (session(5, "a"), session(5, "b"));
        let ended = codes(decide(None, &[&here, &there], 6, "a", now()));
        assert_eq!(ended, [(5, Code::AgentFenced), (5, Code::AgentFenced)]);
    }

    #[test]
    fn a_run_takes_over_its_own_stale_session_but_not_the_one_on_another_node() {
        let (here, there) = (session(5, "a"), session(5, "b"));
        let ended = codes(decide(None, &[&here, &there], 5, "a", now()));
        assert_eq!(ended, [(5, Code::AgentFenced)]);
    }

    #[test]
    fn the_older_of_two_live_runs_wins_and_the_newer_stays_refused() {
        let newer = session(6, "a");
        let Takeover::Open {
            ended,
            refused_generation,
            ..
        } = decide(None, &[&newer], 5, "a", now())
        else {
            panic!("refused");
        };
        assert_eq!(ended, [(&newer, Code::AgentDuplicate)]);
        assert_eq!(refused_generation, Some(6));
        let older = session(5, "a");
        let known = record(Some(6), 0);
        assert_eq!(
            decide(Some(&known), &[&older], 6, "a", now()),
            Takeover::Refuse
        );
        assert_eq!(
            codes(decide(Some(&known), &[&older], 7, "a", now())),
            [(5, Code::AgentFenced)],
            "a new start"
        );
        assert_eq!(
            codes(decide(Some(&known), &[], 6, "a", now())),
            [],
            "the older has gone"
        );
    }

    #[test]
    fn runs_of_the_same_generation_that_fight_end_with_the_one_served() {
        let live = session(5, "a");
        let tired = record(None, defaults::TAKEOVERS_MAX);
        assert_eq!(
            decide(Some(&tired), &[&live], 5, "a", now()),
            Takeover::Refuse
        );
        let later = now().plus(defaults::TAKEOVER_WINDOW + Duration::from_secs(1));
        assert_eq!(
            codes(decide(Some(&tired), &[&live], 5, "a", later)),
            [(5, Code::AgentFenced)]
        );
    }
}
