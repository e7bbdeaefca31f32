//! Requests that share one commit: applied in order, then made durable by one fsync, then answered.

use std::time::{Duration, Instant};

use super::{Answer, Backend, Command, Engine, Lease, Request};
use crate::error::StoreError;
use crate::kv::{Change, Entry, Guard, LeaseId, Listing, Op, Txn, TxnOutcome};

/// What a batch did so far, to be published when it has committed.
struct Staged {
    revision: u64,
    changes: Vec<Vec<Change>>,
    granted: Vec<(LeaseId, Duration)>,
    revoked: Vec<LeaseId>,
}

impl Staged {
    fn is_clean(&self) -> bool {
        self.changes.is_empty() && self.granted.is_empty() && self.revoked.is_empty()
    }
}

impl<B: Backend> Engine<B> {
    /// Serves requests in their order. If their common commit fails, each is tried by itself, so that
    /// one that does not fit takes no other with it.
    pub(super) fn serve(&mut self, batch: Vec<Request>) {
        let (commands, waiting): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|request| (request.command, (request.reply, request._slot)))
            .unzip();
        let answers: Vec<Result<Answer, StoreError>> = match self.attempt(&commands) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) if commands.len() == 1 => vec![Err(error)],
            Err(_) => commands
                .chunks(1)
                .map(|one| self.attempt(one)?.pop().ok_or_else(lost))
                .collect(),
        };
        for ((reply, _slot), answer) in waiting.into_iter().zip(answers) {
            if reply.send(answer).is_err() {
                tracing::trace!("a caller went away before its answer; the write stands");
            }
        }
    }

    /// Applies commands in one transaction of the backend and publishes what they changed.
    pub(super) fn attempt(&mut self, commands: &[Command]) -> Result<Vec<Answer>, StoreError> {
        let mut staged = Staged {
            revision: self.revision,
            changes: Vec::new(),
            granted: Vec::new(),
            revoked: Vec::new(),
        };
        let writes = commands
            .iter()
            .any(|command| !matches!(command, Command::Get(_) | Command::List(_)));
        if !writes {
            return commands
                .iter()
                .map(|command| self.apply(command, &mut staged))
                .collect();
        }
        self.backend.begin()?;
        let applied: Result<Vec<Answer>, StoreError> = commands
            .iter()
            .map(|command| self.apply(command, &mut staged))
            .collect();
        match applied {
            Ok(answers) if staged.is_clean() => {
                self.backend.rollback();
                Ok(answers)
            }
            Ok(answers) => {
                self.commit(&staged)?;
                self.publish(staged);
                Ok(answers)
            }
            Err(error) => {
                self.backend.rollback();
                Err(error)
            }
        }
    }

    fn commit(&mut self, staged: &Staged) -> Result<(), StoreError> {
        let Err(error) = self.backend.commit(staged.revision) else {
            return Ok(());
        };
        self.backend.rollback();
        // A commit may fail after it became durable; what the backend says now decides.
        match self.backend.revision() {
            Ok(revision) if revision == staged.revision && revision != self.revision => Ok(()),
            Ok(_) | Err(_) => Err(error),
        }
    }

    fn publish(&mut self, staged: Staged) {
        let now = Instant::now();
        for (id, ttl) in staged.granted {
            self.leases.insert(
                id,
                Lease {
                    ttl,
                    deadline: now + ttl,
                },
            );
        }
        for id in staged.revoked {
            self.leases.remove(&id);
        }
        self.revision = staged.revision;
        {
            let mut history = self.lock_history();
            staged
                .changes
                .into_iter()
                .for_each(|changes| history.push(changes));
        }
        self.published.send_replace(self.revision);
    }

    fn apply(&mut self, command: &Command, staged: &mut Staged) -> Result<Answer, StoreError> {
        match command {
            Command::Get(key) => Ok(Answer::Entry(self.backend.get(key)?)),
            Command::List(prefix) => {
                let entries = self.backend.list(prefix)?;
                Ok(Answer::Listing(Listing {
                    entries,
                    revision: staged.revision,
                }))
            }
            Command::Txn(txn) => self.txn(txn, staged).map(Answer::Txn),
            Command::Grant(ttl) => self.grant(*ttl, staged).map(Answer::Lease),
            Command::KeepAlive(id) => {
                let lease = self.leases.get_mut(id).ok_or(StoreError::LeaseGone)?;
                lease.deadline = Instant::now() + lease.ttl;
                Ok(Answer::Done)
            }
            Command::Revoke(id) => self.revoke(*id, staged).map(|()| Answer::Done),
        }
    }

    fn txn(&mut self, txn: &Txn, staged: &mut Staged) -> Result<TxnOutcome, StoreError> {
        check(txn)?;
        for guard in &txn.guards {
            if !self.holds(guard)? {
                return Ok(TxnOutcome::Refused {
                    revision: staged.revision,
                });
            }
        }
        let revision = staged.revision + 1;
        let mut changes = Vec::with_capacity(txn.ops.len());
        for op in &txn.ops {
            if let Op::Put {
                lease: Some(lease), ..
            } = op
                && (!self.leases.contains_key(lease) || staged.revoked.contains(lease))
            {
                // Nothing of this transaction was written yet when it is the first put; else the whole
                // batch is rolled back by the error.
                return Err(StoreError::LeaseGone);
            }
            changes.extend(self.write(op, revision)?);
        }
        if !changes.is_empty() {
            staged.revision = revision;
            staged.changes.push(changes);
        }
        Ok(TxnOutcome::Committed {
            revision: staged.revision,
        })
    }

    fn holds(&mut self, guard: &Guard) -> Result<bool, StoreError> {
        Ok(match guard {
            Guard::Exists(key) => self.backend.get(key)?.is_some(),
            Guard::Absent(key) => self.backend.get(key)?.is_none(),
            Guard::ModRevision(key, revision) => {
                self.backend.get(key)?.map_or(0, |entry| entry.mod_revision) == *revision
            }
            Guard::Value(key, value) => self
                .backend
                .get(key)?
                .is_some_and(|entry| entry.value == *value),
            Guard::NoneNewer { prefix, revision } => self.backend.newest(prefix)? <= *revision,
        })
    }

    fn write(&mut self, op: &Op, revision: u64) -> Result<Option<Change>, StoreError> {
        let old = self.backend.get(op.key())?;
        match op {
            Op::Put { key, value, lease } => {
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision: old.map_or(revision, |old| old.create_revision),
                    mod_revision: revision,
                    lease: *lease,
                };
                self.backend.put(&entry)?;
                Ok(Some(Change {
                    revision,
                    key: key.clone(),
                    entry: Some(entry),
                }))
            }
            Op::Delete { key } if old.is_some() => {
                self.backend.delete(key)?;
                Ok(Some(Change {
                    revision,
                    key: key.clone(),
                    entry: None,
                }))
            }
            Op::Delete { .. } => Ok(None),
        }
    }

    fn grant(&mut self, ttl: Duration, staged: &mut Staged) -> Result<LeaseId, StoreError> {
        let newest = self.leases.keys().next_back().map_or(0, |id| id.0);
        let staged_newest = staged.granted.iter().map(|(id, _)| id.0).max().unwrap_or(0);
        let mut random = [0_u8; 2];
        getrandom::fill(&mut random).map_err(|cause| StoreError::Unavailable {
            cause: cause.to_string(),
        })?;
        // A random step, so that the id of a lease that ended is hardly ever given again.
        let id = LeaseId(newest.max(staged_newest) + 1 + i64::from(u16::from_le_bytes(random)));
        self.backend.lease_put(id, ttl)?;
        staged.granted.push((id, ttl));
        Ok(id)
    }

    fn revoke(&mut self, id: LeaseId, staged: &mut Staged) -> Result<(), StoreError> {
        if !self.leases.contains_key(&id) || staged.revoked.contains(&id) {
            return Err(StoreError::LeaseGone);
        }
        let revision = staged.revision + 1;
        let mut changes = Vec::new();
        for key in self.backend.lease_keys(id)? {
            changes.extend(self.write(&Op::Delete { key }, revision)?);
        }
        self.backend.lease_delete(id)?;
        staged.revoked.push(id);
        if !changes.is_empty() {
            staged.revision = revision;
            staged.changes.push(changes);
        }
        Ok(())
    }
}

fn check(txn: &Txn) -> Result<(), StoreError> {
    let mut keys = std::collections::BTreeSet::new();
    match txn.ops.iter().find(|op| !keys.insert(op.key())) {
        Some(twice) => Err(StoreError::Invalid {
            cause: format!("`{}` is changed twice", twice.key()),
        }),
        None => Ok(()),
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable {
        cause: "an answer was lost".to_owned(),
    }
}
