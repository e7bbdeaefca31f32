//! A client of the REST API, as the command line uses it: JSON in, JSON out, errors with their codes.
//!
//! Must never: follow a redirect or a page to another address; the key would go with it.

use std::path::Path;

use clap::builder::NonEmptyStringValueParser;
use portcullis_model::{Code, Error, Secret};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value};

use crate::defaults;
use crate::environment::{self, ApiAccess};
use crate::failure::Failure;

/// Where the API is and who asks; flags of every command that talks to it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ApiArgs {
    /// API key; else PORTCULLIS_API_KEY, the agent's configuration, or a server's on this machine.
    #[arg(long, value_name = "KEY", help_heading = "API", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) api_key: Option<String>,
    /// Base address of the API; else PORTCULLIS_API_URL, or a server's on this machine.
    #[arg(long, value_name = "URL", help_heading = "API")]
    pub(crate) api_url: Option<String>,
    /// Account to act for (admin keys only).
    #[arg(long, value_name = "ac_…", help_heading = "API")]
    pub(crate) account: Option<String>,
    /// CA certificate to trust for the API, a PEM file.
    #[arg(long, value_name = "FILE", help_heading = "API")]
    pub(crate) api_ca: Option<std::path::PathBuf>,
    /// Configuration file to take the API key from.
    #[arg(long, value_name = "FILE", help_heading = "API")]
    pub(crate) config: Vec<std::path::PathBuf>,
}

/// A connection to the API.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    key: Secret,
    account: Option<String>,
}

impl Client {
    /// Finds the API and the key.
    ///
    /// # Errors
    /// `PTC_API_UNAUTHENTICATED` when there is no key, `PTC_CERTIFICATE_INVALID` for a CA that
    /// cannot be used.
    pub(crate) fn new(args: &ApiArgs) -> Result<Self, Failure> {
        let given = args
            .api_key
            .clone()
            .map(Secret::new)
            .or_else(environment::api_key);
        let given = match given {
            Some(key) => Some(key),
            None => crate::cmd::config::configured_api_key(&args.config)?,
        };
        let access = environment::api_access(args.api_url.clone(), given);
        let url = checked_url(&access)?;
        let Some(key) = access.key.clone() else {
            let message = format!(
                "there is no API key for {}: pass --api-key, set PORTCULLIS_API_KEY, or run where the server's data \
                 directory is",
                access.url
            );
            return Err(Failure::new(Code::ApiUnauthenticated, message));
        };
        let ca = args.api_ca.clone().or_else(|| {
            access
                .ca
                .clone()
                .filter(|_| access.url.starts_with("https:"))
        });
        let http = http_client(ca.as_deref(), environment::is_local(&url))?;
        Ok(Self {
            http,
            url,
            key,
            account: args.account.clone(),
        })
    }

    /// Sends one request and gives the answer's body, null where it has none.
    ///
    /// # Errors
    /// The API's error with its code, or that it cannot be reached.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(self.key.expose())
            .header("Ngrok-Version", "2")
            .query(query);
        if let Some(account) = &self.account {
            request = request.header("Portcullis-Account", account);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer
            .text()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            return Err(refusal(status, &text, &self.url).into());
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|_| not_ours(&self.url, status).into())
    }

    /// Fetches a list: one page when the caller pages by hand, else all of it, as far as
    /// [`defaults::PAGES_MAX`] goes.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub(crate) async fn list(&self, path: &str, key: &str, page: &Page) -> Result<Value, Failure> {
        if page.limit.is_some() || page.before_id.is_some() {
            return self
                .call(
                    Method::GET,
                    path,
                    &page.query(page.limit, page.before_id.clone()),
                    None,
                )
                .await;
        }
        let fetch = async |before| {
            let query = page.query(Some(defaults::PAGE_ITEMS), before);
            self.call(Method::GET, path, &query, None).await
        };
        let (items, next) = all_pages(key, defaults::PAGES_MAX, fetch).await?;
        let mut whole = Map::new();
        whole.insert(key.to_owned(), Value::Array(items));
        whole.insert(
            "uri".to_owned(),
            Value::String(format!("{}{path}", self.url)),
        );
        whole.insert("next_page_uri".to_owned(), next);
        Ok(Value::Object(whole))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut error_without_url = root_cause(error);
        if error_without_url.contains("InvalidContentType") {
            "it does not speak TLS there; is it http://?".clone_into(&mut error_without_url);
        }
        let what = if error.is_timeout() {
            "did not answer in time"
        } else {
            "cannot be reached"
        };
        let code = if error.is_timeout() {
            Code::ApiTimeout
        } else {
            Code::ApiUnreachable
        };
        Failure::new(
            code,
            format!("the API at {} {what}: {error_without_url}", self.url),
        )
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Page {
    /// Items of one page, 1 to 100; without it everything is listed.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
    /// List what was made before the item with this id.
    #[arg(long, value_name = "ID")]
    pub(crate) before_id: Option<String>,
    /// Filter expression.
    #[arg(long, value_name = "CEL")]
    pub(crate) filter: Option<String>,
}

impl Page {
    fn query(&self, limit: Option<u32>, before: Option<String>) -> Vec<(&'static str, String)> {
        let limit = limit.map(|limit| ("limit", limit.to_string()));
        let before = before.map(|before| ("before_id", before));
        let filter = self.filter.clone().map(|filter| ("filter", filter));
        limit.into_iter().chain(before).chain(filter).collect()
    }
}

/// The items of all pages, `most` of them; and, where it stops there, the URL at which the rest begins.
async fn all_pages(
    key: &str,
    most: u32,
    mut fetch: impl AsyncFnMut(Option<String>) -> Result<Value, Failure>,
) -> Result<(Vec<Value>, Value), Failure> {
    let (mut items, mut before) = (Vec::new(), None);
    for fetched in 1..=most {
        let mut answer = fetch(before.take()).await?;
        if let Some(Value::Array(found)) = answer.get_mut(key) {
            items.append(found);
        }
        before = next_page(&answer);
        if before.is_some() && fetched == most {
            let next = answer.get("next_page_uri").cloned();
            return Ok((items, next.unwrap_or_default()));
        }
        if before.is_none() {
            break;
        }
    }
    Ok((items, Value::Null))
}

/// The `before_id` of a list's next page, if there is one. It need not be the last item's: with a filter the
/// server may have looked further.
pub(crate) fn next_page(answer: &Value) -> Option<String> {
    let next = answer.get("next_page_uri")?.as_str()?;
    let url = reqwest::Url::parse(next).ok()?;
    url.query_pairs()
        .find(|(name, _)| name == "before_id")
        .map(|(_, id)| id.into_owned())
}

/// No proxy of the environment stands between this machine and itself: it would get the key in the clear.
fn http_client(ca: Option<&Path>, local: bool) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(defaults::API_CONNECT_TIMEOUT)
        .timeout(defaults::API_REQUEST_TIMEOUT);
    if local {
        builder = builder.no_proxy();
    }
    if let Some(path) = ca {
        let refuse = |cause: String| {
            Error::new(
                Code::CertificateInvalid,
                format!("{}: {cause}", path.display()),
            )
        };
        let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
        let certs = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| refuse(error.to_string()))?;
        builder = builder.tls_certs_only(certs);
    }
    builder.build().map_err(Error::internal)
}

/// An address that a key may be sent to: TLS, or plain HTTP on this machine.
fn checked_url(access: &ApiAccess) -> Result<String, Failure> {
    let url = reqwest::Url::parse(&access.url).map_err(|error| {
        Failure::Usage(format!(
            "the API's address `{}` cannot be read: {error}",
            access.url
        ))
    })?;
    let local = environment::is_local(&access.url);
    match url.scheme() {
        "https" => Ok(access.url.clone()),
        "http" if local => Ok(access.url.clone()),
        "http" => Err(Failure::Known(Error::new(
            Code::ApiNeedsTls,
            format!(
                "{} is not on this machine, and the key would travel in the clear; use https://",
                access.url
            ),
        ))),
        other => Err(Failure::Usage(format!(
            "the API's address has the scheme `{other}`; use https:// (or http:// on this machine)"
        ))),
    }
}

/// What the API said, as an error with its code.
fn refusal(status: StatusCode, text: &str, url: &str) -> Error {
    let Ok(body) = serde_json::from_str::<Value>(text) else {
        return not_ours(url, status);
    };
    let Some(message) = body.get("msg").and_then(Value::as_str) else {
        return not_ours(url, status);
    };
    let details = body.get("details");
    let named = details
        .and_then(|details| details.get("code"))
        .or_else(|| body.get("error_code"))
        .and_then(Value::as_str);
    let code = named
        .and_then(|name| name.parse().ok())
        .unwrap_or(Code::Internal);
    let operation = details
        .and_then(|details| details.get("operation_id"))
        .and_then(Value::as_str);
    match operation {
        Some(id) if status.is_server_error() => {
            Error::new(code, format!("{message} (operation {id})"))
        }
        _ => Error::new(code, message),
    }
}

fn not_ours(url: &str, status: StatusCode) -> Error {
    Error::new(
        Code::ApiUnreachable,
        format!(
            "what answers at {url} (HTTP {}) is not a Portcullis API",
            status.as_u16()
        ),
    )
}

/// The innermost cause, which is the one that tells.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(url: &str) -> ApiAccess {
        ApiAccess {
            url: url.to_owned(),
            key: None,
            ca: None,
        }
    }

    #[test]
    fn keys_travel_over_tls_or_stay_here() {
        for url in [
            "http://127.0.0.1:7480",
            "http://[::1]:7480",
            "http://localhost:1",
            "https://edge.example.com",
        ] {
            assert!(checked_url(&access(url)).is_ok(), "{url}");
        }
        for url in [
            "http://edge.example.com",
            "http://10.0.0.1:7480",
            "ftp://localhost",
            "nonsense",
        ] {
            assert!(checked_url(&access(url)).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_list_that_stops_at_its_bound_says_where_the_rest_begins() {
        let pages = |count: u32| {
            async move |before: Option<String>| -> Result<Value, Failure> {
                let at: u32 = before.map_or(0, |id| id.parse().expect("ours"));
                let next = (at + 1 < count)
                    .then(|| format!("http://127.0.0.1:7480/keys?before_id={}&limit=100", at + 1));
                Ok(serde_json::json!({"keys": [{"id": at}], "next_page_uri": next}))
            }
        };
        for (count, most, items, next) in [(1, 3, 1, None), (3, 3, 3, None), (4, 3, 3, Some("3"))] {
            let (found, uri) = all_pages("keys", most, pages(count)).await.unwrap();
            assert_eq!(found.len(), items);
            let uri = serde_json::json!({"next_page_uri": uri});
            assert_eq!(next_page(&uri).as_deref(), next, "{count}");
        }
    }

    #[test]
    fn the_next_page_is_where_the_api_says() {
        let answer = |next: &str| serde_json::json!({"secrets": [], "next_page_uri": next});
        let next =
            answer("http://127.0.0.1:7480/vault_secrets?before_id=secret_1&limit=1&filter=a");
        assert_eq!(next_page(&next).as_deref(), Some("secret_1"));
        for none in [
            serde_json::json!({"next_page_uri": null}),
            serde_json::json!({}),
            answer("nonsense"),
            answer("http://127.0.0.1/x?limit=1"),
        ] {
            assert_eq!(next_page(&none), None, "{none}");
        }
    }

    #[test]
    fn the_apis_errors_keep_their_code() {
        let body = r#"{"error_code":"ERR_NGROK_203","status_code":401,"msg":"no","details":{"operation_id":"op_x","code":"PTC_API_KEY_UNKNOWN"}}"#;
        let error = refusal(StatusCode::UNAUTHORIZED, body, "http://localhost");
        assert_eq!(
            (error.code, error.message.as_str()),
            (Code::ApiKeyUnknown, "no")
        );
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, "<html>", "http://x").code,
            Code::ApiUnreachable
        );
    }
}
