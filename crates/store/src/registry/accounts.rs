//! Accounts: unique names, known plans, and nothing left behind when one goes.

use portcullis_model::{Account, AccountId, Code, Error};

use super::draft::Draft;
use super::{Registry, Written, certificates, claims, ip_policies, restrictions, vaults};
use crate::keys;
use crate::requests::{AccountUpdate, NewAccount};
use crate::settings::Settings;
use crate::validate;

/// Writes to accounts go one after the other, so that names and admin keys are judged by one at a time.
pub(super) const QUEUE: &str = "accounts";

impl Registry {
    /// Makes an account.
    ///
    /// # Errors
    /// `PTC_NAME_INVALID`, `PTC_ACCOUNT_EXISTS`, `PTC_PLAN_UNKNOWN`, lengths, `PTC_STORE_…`.
    pub async fn create_account(&self, new: NewAccount) -> Result<Written<Account>, Error> {
        self.write(QUEUE, |draft| create(draft, &new)).await
    }

    /// Changes an account.
    ///
    /// # Errors
    /// As [`Self::create_account`], `PTC_ACCOUNT_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`.
    pub async fn update_account(
        &self,
        id: &AccountId,
        update: AccountUpdate,
    ) -> Result<Written<Account>, Error> {
        validate::not_empty(&update)?;
        self.write(QUEUE, |draft| change(draft, id, &update)).await
    }

    /// Deletes an account; with `force` everything it owns as well. Its addresses rest.
    ///
    /// # Errors
    /// `PTC_ACCOUNT_NOT_FOUND`, `PTC_ACCOUNT_NOT_EMPTY`, `PTC_LAST_ADMIN_KEY`.
    pub async fn delete_account(&self, id: &AccountId, force: bool) -> Result<Written<()>, Error> {
        self.write(QUEUE, |draft| delete(draft, id, force)).await
    }
}

pub(super) fn create(draft: &mut Draft<'_>, new: &NewAccount) -> Result<Account, Error> {
    let account = Account {
        id: draft.id(AccountId::new)?,
        name: new.name.clone(),
        plan: new.plan.clone().unwrap_or_else(|| "default".to_owned()),
        verified: new.verified,
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        created_at: draft.now,
    };
    validate::texts(&new.description, &new.metadata)?;
    check_plan(draft.snapshot.settings(), &account.plan)?;
    claim_name(draft, &account)?;
    draft.put(keys::account(&account.id), &account)?;
    Ok(account)
}

fn check_plan(settings: &Settings, plan: &str) -> Result<(), Error> {
    if settings.plans.contains_key(plan) {
        return Ok(());
    }
    let known: Vec<&str> = settings.plans.keys().map(String::as_str).collect();
    Err(Error::new(
        Code::PlanUnknown,
        format!(
            "there is no plan {plan:?}; the plans are {}",
            known.join(", ")
        ),
    ))
}

fn claim_name(draft: &mut Draft<'_>, account: &Account) -> Result<(), Error> {
    validate::account_name(&account.name)?;
    if draft.snapshot.account_by_name(&account.name).is_some() {
        return Err(Error::new(
            Code::AccountExists,
            format!("an account named {:?} exists", account.name),
        ));
    }
    draft.absent(keys::account_name(&account.name));
    draft.put(keys::account_name(&account.name), &account.id)
}

fn change(draft: &mut Draft<'_>, id: &AccountId, update: &AccountUpdate) -> Result<Account, Error> {
    let mut account = draft.account(id)?.clone();
    let into = (&mut account.description, &mut account.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    if let Some(plan) = &update.plan {
        check_plan(draft.snapshot.settings(), plan)?;
        account.plan.clone_from(plan);
    }
    if let Some(verified) = update.verified {
        account.verified = verified;
    }
    if let Some(name) = update.name.as_ref().filter(|name| **name != account.name) {
        draft.delete(keys::account_name(&account.name));
        account.name.clone_from(name);
        claim_name(draft, &account)?;
    }
    draft.unchanged(keys::account(id));
    draft.put(keys::account(id), &account)?;
    Ok(account)
}

fn delete(draft: &mut Draft<'_>, id: &AccountId, force: bool) -> Result<(), Error> {
    let account = draft.account(id)?;
    let snapshot = draft.snapshot;
    let owned = [
        ("endpoints", snapshot.endpoints(id).count()),
        ("addresses", snapshot.addresses(id).count()),
        ("credentials", snapshot.credentials(id).count()),
        ("sessions", snapshot.sessions(id).count()),
        ("IP policies", snapshot.ip_policies(id).count()),
        ("IP restrictions", snapshot.ip_restrictions(id).count()),
        ("vaults", snapshot.vaults(id).count()),
        ("certificate authorities", snapshot.authorities(id).count()),
        ("TLS certificates", snapshot.tls_certificates(id).count()),
    ];
    let left: Vec<String> = owned
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    if !force && !left.is_empty() {
        let message = format!(
            "account {:?} still has {}; delete them first, or pass --force",
            account.name,
            left.join(", ")
        );
        return Err(Error::new(Code::AccountNotEmpty, message));
    }
    keep_an_admin(draft, id)?;
    keys::OWNED
        .iter()
        .for_each(|kind| draft.nothing_new(keys::owned(kind, id)));
    delete_owned(draft, id)?;
    draft.unchanged(keys::account(id));
    draft.delete(keys::account_name(&account.name));
    draft.delete(keys::account(id));
    Ok(())
}

/// Someone must be able to administer the server afterwards.
fn keep_an_admin(draft: &mut Draft<'_>, leaving: &AccountId) -> Result<(), Error> {
    if !draft
        .snapshot
        .admin_keys()
        .any(|key| key.account == *leaving)
    {
        return Ok(());
    }
    let Some(other) = draft
        .snapshot
        .admin_keys()
        .find(|key| key.account != *leaving)
    else {
        return Err(Error::new(
            Code::LastAdminKey,
            "the account has the last admin key; make an admin key in another account first",
        ));
    };
    draft.still(keys::admin_key(&other.id));
    Ok(())
}

fn delete_owned(draft: &mut Draft<'_>, id: &AccountId) -> Result<(), Error> {
    let snapshot = draft.snapshot;
    for endpoint in snapshot.endpoints(id) {
        draft.delete(keys::endpoint(id, &endpoint.id));
        draft.delete(keys::url_marker(endpoint));
    }
    for addr in snapshot.addresses(id) {
        draft.delete(keys::address(id, &addr.id));
    }
    for session in snapshot.sessions(id) {
        draft.delete(keys::session(id, &session.id));
    }
    for credential in snapshot.credentials(id) {
        draft.delete(keys::credential(id, &credential.id));
    }
    for key in snapshot.api_keys(id) {
        draft.delete(keys::api_key(id, &key.id));
        draft.delete(keys::admin_key(&key.id));
    }
    for policy in snapshot.ip_policies(id) {
        ip_policies::forget(draft, id, &policy.id);
    }
    for agent in snapshot.agents(id) {
        draft.delete(keys::agent(id, agent));
    }
    restrictions::forget_all(draft, id);
    vaults::forget_all(draft, id);
    certificates::forget_all(draft, id);
    claims::rest_all_of(draft, id)
}
