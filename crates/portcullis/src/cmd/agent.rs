//! `portcullis agent`: every endpoint of the configuration, as a service runs it: what is refused is
//! tried again, and an empty configuration is no error.

use clap::Args as ClapArgs;

use super::block_on;
use crate::agent_process::{self, AgentArgs, Patience, Work};
use crate::failure::Failure;

/// `agent`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    agent: AgentArgs,
}

/// Runs it until a signal comes.
///
/// # Errors
/// What no further attempt could mend.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    block_on(async move {
        let config = agent_process::configuration(&args.agent)?;
        let endpoints = config.endpoints.clone();
        let work = Work {
            endpoints,
            patience: Patience::Endless,
            alone: None,
        };
        agent_process::run(config, work, &args.agent).await
    })
}
