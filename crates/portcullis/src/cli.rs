//! The command line: the root and its commands, one file each under `cmd/`.
//!
//! Must never: do anything but read arguments and hand them on.

use clap::{Parser, Subcommand};

use crate::cmd;
use crate::failure::Failure;

/// Portcullis gives a TCP service an address.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, propagate_version = true, max_term_width = 100, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  portcullis server               start a server here
  portcullis tcp 5432             on another terminal: give localhost:5432 an address
  portcullis api endpoints list   see what is online";

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server: the public side, the API and the store.
    Server(Box<cmd::server::Args>),
    /// Give a TCP service an address.
    Tcp(Box<cmd::tcp::Args>),
    /// Start endpoints of the agent's configuration file by name.
    Start(Box<cmd::start::Args>),
    /// Run the agent: every endpoint of its configuration file.
    Agent(Box<cmd::agent::Args>),
    /// Server, agent and a demo service in one process, with state in ./data.
    Up(Box<cmd::up::Args>),
    /// Run the demo service alone: it greets, and echoes lines.
    Demo(cmd::demo::Args),
    /// Ask the REST API.
    #[command(subcommand)]
    Api(Box<cmd::api::Resource>),
    /// Manage accounts (admin keys only).
    #[command(subcommand)]
    Accounts(Box<cmd::accounts::Verb>),
    /// Work on the agent's configuration file.
    #[command(subcommand)]
    Config(cmd::config::Verb),
    /// Install and run server or agent as a system service.
    #[command(subcommand)]
    Service(cmd::service::Verb),
    /// Check the way from here to the server, step by step.
    Diagnose(cmd::diagnose::Args),
    /// Work on Traffic Policy documents.
    #[command(subcommand)]
    Policy(cmd::policy::Verb),
    /// Print a completion script for a shell.
    Completion(cmd::completion::Args),
    /// Print the version.
    Version,
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// Why it could not be done.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Server(args) => cmd::server::run(*args),
            Self::Tcp(args) => cmd::tcp::run(*args),
            Self::Start(args) => cmd::start::run(*args),
            Self::Agent(args) => cmd::agent::run(*args),
            Self::Up(args) => cmd::up::run(*args),
            Self::Demo(args) => cmd::demo::run(args),
            Self::Api(resource) => cmd::api::run(*resource),
            Self::Accounts(verb) => cmd::accounts::run(*verb),
            Self::Config(verb) => cmd::config::run(verb),
            Self::Service(verb) => cmd::service::run(verb),
            Self::Diagnose(args) => cmd::diagnose::run(args),
            Self::Policy(verb) => cmd::policy::run(verb),
            Self::Completion(args) => cmd::completion::run(args),
            Self::Version => {
                crate::output::line(&format!("portcullis {}", env!("CARGO_PKG_VERSION")));
                Ok(())
            }
        }
    }
}
