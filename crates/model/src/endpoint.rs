//! Endpoints: a URL, a binding, a type and, where there is one, a Traffic Policy.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    AccountId, AddrId, AgentId, Code, CredentialId, EndpointId, EndpointLimits, EndpointUrl, Error,
    HealthCheck, PoolTerms, SessionId, Timestamp,
};

/// From where an endpoint can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// By anyone, on the edge's public listeners.
    Public,
    /// Only by `forward-internal` from another endpoint of the same account.
    Internal,
    /// Only from clusters that run the operator.
    Kubernetes,
}

impl Binding {
    /// The word in URLs, flags and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is not a binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a binding; use public, internal or kubernetes")]
pub struct BindingError(pub String);

impl FromStr for Binding {
    type Err = BindingError;
    fn from_str(text: &str) -> Result<Self, BindingError> {
        match text {
            "public" => Ok(Self::Public),
            "internal" => Ok(Self::Internal),
            "kubernetes" => Ok(Self::Kubernetes),
            other => Err(BindingError(other.chars().take(40).collect())),
        }
    }
}

/// Who keeps an endpoint alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointType {
    /// The store: it lives until deleted, and its policy decides.
    Cloud,
    /// An agent: it lives as long as the agent serves it, and falls through to the agent's upstream.
    /// The API's word for it is `ephemeral`.
    Agent,
}

/// What becomes of an endpoint's open connections when its policy changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// They stay.
    #[default]
    Keep,
    /// Those that would be refused now are closed, with that reason.
    Reevaluate,
    /// They are closed, spread over the server's drain time.
    Drain,
}

impl OnChange {
    /// The word in the API, in flags and in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Reevaluate => "reevaluate",
            Self::Drain => "drain",
        }
    }

    /// Whether it is what an endpoint has without saying anything.
    pub fn is_default(&self) -> bool {
        *self == Self::Keep
    }
}

impl fmt::Display for OnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OnChange {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::Keep, Self::Reevaluate, Self::Drain];
        all.into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                Error::new(
                    Code::ApiInvalidValue,
                    format!("`{shown}` is not known; use keep, reevaluate or drain"),
                )
            })
    }
}

/// PROXY protocol header that the edge puts in front of the bytes to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProxyVersion {
    /// The text form.
    #[serde(rename = "1")]
    V1,
    /// The binary form, with TLVs.
    #[serde(rename = "2")]
    V2,
}

/// Where the bytes of an agent endpoint go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Holder {
    /// An agent session on some node.
    Session {
        /// The session.
        session: SessionId,
        /// The installation behind it, which keeps random addresses across sessions.
        agent: AgentId,
        /// The credential the session came with.
        credential: CredentialId,
    },
    /// The server itself: it dials the upstream directly (`--expose`, `endpoints:`).
    Direct {
        /// Upstream URL as the edge dials it, such as `tcp://127.0.0.1:5432`.
        upstream: String,
    },
}

/// An endpoint as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `ep_…`
    pub id: EndpointId,
    /// The owner.
    pub account: AccountId,
    /// Cloud or agent.
    #[serde(rename = "type")]
    pub kind: EndpointType,
    /// Canonical URL: complete, with its port.
    pub url: EndpointUrl,
    /// From where it can be reached.
    pub binding: Binding,
    /// Chosen by the agent, such as `command_line`; empty for cloud endpoints.
    #[serde(default)]
    pub name: String,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// Whether others may share its URL.
    #[serde(default)]
    pub pooling_enabled: bool,
    /// The Traffic Policy document as given (YAML or JSON); empty: none.
    #[serde(default)]
    pub traffic_policy: String,
    /// What becomes of open connections when the policy changes.
    #[serde(default)]
    pub on_change: OnChange,
    /// How it stands in its pool.
    #[serde(default, skip_serializing_if = "PoolTerms::is_default")]
    pub pool: PoolTerms,
    /// How this node checks its upstream; an agent checks by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// What the agent forwards to, for people; empty for cloud endpoints.
    #[serde(default)]
    pub upstream_url: String,
    /// PROXY protocol towards the upstream.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyVersion>,
    /// Limits that differ from the server's.
    #[serde(default)]
    pub limits: EndpointLimits,
    /// The reserved address it stands on; `None` for random and non-public ones.
    #[serde(default)]
    pub addr: Option<AddrId>,
    /// Who serves it; `None` for cloud endpoints.
    #[serde(default)]
    pub holder: Option<Holder>,
    /// The region of its address, `global` where it has none.
    pub region: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Endpoint {
    /// The session that serves it, if an agent does.
    pub fn session(&self) -> Option<&SessionId> {
        match &self.holder {
            Some(Holder::Session { session, .. }) => Some(session),
            Some(Holder::Direct { .. }) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_three_words() {
        for binding in [Binding::Public, Binding::Internal, Binding::Kubernetes] {
            assert_eq!(binding.as_str().parse(), Ok(binding));
            assert_eq!(
                serde_json::to_string(&binding).expect("a word"),
                format!("\"{binding}\"")
            );
        }
        let error = "Public".parse::<Binding>().expect_err("lower case only");
        assert_eq!(
            error.to_string(),
            "`Public` is not a binding; use public, internal or kubernetes"
        );
        assert!(
            "x".repeat(1000)
                .parse::<Binding>()
                .expect_err("too long")
                .0
                .len()
                <= 40
        );
    }

    #[test]
    fn endpoints_round_trip_and_know_their_session() {
        let session = SessionId::new(1_700_000_000, [4; 16]);
        let held = Holder::Session {
            session: session.clone(),
            agent: AgentId::new(1_700_000_000, [5; 16]),
            credential: CredentialId::new(1_700_000_000, [6; 16]),
        };
        let mut endpoint = Endpoint {
            id: EndpointId::new(1_700_000_000, [1; 16]),
            account: AccountId::new(1_700_000_000, [2; 16]),
            kind: EndpointType::Agent,
            url: EndpointUrl::new("edge.example.com", 20001),
            binding: Binding::Public,
            name: "command_line".to_owned(),
            description: String::new(),
            metadata: String::new(),
            pooling_enabled: false,
            traffic_policy: String::new(),
            on_change: OnChange::Reevaluate,
            pool: PoolTerms::default(),
            health: Some(HealthCheck::new(crate::health::Probe::Postgres)),
            upstream_url: "tcp://127.0.0.1:5432".to_owned(),
            proxy_protocol: Some(ProxyVersion::V2),
            limits: EndpointLimits::default(),
            addr: None,
            holder: Some(held),
            region: "us".to_owned(),
            created_at: Timestamp::from_unix_millis(0),
            updated_at: Timestamp::from_unix_millis(0),
        };
        let text = serde_json::to_string(&endpoint).expect("plain data");
        assert!(
            text.contains("\"proxy_protocol\":\"2\"") && text.contains("\"type\":\"agent\""),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<Endpoint>(&text).expect("own form"),
            endpoint
        );
        assert_eq!("reevaluate".parse(), Ok(OnChange::Reevaluate));
        assert!("forget".parse::<OnChange>().is_err());
        assert_eq!(endpoint.session(), Some(&session));
        endpoint.holder = Some(Holder::Direct {
            upstream: "tcp://127.0.0.1:5432".to_owned(),
        });
        assert_eq!(endpoint.session(), None);
    }
}
