//! `portcullis start`: endpoints of the configuration file by name.

use clap::Args as ClapArgs;
use portcullis_agent::AgentConfig;
use portcullis_agent::config::EndpointEntry;
use portcullis_model::{Code, Error};

use super::block_on;
use crate::agent_process::{self, AgentArgs, Patience, Work};
use crate::failure::Failure;

/// `start`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Names of endpoints in the configuration.
    #[arg(value_name = "NAME", required_unless_present_any = ["all", "none"])]
    names: Vec<String>,
    /// Start every endpoint.
    #[arg(long, conflicts_with_all = ["names", "none"])]
    all: bool,
    /// Start none: only the session and the local API.
    #[arg(long, conflicts_with = "names")]
    none: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Runs them until a signal comes.
///
/// # Errors
/// Why an endpoint could not be had, or why the agent ended.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    block_on(async move {
        let config = agent_process::configuration(&args.agent)?;
        let endpoints = if args.all {
            all(&config)?
        } else if args.none {
            Vec::new()
        } else {
            named(&config, &args.names)?
        };
        let work = Work {
            endpoints,
            patience: Patience::None,
            alone: None,
        };
        agent_process::run(config, work, &args.agent).await
    })
}

/// Every endpoint of a configuration that has some.
///
/// # Errors
/// `PTC_CONFIG_INVALID` when it has none.
pub(crate) fn all(config: &AgentConfig) -> Result<Vec<EndpointEntry>, Error> {
    if config.endpoints.is_empty() {
        return Err(Error::new(
            Code::ConfigInvalid,
            "the configuration has no endpoints; add some under `endpoints:`",
        ));
    }
    Ok(config.endpoints.clone())
}

fn named(config: &AgentConfig, names: &[String]) -> Result<Vec<EndpointEntry>, Error> {
    let unknown: Vec<&str> = names
        .iter()
        .filter(|name| config.endpoint(name).is_none())
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = config
            .endpoints
            .iter()
            .map(|entry| entry.options.name.as_str())
            .collect();
        let known = if known.is_empty() {
            "it has none".to_owned()
        } else {
            format!("it has: {}", known.join(", "))
        };
        return Err(Error::new(
            Code::ConfigInvalid,
            format!(
                "the configuration has no endpoint {}; {known}",
                unknown.join(", ")
            ),
        ));
    }
    Ok(names
        .iter()
        .filter_map(|name| config.endpoint(name))
        .cloned()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_agent::EndpointOptions;

    #[test]
    fn unknown_names_are_told_with_the_known_ones() {
        let entry = |name: &str| EndpointEntry {
            options: EndpointOptions::new().name(name),
            upstream: "1".to_owned(),
        };
        let config = AgentConfig {
            endpoints: vec![entry("db"), entry("web")],
            ..AgentConfig::default()
        };
        assert_eq!(
            named(&config, &["web".to_owned()]).unwrap()[0].options.name,
            "web"
        );
        let message = named(&config, &["wbe".to_owned()]).unwrap_err().message;
        assert!(
            message.contains("wbe") && message.contains("db, web"),
            "{message}"
        );
        assert!(all(&AgentConfig::default()).is_err());
    }
}
