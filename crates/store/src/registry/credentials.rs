//! Credentials: what agents come with. Deleting one ends what came with it, in the same revision.

use std::sync::Arc;

use portcullis_model::acl::Acl;
use portcullis_model::secret::Token;
use portcullis_model::{AccountId, Code, Credential, CredentialId, Error, Secret};

use super::draft::Draft;
use super::{Registry, Written, sessions};
use crate::requests::{CredentialUpdate, NewCredential};
use crate::{ids, keys, validate};

impl Registry {
    /// Makes a credential; its token is in the answer and nowhere else.
    ///
    /// # Errors
    /// `PTC_ACL_SYNTAX`, `PTC_ACCOUNT_NOT_FOUND`, lengths.
    pub async fn create_credential(
        &self,
        account: &AccountId,
        new: NewCredential,
    ) -> Result<Written<(Credential, Secret)>, Error> {
        self.write(account.as_str(), |draft| create(draft, account, &new))
            .await
    }

    /// Changes a credential. A narrower ACL holds for binds from now on; what is bound stays.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, `PTC_ACL_SYNTAX`, lengths.
    pub async fn update_credential(
        &self,
        account: &AccountId,
        id: &CredentialId,
        update: CredentialUpdate,
    ) -> Result<Written<Credential>, Error> {
        validate::not_empty(&update)?;
        self.write(account.as_str(), |draft| {
            change(draft, account, id, &update)
        })
        .await
    }

    /// Deletes a credential, with the sessions that came with it and their endpoints.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`.
    pub async fn delete_credential(
        &self,
        account: &AccountId,
        id: &CredentialId,
    ) -> Result<Written<()>, Error> {
        self.write(account.as_str(), |draft| delete(draft, account, id))
            .await
    }

    /// Finds the credential of an authtoken.
    ///
    /// # Errors
    /// `PTC_AUTHTOKEN_MISSING`, `PTC_AUTHTOKEN_MALFORMED`, `PTC_AUTHTOKEN_UNKNOWN`, `PTC_ACCOUNT_SUSPENDED`.
    pub fn authenticate_credential(&self, token: &str) -> Result<Arc<Credential>, Error> {
        if token.trim().is_empty() {
            return Err(Error::of(Code::AuthtokenMissing));
        }
        let token = Token::parse(token).map_err(|_| Error::of(Code::AuthtokenMalformed))?;
        let id = CredentialId::from_ksuid(&token.ksuid)
            .map_err(|_| Error::of(Code::AuthtokenMalformed))?;
        let snapshot = self.snapshot();
        let credential = snapshot
            .credential_by_id(&id)
            .filter(|credential| credential.token_hash.matches(token.secret.expose()))
            .ok_or_else(|| Error::of(Code::AuthtokenUnknown))?;
        if snapshot.account(&credential.account).is_none() {
            return Err(Error::of(Code::AccountSuspended));
        }
        Ok(Arc::clone(credential))
    }
}

fn create(
    draft: &mut Draft<'_>,
    account: &AccountId,
    new: &NewCredential,
) -> Result<(Credential, Secret), Error> {
    draft.account(account)?;
    create_in(draft, account, new)
}

/// As [`create`], for an account that the same write makes.
pub(super) fn create_in(
    draft: &mut Draft<'_>,
    account: &AccountId,
    new: &NewCredential,
) -> Result<(Credential, Secret), Error> {
    validate::texts(&new.description, &new.metadata)?;
    Acl::parse(&new.acl)?;
    let id = draft.id(CredentialId::new)?;
    let token = Token::new(id.ksuid(), ids::token_entropy()?);
    let credential = Credential {
        id,
        account: account.clone(),
        token_hash: token.hash(),
        acl: new.acl.clone(),
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        created_at: draft.now,
    };
    draft.put(keys::credential(account, &credential.id), &credential)?;
    Ok((credential, token.reveal()))
}

fn find<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    id: &CredentialId,
) -> Result<&'a Credential, Error> {
    let credential = draft.snapshot.credential(account, id);
    credential
        .map(|credential| &**credential)
        .ok_or_else(|| Error::new(Code::ApiNotFound, format!("there is no credential {id}")))
}

fn change(
    draft: &mut Draft<'_>,
    account: &AccountId,
    id: &CredentialId,
    update: &CredentialUpdate,
) -> Result<Credential, Error> {
    let mut credential = find(draft, account, id)?.clone();
    let into = (&mut credential.description, &mut credential.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    if let Some(acl) = &update.acl {
        Acl::parse(acl)?;
        credential.acl.clone_from(acl);
    }
    draft.unchanged(keys::credential(account, id));
    draft.put(keys::credential(account, id), &credential)?;
    Ok(credential)
}

fn delete(draft: &mut Draft<'_>, account: &AccountId, id: &CredentialId) -> Result<(), Error> {
    find(draft, account, id)?;
    draft.unchanged(keys::credential(account, id));
    draft.delete(keys::credential(account, id));
    // A session that opens at this moment guards that its credential exists, so none slips through.
    draft.nothing_new(keys::owned("session", account));
    draft.nothing_new(keys::owned("endpoint", account));
    let snapshot = draft.snapshot;
    for session in snapshot
        .sessions(account)
        .filter(|session| session.credential == *id)
    {
        sessions::end(draft, session)?;
    }
    Ok(())
}
