//! Vaults and secrets: unique names, values that leave here sealed only, and nothing gone while a policy
//! reads it.

use portcullis_model::id::{SecretId, VaultId};
use portcullis_model::vault::{NAME_CHARS_MAX, NameProblem, name_problem};
use portcullis_model::{AccountId, ApiKeyId, Code, Error, Sealed, Secret, Vault, VaultSecret};

use super::draft::Draft;
use super::{Registry, Written, certificates, secret_uses};
use crate::requests::{NewSecret, NewVault, SecretUpdate, VaultOf, VaultUpdate};
use crate::sealer::Sealer;
use crate::snapshot::{SecretEntry, Snapshot};
use crate::{defaults, keys, validate};

impl Registry {
    /// Makes a vault.
    ///
    /// # Errors
    /// `PTC_ACCOUNT_NOT_FOUND`, `PTC_VAULT_…`, lengths.
    pub async fn create_vault(
        &self,
        account: &AccountId,
        new: NewVault,
    ) -> Result<Written<Vault>, Error> {
        self.write(account.as_str(), |draft| create(draft, account, &new))
            .await
    }

    /// Changes a vault.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, `PTC_VAULT_…`, lengths.
    pub async fn update_vault(
        &self,
        account: &AccountId,
        id: &VaultId,
        update: VaultUpdate,
        by: Option<&ApiKeyId>,
    ) -> Result<Written<Vault>, Error> {
        validate::not_empty(&update)?;
        self.write(account.as_str(), |draft| {
            change(draft, account, id, &update, by)
        })
        .await
    }

    /// Deletes an empty vault.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_VAULT_NOT_EMPTY`, `PTC_VAULT_IN_USE`.
    pub async fn delete_vault(
        &self,
        account: &AccountId,
        id: &VaultId,
    ) -> Result<Written<()>, Error> {
        self.write(account.as_str(), |draft| delete(draft, account, id))
            .await
    }

    /// Makes a secret.
    ///
    /// # Errors
    /// `PTC_ACCOUNT_NOT_FOUND`, `PTC_SECRET_…`, lengths.
    pub async fn create_secret(
        &self,
        account: &AccountId,
        new: NewSecret,
    ) -> Result<Written<VaultSecret>, Error> {
        self.write(account.as_str(), |draft| {
            create_secret(draft, account, &new)
        })
        .await
    }

    /// Changes a secret.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, `PTC_SECRET_…`, lengths.
    pub async fn update_secret(
        &self,
        account: &AccountId,
        id: &SecretId,
        update: SecretUpdate,
        by: Option<&ApiKeyId>,
    ) -> Result<Written<VaultSecret>, Error> {
        validate::not_empty(&update)?;
        self.write(account.as_str(), |draft| {
            change_secret(draft, account, id, &update, by)
        })
        .await
    }

    /// Deletes a secret.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_SECRET_IN_USE`.
    pub async fn delete_secret(
        &self,
        account: &AccountId,
        id: &SecretId,
    ) -> Result<Written<()>, Error> {
        self.write(account.as_str(), |draft| delete_secret(draft, account, id))
            .await
    }

    /// Seals anew what an older key sealed, some secrets and private keys at a time, and says how many. What
    /// cannot be opened stays as it is.
    ///
    /// # Errors
    /// `PTC_STORE_…`; what was sealed anew until then stays so.
    pub async fn reseal_secrets(&self) -> Result<usize, Error> {
        let mut done = 0;
        loop {
            let snapshot = self.snapshot();
            let secrets = stale(&snapshot).map(|secret| &secret.account);
            let keys = certificates::stale(&snapshot).map(|entry| &entry.account);
            let Some(account) = secrets.chain(keys).next() else {
                return Ok(done);
            };
            let written = self
                .write(account.as_str(), |draft| {
                    Ok(reseal(draft, account)? + certificates::reseal(draft, account)?)
                })
                .await?;
            done += written.value;
        }
    }
}

fn create(draft: &mut Draft<'_>, account: &AccountId, new: &NewVault) -> Result<Vault, Error> {
    draft.account(account)?;
    validate::texts(&new.description, &new.metadata)?;
    let count = draft.snapshot.vaults(account).count();
    if count >= defaults::VAULTS_MAX {
        let message = format!("the account has {count} vaults, as many as it may");
        return Err(Error::new(Code::VaultLimit, message));
    }
    let vault = Vault {
        id: draft.id(VaultId::new)?,
        account: account.clone(),
        name: new.name.clone(),
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        created_by: new.by.clone(),
        last_updated_by: new.by.clone(),
        created_at: draft.now,
        updated_at: draft.now,
    };
    claim_name(draft, &vault)?;
    draft.put(keys::vault(account, &vault.id), &vault)?;
    Ok(vault)
}

fn claim_name(draft: &mut Draft<'_>, vault: &Vault) -> Result<(), Error> {
    use Code::{VaultNameInvalid, VaultNameMissing, VaultNameTooLong};
    let codes = [VaultNameMissing, VaultNameTooLong, VaultNameInvalid];
    check_name("vault", &vault.name, codes)?;
    let (account, name) = (&vault.account, &vault.name);
    if draft.snapshot.vault_by_name(account, name).is_some() {
        let message = format!("the account has a vault named `{name}`");
        return Err(Error::new(Code::VaultExists, message));
    }
    draft.absent(keys::vault_name(account, name));
    draft.put(keys::vault_name(account, name), &vault.id)
}

/// `codes`: for a name that is empty, too long, and of a wrong character.
fn check_name(what: &str, name: &str, codes: [Code; 3]) -> Result<(), Error> {
    let [empty, long, character] = codes;
    match name_problem(name) {
        None => Ok(()),
        Some(NameProblem::Empty) => Err(Error::new(empty, format!("a {what} needs a `name`"))),
        Some(NameProblem::TooLong) => {
            let message = format!("a {what}'s name has at most {NAME_CHARS_MAX} characters");
            Err(Error::new(long, message))
        }
        Some(NameProblem::Character(wrong)) => {
            let message =
                format!("{wrong:?} cannot stand in a {what}'s name; use a-z, A-Z, 0-9 and `_/.`");
            Err(Error::new(character, message))
        }
    }
}

fn find<'a>(draft: &Draft<'a>, account: &AccountId, id: &VaultId) -> Result<&'a Vault, Error> {
    let vault = draft.snapshot.vault(account, id);
    vault
        .map(|vault| &**vault)
        .ok_or_else(|| Error::new(Code::ApiNotFound, format!("there is no vault {id}")))
}

fn change(
    draft: &mut Draft<'_>,
    account: &AccountId,
    id: &VaultId,
    update: &VaultUpdate,
    by: Option<&ApiKeyId>,
) -> Result<Vault, Error> {
    let old = find(draft, account, id)?;
    let mut vault = old.clone();
    let into = (&mut vault.description, &mut vault.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    if let Some(name) = update.name.as_ref().filter(|name| **name != old.name) {
        vault.name.clone_from(name);
        claim_name(draft, &vault)?;
        refuse_while_read(draft, old)?;
        draft.delete(keys::vault_name(account, &old.name));
    }
    (vault.updated_at, vault.last_updated_by) = (draft.now, by.cloned());
    draft.unchanged(keys::vault(account, id));
    draft.put(keys::vault(account, id), &vault)?;
    Ok(vault)
}

fn refuse_while_read(draft: &mut Draft<'_>, vault: &Vault) -> Result<(), Error> {
    let what = (Code::VaultInUse, &*format!("the vault `{}`", vault.name));
    secret_uses::refuse_while_read(draft, &vault.account, what, |name, _| name == vault.name)
}

fn delete(draft: &mut Draft<'_>, account: &AccountId, id: &VaultId) -> Result<(), Error> {
    let vault = find(draft, account, id)?;
    let held = draft.snapshot.secrets_in(id);
    if held > 0 {
        let message = format!(
            "the vault `{}` holds {held} secrets; delete them first",
            vault.name
        );
        return Err(Error::new(Code::VaultNotEmpty, message));
    }
    refuse_while_read(draft, vault)?;
    // No secret came into it meanwhile; one that comes later finds no vault.
    draft.nothing_new(keys::owned("secret", account));
    draft.unchanged(keys::vault(account, id));
    forget(draft, vault);
    Ok(())
}

/// Deletes the record of a vault and its name.
fn forget(draft: &mut Draft<'_>, vault: &Vault) {
    draft.delete(keys::vault_name(&vault.account, &vault.name));
    draft.delete(keys::vault(&vault.account, &vault.id));
}

fn forget_secret(draft: &mut Draft<'_>, secret: &VaultSecret) {
    let (account, vault) = (&secret.account, &secret.vault);
    draft.delete(keys::secret_name(account, vault, &secret.name));
    draft.delete(keys::vault_secret(account, &secret.id));
}

/// Deletes all of an account's, which goes itself.
pub(super) fn forget_all(draft: &mut Draft<'_>, account: &AccountId) {
    let snapshot = draft.snapshot;
    for secret in snapshot.vault_secrets(account) {
        forget_secret(draft, secret);
    }
    for vault in snapshot.vaults(account) {
        forget(draft, vault);
    }
}

fn create_secret(
    draft: &mut Draft<'_>,
    account: &AccountId,
    new: &NewSecret,
) -> Result<VaultSecret, Error> {
    draft.account(account)?;
    validate::texts(&new.description, &new.metadata)?;
    let vault = vault_of(draft, account, &new.vault)?;
    draft.unchanged(keys::vault(account, &vault.id));
    let held = draft.snapshot.secrets_in(&vault.id);
    if held >= defaults::VAULT_SECRETS_MAX {
        let message = format!(
            "the vault `{}` holds {held} secrets, as many as it may",
            vault.name
        );
        return Err(Error::new(Code::SecretLimit, message));
    }
    check_value(&new.value)?;
    let mut secret = VaultSecret {
        id: draft.id(SecretId::new)?,
        account: account.clone(),
        vault: vault.id.clone(),
        name: new.name.clone(),
        value: Sealed::new(&[]),
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        created_by: new.by.clone(),
        last_updated_by: new.by.clone(),
        created_at: draft.now,
        updated_at: draft.now,
    };
    claim_secret_name(draft, &secret)?;
    secret.value = seal(draft.snapshot, &secret, &new.value)?;
    draft.put(keys::vault_secret(account, &secret.id), &secret)?;
    Ok(secret)
}

fn vault_of<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    wanted: &VaultOf,
) -> Result<&'a Vault, Error> {
    let (found, code, what) = match wanted {
        VaultOf::Id(id) => (
            draft.snapshot.vault(account, id),
            Code::SecretVaultNotFound,
            id.to_string(),
        ),
        VaultOf::Name(name) => (
            draft.snapshot.vault_by_name(account, name),
            Code::SecretVaultName,
            format!(
                "named `{}`",
                name.chars().take(NAME_CHARS_MAX).collect::<String>()
            ),
        ),
    };
    found
        .map(|vault| &**vault)
        .ok_or_else(|| Error::new(code, format!("there is no vault {what}")))
}

fn check_value(value: &Secret) -> Result<(), Error> {
    let (bytes, most) = (value.expose().len(), defaults::SECRET_BYTES_MAX);
    if bytes == 0 {
        return Err(Error::of(Code::SecretValueMissing));
    }
    if bytes > most {
        let message = format!("the value has {bytes} bytes; at most {most} are allowed");
        return Err(Error::new(Code::SecretValueTooLong, message));
    }
    Ok(())
}

fn claim_secret_name(draft: &mut Draft<'_>, secret: &VaultSecret) -> Result<(), Error> {
    use Code::{SecretNameInvalid, SecretNameMissing, SecretNameTooLong};
    let codes = [SecretNameMissing, SecretNameTooLong, SecretNameInvalid];
    check_name("secret", &secret.name, codes)?;
    let (account, vault, name) = (&secret.account, &secret.vault, &secret.name);
    let taken = draft.snapshot.vault(account, vault).and_then(|vault| {
        draft
            .snapshot
            .vault_secret_by_name(account, &vault.name, name)
    });
    if taken.is_some() {
        let message = format!("the vault has a secret named `{name}`");
        return Err(Error::new(Code::SecretExists, message));
    }
    draft.absent(keys::secret_name(account, vault, name));
    draft.put(keys::secret_name(account, vault, name), &secret.id)
}

pub(super) fn sealer(snapshot: &Snapshot) -> Result<&dyn Sealer, Error> {
    let sealer = snapshot.settings().sealer.as_deref();
    sealer.ok_or_else(|| Error::new(Code::SecretSealed, "the server has no master key"))
}

fn seal(snapshot: &Snapshot, secret: &VaultSecret, value: &Secret) -> Result<Sealed, Error> {
    sealer(snapshot)?.seal(value.expose().as_bytes(), &secret.place())
}

fn find_secret<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    id: &SecretId,
) -> Result<&'a VaultSecret, Error> {
    let secret = draft.snapshot.vault_secret(account, id);
    secret
        .map(|secret| secret.record())
        .ok_or_else(|| Error::new(Code::ApiNotFound, format!("there is no secret {id}")))
}

fn change_secret(
    draft: &mut Draft<'_>,
    account: &AccountId,
    id: &SecretId,
    update: &SecretUpdate,
    by: Option<&ApiKeyId>,
) -> Result<VaultSecret, Error> {
    let old = find_secret(draft, account, id)?;
    let mut secret = old.clone();
    let into = (&mut secret.description, &mut secret.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    if let Some(value) = &update.value {
        check_value(value)?;
        secret.value = seal(draft.snapshot, &secret, value)?;
    }
    if let Some(name) = update.name.as_ref().filter(|name| **name != old.name) {
        secret.name.clone_from(name);
        claim_secret_name(draft, &secret)?;
        refuse_while_secret_read(draft, old)?;
        draft.delete(keys::secret_name(account, &old.vault, &old.name));
    }
    (secret.updated_at, secret.last_updated_by) = (draft.now, by.cloned());
    draft.unchanged(keys::vault_secret(account, id));
    draft.put(keys::vault_secret(account, id), &secret)?;
    Ok(secret)
}

fn refuse_while_secret_read(draft: &mut Draft<'_>, secret: &VaultSecret) -> Result<(), Error> {
    let Some(vault) = draft.snapshot.vault(&secret.account, &secret.vault) else {
        return Ok(());
    };
    // By this name policies would read it from now on.
    draft.unchanged(keys::vault(&secret.account, &vault.id));
    let what = format!("the secret `{}` of the vault `{}`", secret.name, vault.name);
    secret_uses::refuse_while_read(
        draft,
        &secret.account,
        (Code::SecretInUse, &what),
        |of, name| of == vault.name && name == secret.name,
    )
}

fn delete_secret(draft: &mut Draft<'_>, account: &AccountId, id: &SecretId) -> Result<(), Error> {
    let secret = find_secret(draft, account, id)?;
    refuse_while_secret_read(draft, secret)?;
    draft.unchanged(keys::vault_secret(account, id));
    forget_secret(draft, secret);
    Ok(())
}

/// Secrets whose value an older key sealed, and can be sealed anew.
fn stale(snapshot: &Snapshot) -> impl Iterator<Item = &SecretEntry> {
    let sealer = snapshot.settings().sealer.as_deref();
    let secrets = snapshot.all_vault_secrets().map(|secret| &**secret);
    secrets.filter(move |secret| {
        secret.is_open() && sealer.is_some_and(|sealer| !sealer.is_newest(&secret.value))
    })
}

fn reseal(draft: &mut Draft<'_>, account: &AccountId) -> Result<usize, Error> {
    let snapshot = draft.snapshot;
    let sealer = sealer(snapshot)?;
    let mut done = 0;
    let own = stale(snapshot).filter(|secret| secret.account == *account);
    for entry in own.take(defaults::RESEAL_PER_WRITE_MAX) {
        let mut secret = entry.record().clone();
        let place = secret.place();
        let plain = sealer.open(&secret.value, &place)?;
        secret.value = sealer.seal(plain.expose(), &place)?;
        draft.unchanged(keys::vault_secret(account, &secret.id));
        draft.put(keys::vault_secret(account, &secret.id), &secret)?;
        done += 1;
    }
    Ok(done)
}
