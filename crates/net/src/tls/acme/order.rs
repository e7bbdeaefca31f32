//! One account, and one order of a certificate.
//!
//! Must never: keep a challenge beyond its order.

use std::fmt::Display;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use portcullis_model::{Code, Error};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::challenge::{Pending, Responder};
use super::kept::Kept;
use super::{AcmeChallenge, AcmeConfig};
use crate::defaults::ACME_POLL_TIMEOUT;
use crate::tls::terminate::Terminator;

/// That no certificate was issued, and why.
pub(super) fn failed(name: &str, why: &dyn Display) -> Error {
    let text = format!("the ACME authority issued no certificate for {name}: {why}");
    Error::new(Code::AcmeFailed, text)
}

fn unreachable(directory: &str, error: &instant_acme::Error) -> Error {
    let text = format!(
        "the ACME authority at {directory} gave no account: {}",
        chain(error)
    );
    Error::new(Code::AcmeFailed, text)
}

/// An error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The account that was made earlier, or a new one.
pub(super) async fn account(config: &AcmeConfig, kept: &Kept) -> Result<Account, Error> {
    let directory = &config.directory;
    let explain = |error: instant_acme::Error| unreachable(directory, &error);
    let builder = match &config.ca_file {
        Some(path) => Account::builder_with_root(path),
        None => Account::builder(),
    }
    .map_err(explain)?;
    // One that cannot be read, or of another authority, is replaced.
    let earlier = kept.account().unwrap_or_else(|error| {
        tracing::warn!(%error, "the account at the ACME authority cannot be read; a new one is made");
        None
    });
    if let Some(known) = earlier.filter(|known| known.directory == *directory) {
        let account = builder.from_parts(known.id, known.key, directory.clone());
        return account.await.map_err(explain);
    }
    let contact: Vec<String> = config
        .email
        .iter()
        .map(|email| format!("mailto:{email}"))
        .collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true, // the configuration does not go without
        only_return_existing: false,
    };
    let made = builder.create(&new, directory.clone(), None).await;
    let (account, credentials) = made.map_err(explain)?;
    kept.keep_account(directory, account.id(), credentials.private_key())?;
    Ok(account)
}

/// Orders a certificate: its chain and its key, in PEM.
pub(super) async fn issue(
    account: &Account,
    name: &str,
    config: &AcmeConfig,
    pending: &Pending,
    answering: &Terminator,
) -> Result<(String, String), Error> {
    // Answers before it is asked, and no longer than the order lasts.
    let responder = Responder::start(config, pending, answering).await?;
    let issued = order(account, name, config.challenge, pending).await;
    responder.stop().await;
    issued
}

async fn order(
    account: &Account,
    name: &str,
    kind: AcmeChallenge,
    pending: &Pending,
) -> Result<(String, String), Error> {
    let explain = |error: instant_acme::Error| failed(name, &chain(&error));
    let identifiers = [Identifier::Dns(name.to_owned())];
    let mut order = account
        .new_order(&NewOrder::new(&identifiers))
        .await
        .map_err(explain)?;
    let _answers = answer(&mut order, name, kind, pending).await?;
    let retry = RetryPolicy::default().timeout(ACME_POLL_TIMEOUT);
    match order.poll_ready(&retry).await {
        Ok(OrderStatus::Ready) => {}
        outcome => {
            let reason = match outcome {
                Ok(status) => format!("the order is {status:?}"),
                Err(error) => chain(&error),
            };
            return Err(failed(name, &said(&mut order).await.unwrap_or(reason)));
        }
    }
    let key = KeyPair::generate().map_err(Error::internal)?;
    let mut params = CertificateParams::new([name.to_owned()]).map_err(Error::internal)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(Error::internal)?;
    order.finalize_csr(request.der()).await.map_err(explain)?;
    let chain = order.poll_certificate(&retry).await.map_err(explain)?;
    Ok((chain, key.serialize_pem()))
}

/// Puts the answers to an order's challenges in place and says so; they go with what is returned.
async fn answer<'a>(
    order: &mut Order,
    name: &str,
    kind: AcmeChallenge,
    pending: &'a Pending,
) -> Result<Vec<super::challenge::Answer<'a>>, Error> {
    let explain = |error: instant_acme::Error| failed(name, &chain(&error));
    let (wanted, word) = match kind {
        AcmeChallenge::Http01 => (ChallengeType::Http01, "http-01"),
        AcmeChallenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
    };
    let mut answers = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(explain)?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(failed(name, &format!("its authorization is {status:?}"))),
        }
        let Some(mut challenge) = authorization.challenge(wanted.clone()) else {
            return Err(failed(name, &format!("it offers no {word} challenge")));
        };
        let key = challenge.key_authorization();
        answers.push(match kind {
            AcmeChallenge::Http01 => pending.add_text(&challenge.token, key.as_str()),
            AcmeChallenge::TlsAlpn01 => pending.add_certificate(name, key.digest().as_ref())?,
        });
        challenge.set_ready().await.map_err(explain)?;
    }
    Ok(answers)
}

/// What the authority says was wrong with the challenges of an order that failed.
async fn said(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        let problem = state
            .challenges
            .iter()
            .find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Some(problem.to_string());
        }
    }
    None
}
