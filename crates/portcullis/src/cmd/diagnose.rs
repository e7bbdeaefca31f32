//! `portcullis diagnose`: the way from here to the server, step by step, each with its latency and a
//! verdict. The first step that fails names the cause; those behind it are not tried.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use portcullis_agent::server::Server;
use portcullis_agent::{Agent, AgentConfig, Overrides, ServerSources};
use portcullis_model::{Code, Error, Secret};
use portcullis_net::outbound::{self, ProxyUrl};
use portcullis_net::resolve::Resolver;
use portcullis_net::tls;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::block_on;
use crate::failure::{Failure, render};
use crate::output::{self, Format};
use crate::{defaults, environment};

/// `diagnose`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Where agents connect, HOST[:PORT]; else the join string's or the configuration's.
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Authtoken or join string; else as `portcullis tcp` finds it.
    #[arg(long, value_name = "TOKEN")]
    authtoken: Option<String>,
    /// Configuration file; repeatable, later ones win.
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Proxy on the way out: http://… (CONNECT) or socks5://….
    #[arg(long, value_name = "URL")]
    proxy_url: Option<String>,
    /// How the verdicts are shown; a table on a terminal, JSON elsewhere.
    #[arg(long, short, value_enum)]
    output: Option<Format>,
}

/// One step and how it went.
struct Step {
    name: &'static str,
    took: Duration,
    outcome: Result<String, Error>,
}

/// Takes the steps and shows them.
///
/// # Errors
/// Exit status 1 when a step failed; the verdicts are shown then as well.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    block_on(async move {
        let overrides = Overrides {
            authtoken: args
                .authtoken
                .clone()
                .map(Secret::new)
                .or_else(environment::authtoken),
            api_key: None,
            connect_url: args.server.clone().or_else(environment::server),
            proxy_url: args.proxy_url.clone().map(Secret::new),
        };
        let config = AgentConfig::load(&super::config::files(&args.config), &overrides)?;
        let mut steps = Vec::new();
        diagnose(&config, &mut steps).await;
        show(&steps, Format::settle(args.output));
        if steps.iter().all(|step| step.outcome.is_ok()) {
            Ok(())
        } else {
            Err(Failure::Said(1))
        }
    })
}

/// Takes the steps in their order, up to the first that fails.
async fn diagnose(config: &AgentConfig, steps: &mut Vec<Step>) -> Option<()> {
    let agent = &config.agent;
    let sources = ServerSources {
        authtoken: agent.authtoken.clone(),
        connect_url: agent.connect_url.clone(),
        connect_cas: agent.connect_cas.clone(),
        data_dirs: environment::local_data_dirs(),
    };
    let server = step(steps, "settings", async {
        let server = sources.resolve()?;
        Ok((format!("server {}", server.address), server))
    })
    .await?;
    let proxy = match &agent.proxy_url {
        None => None,
        Some(url) => Some(
            step(steps, "proxy", async {
                let proxy: ProxyUrl = url.expose().parse()?;
                Ok((format!("through {}", proxy.address), proxy))
            })
            .await?,
        ),
    };
    if proxy.is_none() {
        step(steps, "dns", dns(&server)).await?;
    }
    let deadline = Instant::now() + defaults::DIAGNOSE_STEP_TIMEOUT;
    let stream = step(steps, "tcp", async {
        let stream = outbound::connect(&server.address, proxy.as_ref(), deadline).await?;
        let peer = stream.peer_addr().map_or_else(
            |_| "connected".to_owned(),
            |peer| format!("connected to {peer}"),
        );
        Ok((peer, stream))
    })
    .await?;
    let deadline = Instant::now() + defaults::DIAGNOSE_STEP_TIMEOUT;
    step(steps, "tls", async {
        let stream = tls::connect(
            stream,
            tls::client_config(&server.trust)?,
            &server.address,
            deadline,
        )
        .await?;
        drop(stream);
        Ok(("the certificate is the one that is trusted".to_owned(), ()))
    })
    .await?;
    step(steps, "protocol", session(config)).await
}

/// Takes one step and notes how it went.
async fn step<T>(
    steps: &mut Vec<Step>,
    name: &'static str,
    work: impl Future<Output = Result<(String, T), Error>>,
) -> Option<T> {
    let start = Instant::now();
    let outcome = match tokio::time::timeout(defaults::DIAGNOSE_STEP_TIMEOUT * 2, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(Code::ServerUnreachable, "no answer in time")),
    };
    let took = start.elapsed();
    match outcome {
        Ok((said, value)) => {
            steps.push(Step {
                name,
                took,
                outcome: Ok(said),
            });
            Some(value)
        }
        Err(error) => {
            steps.push(Step {
                name,
                took,
                outcome: Err(error),
            });
            None
        }
    }
}

async fn dns(server: &Server) -> Result<(String, ()), Error> {
    let host = server
        .address
        .rsplit_once(':')
        .map_or(server.address.as_str(), |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.parse::<IpAddr>().is_ok() {
        return Ok((format!("{host} is an address"), ()));
    }
    let found = Resolver::system()?.addresses(host).await?;
    let list: Vec<String> = found.iter().map(ToString::to_string).collect();
    Ok((format!("{host} is {}", list.join(", ")), ()))
}

/// A session as an agent opens it, and its end.
async fn session(config: &AgentConfig) -> Result<(String, ()), Error> {
    let builder = config.builder().data_dirs(environment::local_data_dirs());
    let agent: Agent = builder
        .connect_timeout(defaults::DIAGNOSE_STEP_TIMEOUT)
        .connect()
        .await?;
    let said = agent.status().borrow().session.as_ref().map_or_else(
        || "a session was opened".to_owned(),
        |session| {
            format!(
                "account {}, region {}, release {}",
                session.account, session.region, session.server_version
            )
        },
    );
    agent.shutdown(Duration::ZERO).await;
    Ok((said, ()))
}

fn show(steps: &[Step], format: Format) {
    match format {
        Format::Json => output::line(&json(steps).to_string()),
        Format::Table => {
            let rows = steps.iter().map(|step| {
                let (verdict, said) = match &step.outcome {
                    Ok(said) => ("ok", said.clone()),
                    Err(error) => ("failed", error.code.to_string()),
                };
                vec![
                    step.name.to_owned(),
                    verdict.to_owned(),
                    latency(step.took),
                    said,
                ]
            });
            output::line(&output::table(
                &["step", "verdict", "latency", ""],
                rows.collect(),
            ));
            if let Some((step, error)) = failed(steps) {
                let text = render(error).replace(error.code.remedy(), remedy(step, error));
                output::note(&format!("\n{text}"));
            }
        }
    }
}

/// The step that failed; it is the last one.
fn failed(steps: &[Step]) -> Option<(&Step, &Error)> {
    let step = steps.last()?;
    Some((step, step.outcome.as_ref().err()?))
}

/// What to do. Where the catalogue says to run this command, the step knows better.
fn remedy(step: &Step, error: &Error) -> &'static str {
    match (error.code, step.name) {
        (Code::ServerUnreachable, "tls") => {
            "Something else answers there: check the port, and proxies and firewalls on the way."
        }
        (Code::ServerUnreachable, _) => {
            "Check the address and the port, the firewall and that the server runs."
        }
        _ => error.code.remedy(),
    }
}

fn json(steps: &[Step]) -> Value {
    let list: Vec<Value> = steps
        .iter()
        .map(|step| {
            let error = step.outcome.as_ref().err();
            json!({
                "step": step.name,
                "ok": error.is_none(),
                "latency_ms": step.took.as_secs_f64() * 1000.0,
                "message": step.outcome.as_ref().map_or_else(|error| error.message.clone(), Clone::clone),
                "code": error.map(|error| error.code),
                "remedy": error.map(|error| remedy(step, error)),
            })
        })
        .collect();
    json!({"ok": steps.iter().all(|step| step.outcome.is_ok()), "steps": list})
}

fn latency(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_failure_ends_it_and_is_told() {
        let mut steps = Vec::new();
        let done = step(&mut steps, "one", async { Ok(("fine".to_owned(), 1)) }).await;
        let failed: Option<()> = step(&mut steps, "two", async {
            Err(Error::new(Code::DnsFailed, "no such name"))
        })
        .await;
        assert_eq!((done, failed), (Some(1), None));
        let value = json(&steps);
        assert_eq!(value["ok"], false);
        assert_eq!(value["steps"][1]["code"], "PTC_DNS_FAILED");
    }
}
