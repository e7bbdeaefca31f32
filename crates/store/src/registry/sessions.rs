//! Agent sessions: opened with a credential and an identity, under the node's lease.

use portcullis_model::{Account, AccountId, Code, Error, SessionId, TokenHash, TunnelSession};

use super::draft::Draft;
use super::takeover::{self, Takeover};
use super::{OpenedSession, Registry, Superseded, Written, endpoints};
use crate::records::AgentRecord;
use crate::requests::NewSession;
use crate::{keys, validate};

impl Registry {
    /// Opens a session of an agent that authenticated. A stale session of the same installation ends
    /// with it.
    ///
    /// # Errors
    /// `PTC_CREDENTIAL_REVOKED`, `PTC_AGENT_DUPLICATE`, `PTC_SESSION_LIMIT`, `PTC_SESSION_METADATA_TOO_LONG`.
    pub async fn open_session(&self, new: NewSession) -> Result<Written<OpenedSession>, Error> {
        validate::session_metadata(&new.metadata)?;
        let account = self
            .snapshot()
            .credential_by_id(&new.credential)
            .map(|credential| credential.account.clone());
        let account = account.ok_or_else(|| Error::of(Code::CredentialRevoked))?;
        self.write(account.as_str(), |draft| open(draft, &account, &new))
            .await
    }

    /// Closes a session and its endpoints; fine if it is gone already.
    ///
    /// # Errors
    /// `PTC_STORE_…`.
    pub async fn close_session(&self, id: &SessionId) -> Result<Written<()>, Error> {
        let snapshot = self.snapshot();
        let Some(session) = snapshot.session_by_id(id) else {
            return Ok(Written {
                value: (),
                revision: snapshot.revision(),
            });
        };
        self.write(session.account.as_str(), |draft| {
            let snapshot = draft.snapshot;
            match snapshot.session_by_id(id) {
                None => Ok(()),
                Some(session) => {
                    draft.nothing_new(keys::owned("endpoint", &session.account));
                    draft.still(keys::session(&session.account, id));
                    end(draft, session)
                }
            }
        })
        .await
    }
}

fn open(
    draft: &mut Draft<'_>,
    account_id: &AccountId,
    new: &NewSession,
) -> Result<OpenedSession, Error> {
    let account = draft
        .account(account_id)
        .map_err(|_| Error::of(Code::AccountSuspended))?;
    if draft
        .snapshot
        .credential(account_id, &new.credential)
        .is_none()
    {
        return Err(Error::of(Code::CredentialRevoked));
    }
    draft.still(keys::credential(account_id, &new.credential));
    let (ended, identity) = take_over(draft, account, new)?;
    check_quota(draft, account, ended.len())?;
    for (session, _) in &ended {
        end(draft, session)?;
    }
    if !ended.is_empty() {
        draft.nothing_new(keys::owned("endpoint", account_id));
    }
    // After the endings, for they note in the same record when the installation was last seen.
    draft.put(keys::agent(account_id, &new.agent), &identity)?;
    let session = session(draft, account_id, new)?;
    draft.put_leased(keys::session(account_id, &session.id), &session)?;
    let superseded = ended.into_iter().map(|(session, code)| Superseded {
        session: session.id.clone(),
        code,
    });
    Ok(OpenedSession {
        superseded: superseded.collect(),
        session,
    })
}

/// Sessions that end, and what their agents are told.
type Ended<'a> = Vec<(&'a TunnelSession, Code)>;

/// The sessions of the same installation that end with this one and what their agents are told, and
/// what is known of the installation from now on.
fn take_over<'a>(
    draft: &mut Draft<'a>,
    account: &'a Account,
    new: &NewSession,
) -> Result<(Ended<'a>, AgentRecord), Error> {
    let snapshot = draft.snapshot;
    let known = snapshot.agent(&account.id, &new.agent);
    if known.is_some_and(|known| !known.secret_hash.matches(new.agent_secret.expose())) {
        return Err(duplicate("this agent id belongs to another installation"));
    }
    let live: Vec<&TunnelSession> = snapshot
        .sessions(&account.id)
        .map(|session| &**session)
        .filter(|session| session.agent == new.agent)
        .collect();
    let node = &snapshot.settings().node;
    let Takeover::Open {
        ended,
        refused_generation,
        takeovers,
        takeovers_since,
    } = takeover::decide(known, &live, new.generation, node, draft.now)
    else {
        return Err(duplicate(
            "another live agent runs with the same state directory",
        ));
    };
    let secret_hash = known.map_or_else(
        || TokenHash::of(new.agent_secret.expose()),
        |known| known.secret_hash.clone(),
    );
    let record = AgentRecord {
        secret_hash,
        refused_generation,
        takeovers,
        takeovers_since,
        seen_at: draft.now,
    };
    // Two sessions of one installation that open at once: the second sees the first.
    draft.nothing_new(keys::agent(&account.id, &new.agent));
    Ok((ended, record))
}

/// Whether the account may have one session more, when some end in the same write.
fn check_quota(draft: &mut Draft<'_>, account: &Account, ending: usize) -> Result<(), Error> {
    let Some(most) = draft.snapshot.settings().plan(account).sessions_max else {
        return Ok(());
    };
    let count = draft
        .snapshot
        .sessions(&account.id)
        .count()
        .saturating_sub(ending);
    if count >= usize::try_from(most).unwrap_or(usize::MAX) {
        let message = format!(
            "the account has {count} agent sessions, as many as its plan `{}` allows",
            account.plan
        );
        return Err(Error::new(Code::SessionLimit, message));
    }
    draft.nothing_new(keys::owned("session", &account.id));
    Ok(())
}

fn duplicate(why: &str) -> Error {
    Error::new(
        Code::AgentDuplicate,
        format!("{why}. {}", Code::AgentDuplicate.remedy()),
    )
}

fn session(
    draft: &Draft<'_>,
    account: &AccountId,
    new: &NewSession,
) -> Result<TunnelSession, Error> {
    let settings = draft.snapshot.settings();
    Ok(TunnelSession {
        id: draft.id(SessionId::new)?,
        account: account.clone(),
        credential: new.credential.clone(),
        agent: new.agent.clone(),
        generation: new.generation,
        node: settings.node.clone(),
        ip: new.ip,
        agent_version: validate::shown(&new.agent_version),
        os: validate::shown(&new.os),
        arch: validate::shown(&new.arch),
        hostname: validate::shown(&new.hostname),
        region: settings.region.clone(),
        metadata: new.metadata.clone(),
        started_at: draft.now,
    })
}

/// Deletes a session and its endpoints. The caller guards that no endpoint was bound meanwhile.
pub(super) fn end(draft: &mut Draft<'_>, session: &TunnelSession) -> Result<(), Error> {
    let snapshot = draft.snapshot;
    let own: Vec<_> = snapshot
        .endpoints(&session.account)
        .map(|entry| entry.record())
        .filter(|endpoint| endpoint.session() == Some(&session.id))
        .collect();
    endpoints::remove(draft, &own)?;
    if let Some(known) = snapshot.agent(&session.account, &session.agent) {
        let seen = AgentRecord {
            seen_at: draft.now,
            ..known.clone()
        };
        draft.nothing_new(keys::agent(&session.account, &session.agent));
        draft.put(keys::agent(&session.account, &session.agent), &seen)?;
    }
    draft.delete(keys::session(&session.account, &session.id));
    Ok(())
}
