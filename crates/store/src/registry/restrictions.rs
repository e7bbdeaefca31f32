//! IP restrictions: what an account lets in by address, by IP policies that stay as long as one uses them.

use std::collections::BTreeSet;

use portcullis_model::access::IpRestriction;
use portcullis_model::id::{IpPolicyId, IpRestrictionId};
use portcullis_model::{AccountId, Code, Error};

use super::draft::Draft;
use super::{Registry, Written, ip_policies};
use crate::requests::{IpRestrictionUpdate, NewIpRestriction};
use crate::{defaults, keys, validate};

impl Registry {
    /// Makes an IP restriction. What it is asked for from then on abides by it.
    ///
    /// # Errors
    /// `PTC_ACCOUNT_NOT_FOUND`, `PTC_IP_RESTRICTION_LIMIT`, `PTC_IP_POLICY_NOT_FOUND`, `PTC_API_MISSING_FIELD`,
    /// lengths.
    pub async fn create_ip_restriction(
        &self,
        account: &AccountId,
        new: NewIpRestriction,
    ) -> Result<Written<IpRestriction>, Error> {
        self.write(account.as_str(), |draft| create(draft, account, &new))
            .await
    }

    /// Changes an IP restriction; what is asked for from then on abides by the change.
    ///
    /// # Errors
    /// `PTC_IP_RESTRICTION_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, `PTC_IP_POLICY_NOT_FOUND`,
    /// `PTC_API_MISSING_FIELD`, lengths.
    pub async fn update_ip_restriction(
        &self,
        account: &AccountId,
        id: &IpRestrictionId,
        update: IpRestrictionUpdate,
    ) -> Result<Written<IpRestriction>, Error> {
        validate::not_empty(&update)?;
        self.write(account.as_str(), |draft| {
            change(draft, account, id, &update)
        })
        .await
    }

    /// Deletes an IP restriction.
    ///
    /// # Errors
    /// `PTC_IP_RESTRICTION_NOT_FOUND`.
    pub async fn delete_ip_restriction(
        &self,
        account: &AccountId,
        id: &IpRestrictionId,
    ) -> Result<Written<()>, Error> {
        self.write(account.as_str(), |draft| {
            find(draft, account, id)?;
            draft.unchanged(keys::ip_restriction(account, id));
            draft.delete(keys::ip_restriction(account, id));
            Ok(())
        })
        .await
    }
}

fn create(
    draft: &mut Draft<'_>,
    account: &AccountId,
    new: &NewIpRestriction,
) -> Result<IpRestriction, Error> {
    draft.account(account)?;
    validate::texts(&new.description, &new.metadata)?;
    let count = draft.snapshot.ip_restrictions(account).count();
    if count >= defaults::IP_RESTRICTIONS_MAX {
        let message = format!("the account has {count} IP restrictions, as many as it may");
        return Err(Error::new(Code::IpRestrictionLimit, message));
    }
    let restriction = IpRestriction {
        id: draft.id(IpRestrictionId::new)?,
        account: account.clone(),
        kind: new.kind,
        enforced: new.enforced,
        policies: policies(draft, account, &new.policies)?,
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        created_at: draft.now,
    };
    draft.put(keys::ip_restriction(account, &restriction.id), &restriction)?;
    Ok(restriction)
}

fn change(
    draft: &mut Draft<'_>,
    account: &AccountId,
    id: &IpRestrictionId,
    update: &IpRestrictionUpdate,
) -> Result<IpRestriction, Error> {
    let mut restriction = find(draft, account, id)?.clone();
    let into = (&mut restriction.description, &mut restriction.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    if let Some(enforced) = update.enforced {
        restriction.enforced = enforced;
    }
    if let Some(wanted) = &update.policies {
        restriction.policies = policies(draft, account, wanted)?;
    }
    draft.unchanged(keys::ip_restriction(account, id));
    draft.put(keys::ip_restriction(account, id), &restriction)?;
    Ok(restriction)
}

fn find<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    id: &IpRestrictionId,
) -> Result<&'a IpRestriction, Error> {
    let found = draft.snapshot.ip_restriction(account, id);
    found.map(|restriction| &**restriction).ok_or_else(|| {
        let message = format!("no IP restriction {id} in this account");
        Error::new(Code::IpRestrictionNotFound, message)
    })
}

/// The policies, each once in the order given; they are there, and still are when the write happens.
fn policies(
    draft: &mut Draft<'_>,
    account: &AccountId,
    wanted: &[IpPolicyId],
) -> Result<Vec<IpPolicyId>, Error> {
    let (count, most) = (wanted.len(), defaults::RESTRICTION_POLICIES_MAX);
    if wanted.is_empty() {
        // One without a network would let nobody in.
        let message = "`ip_policy_ids` is required: at least one IP policy";
        return Err(Error::new(Code::ApiMissingField, message));
    }
    if count > most {
        let message = format!("{count} IP policies are named; at most {most} are allowed");
        return Err(Error::new(Code::ApiInvalidValue, message));
    }
    let each: BTreeSet<IpPolicyId> = wanted.iter().cloned().collect();
    let absent = ip_policies::guard(draft, account, &each);
    if !absent.is_empty() {
        let message = format!("the account does not have {}", absent.join(", "));
        return Err(Error::new(Code::IpPolicyNotFound, message));
    }
    let mut kept: Vec<IpPolicyId> = Vec::with_capacity(each.len());
    for id in wanted {
        if !kept.contains(id) {
            kept.push(id.clone());
        }
    }
    Ok(kept)
}

/// Deletes all of an account's, which goes itself.
pub(super) fn forget_all(draft: &mut Draft<'_>, account: &AccountId) {
    let snapshot = draft.snapshot;
    for restriction in snapshot.ip_restrictions(account) {
        draft.delete(keys::ip_restriction(account, &restriction.id));
    }
}
