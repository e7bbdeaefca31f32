//! The resources: one file each, thin handlers between the views and the registry.
//!
//! Must never: look beyond the caller's account.

mod accounts;
mod addresses;
mod api_keys;
mod certificate_authorities;
mod connections;
mod credentials;
mod endpoints;
mod ip_policies;
mod ip_policy_rules;
mod ip_restrictions;
mod sessions;
pub(crate) mod system;
mod tls_certificates;
mod tunnels;
mod vault_secrets;
mod vaults;

use portcullis_model::{Code, Error};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::web::Refusal;

/// The routes that need a key.
pub(crate) fn private() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(endpoints::list, endpoints::create))
        .routes(routes!(
            endpoints::get,
            endpoints::update,
            endpoints::delete
        ))
        .routes(routes!(addresses::list, addresses::create))
        .routes(routes!(
            addresses::get,
            addresses::update,
            addresses::delete
        ))
        .routes(routes!(credentials::list, credentials::create))
        .routes(routes!(
            credentials::get,
            credentials::update,
            credentials::delete
        ))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::get, api_keys::update, api_keys::delete))
        .routes(routes!(ip_policies::list, ip_policies::create))
        .routes(routes!(
            ip_policies::get,
            ip_policies::update,
            ip_policies::delete
        ))
        .routes(routes!(ip_policy_rules::list, ip_policy_rules::create))
        .routes(routes!(
            ip_policy_rules::get,
            ip_policy_rules::update,
            ip_policy_rules::delete
        ))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::get))
        .routes(routes!(sessions::stop))
        .routes(routes!(sessions::restart))
        .routes(routes!(sessions::update))
        .routes(routes!(tunnels::list))
        .routes(routes!(tunnels::get))
        .routes(routes!(connections::list))
        .routes(routes!(connections::get, connections::delete))
        .routes(routes!(accounts::list, accounts::create))
        .routes(routes!(accounts::get, accounts::update, accounts::delete))
        // Vaults and secrets
        .routes(routes!(vaults::list, vaults::create))
        .routes(routes!(vaults::get, vaults::update, vaults::delete))
        .routes(routes!(vaults::secrets))
        .routes(routes!(vault_secrets::list, vault_secrets::create))
        .routes(routes!(
            vault_secrets::get,
            vault_secrets::update,
            vault_secrets::delete
        ))
        .merge(material_and_restrictions())
}

/// TLS material, and what the account lets in by address.
fn material_and_restrictions() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(
            certificate_authorities::list,
            certificate_authorities::create
        ))
        .routes(routes!(
            certificate_authorities::get,
            certificate_authorities::update,
            certificate_authorities::delete
        ))
        .routes(routes!(tls_certificates::list, tls_certificates::create))
        .routes(routes!(
            tls_certificates::get,
            tls_certificates::update,
            tls_certificates::delete
        ))
        .routes(routes!(ip_restrictions::list, ip_restrictions::create))
        .routes(routes!(
            ip_restrictions::get,
            ip_restrictions::update,
            ip_restrictions::delete
        ))
}

/// The routes that need none.
pub(crate) fn public() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(system::status))
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
        .routes(routes!(system::document))
}

/// The one answer for an id that isn't there and for another account's.
fn missing(code: Code, what: &str, id: impl std::fmt::Display) -> Refusal {
    Error::new(code, format!("no {what} {id} in this account")).into()
}
