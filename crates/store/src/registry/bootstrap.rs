//! The first start: an account, an admin key and a credential, in one transaction.

use std::sync::Arc;

use portcullis_model::{Account, Error, Secret};

use super::accounts::{self, QUEUE};
use super::draft::Draft;
use super::{Bootstrap, Registry, api_keys, credentials};
use crate::keys;
use crate::requests::{NewAccount, NewApiKey, NewCredential};

impl Registry {
    /// Makes the first account, admin key and credential when there is no account; else finds the
    /// first account. Whoever lost the secrets makes new ones with `create_api_key` (admin) and
    /// `create_credential`.
    ///
    /// # Errors
    /// `PTC_STORE_…`.
    pub async fn bootstrap(&self) -> Result<Bootstrap, Error> {
        let written = self.write(QUEUE, first).await?.value;
        let (account, secrets) = written;
        let (admin_key, authtoken) = secrets.unzip();
        Ok(Bootstrap {
            account: Arc::new(account),
            first: admin_key.is_some(),
            admin_key,
            authtoken,
        })
    }
}

fn first(draft: &mut Draft<'_>) -> Result<(Account, Option<(Secret, Secret)>), Error> {
    if let Some(account) = draft.snapshot.first_account() {
        return Ok(((**account).clone(), None));
    }
    let account = accounts::create(
        draft,
        &NewAccount {
            name: "default".to_owned(),
            verified: true,
            description: "made at first start".to_owned(),
            ..NewAccount::default()
        },
    )?;
    let (_, admin_key) = api_keys::create_in(
        draft,
        &account.id,
        &NewApiKey {
            admin: true,
            description: "first admin key, made at first start".to_owned(),
            metadata: String::new(),
        },
    )?;
    let (_, authtoken) = credentials::create_in(
        draft,
        &account.id,
        &NewCredential {
            description: "for local use, made at first start".to_owned(),
            ..NewCredential::default()
        },
    )?;
    draft.absent(keys::FIRST_ACCOUNT.to_owned());
    draft.put(keys::FIRST_ACCOUNT.to_owned(), &account.id)?;
    Ok((account, Some((admin_key, authtoken))))
}
