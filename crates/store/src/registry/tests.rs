//! The rules of the registry, each by name, on a store in memory.

mod accounts;
mod addresses;
mod binds;
mod certificates;
mod concurrency;
mod endpoints;
mod faults;
mod hosts;
mod ip_policies;
mod isolation;
mod properties;
mod restrictions;
mod sessions;
mod tls;
mod vaults;

use std::sync::Arc;

use portcullis_model::secret::Token;
use portcullis_model::{
    AccountId, AgentId, Code, Credential, Error, Plan, Secret, SessionId, Timestamp,
};

use super::{OpenedSession, Registry, Written};
use crate::Store;
use crate::clock::{Clock, ManualClock};
use crate::memory::MemoryStore;
use crate::requests::{BindSpec, NewAccount, NewCredential, NewSession};
use crate::settings::Settings;

const HOST: &str = "edge.example.com";
const DENY: &str = "on_tcp_connect:\n  - actions:\n      - type: deny\n";

struct Bed {
    registry: Registry,
    store: Arc<dyn Store>,
    clock: ManualClock,
    account: AccountId,
    credential: Credential,
}

fn settings() -> Settings {
    Settings::new("node-1", "eu", HOST)
}

impl Bed {
    async fn new() -> Self {
        Self::with(settings()).await
    }

    async fn with(settings: Settings) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open().expect("a thread"));
        let (clock, handle) = Clock::manual(Timestamp::from_unix_millis(1_700_000_000_000));
        let registry = Registry::open(Arc::clone(&store), settings, clock)
            .await
            .expect("opens");
        let account = new_account(&registry, "first", None).await;
        let credential = new_credential(&registry, &account, &[]).await;
        Self {
            registry,
            store,
            clock: handle,
            account,
            credential,
        }
    }

    async fn with_plan(plan: Plan) -> Self {
        let mut settings = settings();
        settings.plans.insert("default".into(), plan);
        Self::with(settings).await
    }

    /// Another account with a session of an agent of its own.
    async fn stranger(&self) -> (AccountId, SessionId) {
        let account = new_account(&self.registry, "stranger", None).await;
        let credential = new_credential(&self.registry, &account, &[]).await;
        let session = self.open(&credential, 200, 1).await.expect("opens");
        (account, session.session.id)
    }

    async fn open(
        &self,
        credential: &Credential,
        agent: u8,
        generation: u64,
    ) -> Result<OpenedSession, Error> {
        self.registry
            .open_session(session_of(credential, agent, generation))
            .await
            .map(value)
    }

    async fn session(&self) -> SessionId {
        self.open(&self.credential, 1, 1)
            .await
            .expect("opens")
            .session
            .id
    }

    async fn bind(
        &self,
        session: &SessionId,
        url: &str,
    ) -> Result<portcullis_model::Endpoint, Error> {
        self.registry
            .bind_endpoint(session, spec(url))
            .await
            .map(value)
    }
}

fn value<T>(written: Written<T>) -> T {
    written.value
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    result.expect_err("refused").code
}

fn agent(n: u8) -> AgentId {
    AgentId::new(1_700_000_000, [n; 16])
}

fn session_of(credential: &Credential, agent_number: u8, generation: u64) -> NewSession {
    NewSession {
        credential: credential.id.clone(),
        agent: agent(agent_number),
        agent_secret: Secret::new(format!("secret-{agent_number}")),
        generation,
        ip: "192.0.2.1".parse().expect("ip"),
        agent_version: "0.1.0".into(),
        os: "linux".into(),
        arch: "x86_64".into(),
        hostname: "box".into(),
        metadata: String::new(),
    }
}

fn spec(url: &str) -> BindSpec {
    BindSpec {
        name: "command_line".into(),
        url: url.into(),
        upstream_url: "tcp://localhost:5432".into(),
        ..BindSpec::default()
    }
}

async fn new_account(registry: &Registry, name: &str, plan: Option<&str>) -> AccountId {
    let new = NewAccount {
        name: name.into(),
        plan: plan.map(str::to_owned),
        ..NewAccount::default()
    };
    registry
        .create_account(new)
        .await
        .expect("an account")
        .value
        .id
}

async fn new_credential(registry: &Registry, account: &AccountId, acl: &[&str]) -> Credential {
    let acl = acl.iter().map(|rule| (*rule).to_owned()).collect();
    let new = NewCredential {
        acl,
        ..NewCredential::default()
    };
    registry
        .create_credential(account, new)
        .await
        .expect("a credential")
        .value
        .0
}

fn token_of_unknown() -> String {
    Token::new(
        &portcullis_model::id::ksuid(1_700_000_000, [9; 16]),
        [9; 24],
    )
    .reveal()
    .expose()
    .clone()
}
