//! API keys: their tokens are seen once, and the last admin key stays.

use std::sync::Arc;

use portcullis_model::secret::Token;
use portcullis_model::{AccountId, ApiKey, ApiKeyId, Code, CredentialId, Error, Secret};

use super::accounts::QUEUE;
use super::draft::Draft;
use super::{Registry, Written};
use crate::requests::{ApiKeyUpdate, NewApiKey};
use crate::{ids, keys, validate};

impl Registry {
    /// Makes an API key; its token is in the answer and nowhere else.
    ///
    /// # Errors
    /// `PTC_ACCOUNT_NOT_FOUND`, lengths.
    pub async fn create_api_key(
        &self,
        account: &AccountId,
        new: NewApiKey,
    ) -> Result<Written<(ApiKey, Secret)>, Error> {
        self.write(account.as_str(), |draft| create(draft, account, &new))
            .await
    }

    /// Changes an API key.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, lengths.
    pub async fn update_api_key(
        &self,
        account: &AccountId,
        id: &ApiKeyId,
        update: ApiKeyUpdate,
    ) -> Result<Written<ApiKey>, Error> {
        validate::not_empty(&update)?;
        self.write(account.as_str(), |draft| {
            change(draft, account, id, &update)
        })
        .await
    }

    /// Deletes an API key.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_LAST_ADMIN_KEY`.
    pub async fn delete_api_key(
        &self,
        account: &AccountId,
        id: &ApiKeyId,
    ) -> Result<Written<()>, Error> {
        self.write(QUEUE, |draft| delete(draft, account, id)).await
    }

    /// Finds the API key of a token.
    ///
    /// # Errors
    /// `PTC_API_KEY_MALFORMED`, `PTC_API_KEY_UNKNOWN`, `PTC_API_KEY_IS_AUTHTOKEN`.
    pub fn authenticate_api_key(&self, token: &str) -> Result<Arc<ApiKey>, Error> {
        let token = Token::parse(token).map_err(|_| Error::of(Code::ApiKeyMalformed))?;
        let snapshot = self.snapshot();
        let id =
            ApiKeyId::from_ksuid(&token.ksuid).map_err(|_| Error::of(Code::ApiKeyMalformed))?;
        if let Some(key) = snapshot.api_key_by_id(&id) {
            let known = key.token_hash.matches(token.secret.expose())
                && snapshot.account(&key.account).is_some();
            return if known {
                Ok(Arc::clone(key))
            } else {
                Err(Error::of(Code::ApiKeyUnknown))
            };
        }
        // Only who holds the authtoken is told so: the id alone is no secret.
        let authtoken = CredentialId::from_ksuid(&token.ksuid)
            .ok()
            .and_then(|id| snapshot.credential_by_id(&id))
            .is_some_and(|credential| credential.token_hash.matches(token.secret.expose()));
        match authtoken {
            true => Err(Error::of(Code::ApiKeyIsAuthtoken)),
            false => Err(Error::of(Code::ApiKeyUnknown)),
        }
    }
}

pub(super) fn create(
    draft: &mut Draft<'_>,
    account: &AccountId,
    new: &NewApiKey,
) -> Result<(ApiKey, Secret), Error> {
    draft.account(account)?;
    create_in(draft, account, new)
}

/// As [`create`], for an account that the same write makes.
pub(super) fn create_in(
    draft: &mut Draft<'_>,
    account: &AccountId,
    new: &NewApiKey,
) -> Result<(ApiKey, Secret), Error> {
    validate::texts(&new.description, &new.metadata)?;
    let id = draft.id(ApiKeyId::new)?;
    let token = Token::new(id.ksuid(), ids::token_entropy()?);
    let key = ApiKey {
        id,
        account: account.clone(),
        admin: new.admin,
        token_hash: token.hash(),
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        created_at: draft.now,
    };
    draft.put(keys::api_key(account, &key.id), &key)?;
    if key.admin {
        draft.put(keys::admin_key(&key.id), account)?;
    }
    Ok((key, token.reveal()))
}

fn find<'a>(draft: &Draft<'a>, account: &AccountId, id: &ApiKeyId) -> Result<&'a ApiKey, Error> {
    let key = draft.snapshot.api_key(account, id);
    key.map(|key| &**key)
        .ok_or_else(|| Error::new(Code::ApiNotFound, format!("there is no API key {id}")))
}

fn change(
    draft: &mut Draft<'_>,
    account: &AccountId,
    id: &ApiKeyId,
    update: &ApiKeyUpdate,
) -> Result<ApiKey, Error> {
    let mut key = find(draft, account, id)?.clone();
    let into = (&mut key.description, &mut key.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    draft.unchanged(keys::api_key(account, id));
    draft.put(keys::api_key(account, id), &key)?;
    Ok(key)
}

fn delete(draft: &mut Draft<'_>, account: &AccountId, id: &ApiKeyId) -> Result<(), Error> {
    let key = find(draft, account, id)?;
    if key.admin {
        let Some(other) = draft.snapshot.admin_keys().find(|other| other.id != *id) else {
            return Err(Error::new(
                Code::LastAdminKey,
                "this is the last admin key; make another admin key first",
            ));
        };
        draft.still(keys::admin_key(&other.id));
        draft.delete(keys::admin_key(id));
    }
    draft.unchanged(keys::api_key(account, id));
    draft.delete(keys::api_key(account, id));
    Ok(())
}
