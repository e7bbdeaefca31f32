//! The REST API as a test uses it: JSON in, JSON out.

use anyhow::Context as _;
use serde_json::Value;

/// A client with a key.
#[derive(Clone)]
pub struct Api {
    /// Base URL without a slash at its end.
    pub url: String,
    /// API key.
    pub key: String,
    client: reqwest::Client,
}

/// An answer: status and body (`null` where empty).
pub type Answer = (u16, Value);

impl Api {
    /// A client for the API at `url`.
    ///
    /// # Panics
    /// When no client can be made.
    pub fn new(url: &str, key: &str) -> Self {
        // Whoever comes first installs the provider; later calls find it there.
        let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        drop(installed);
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a plain client");
        Self {
            url: url.trim_end_matches('/').to_owned(),
            key: key.trim().to_owned(),
            client,
        }
    }

    /// The same API with another key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self {
            key: key.to_owned(),
            ..self.clone()
        }
    }

    /// Any request.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.url)
        };
        let mut request = self
            .client
            .request(method, url)
            .bearer_auth(&self.key)
            .header("ngrok-version", "2");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.context("the API answers")?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        ))
    }

    /// GET that must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send("GET", path, None).await.expect("the API answers");
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// POST that must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self
            .send("POST", path, Some(body))
            .await
            .expect("the API answers");
        assert!(
            (200..300).contains(&status),
            "POST {path}: {status} {answer}"
        );
        answer
    }

    /// PATCH that must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn patch(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self
            .send("PATCH", path, Some(body))
            .await
            .expect("the API answers");
        assert_eq!(status, 200, "PATCH {path}: {answer}");
        answer
    }

    /// DELETE that must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn delete(&self, path: &str) {
        let (status, answer) = self
            .send("DELETE", path, None)
            .await
            .expect("the API answers");
        assert_eq!(status, 204, "DELETE {path}: {answer}");
    }

    /// The endpoint of that name, if it is online.
    pub async fn endpoint_named(&self, name: &str) -> Option<Value> {
        let (status, list) = self.send("GET", "/endpoints", None).await.ok()?;
        (status == 200).then_some(())?;
        list["endpoints"]
            .as_array()?
            .iter()
            .find(|endpoint| endpoint["name"] == name)
            .cloned()
    }

    /// Value of a metric, summed over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self
            .send("GET", "/metrics", None)
            .await
            .expect("metrics answer");
        let text = text.as_str().unwrap_or_default().to_owned();
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            })
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }
}
