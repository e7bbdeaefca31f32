//! The command line: the root and its commands, one file each under `cmd/`.
//!
//! Must never: do anything but read arguments and hand them on.

use clap::{Parser, Subcommand};

use crate::cmd;
use crate::failure::Failure;

/// Portcullis gives a TCP service an address.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about = "Portcullis gives a TCP service an address.", max_term_width = 100, after_help = FIRST_STEPS)]
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
    /// Give a service with TLS a name; the server passes TLS through untouched.
    #[command(after_help = cmd::tls::EXAMPLES)]
    Tls(Box<cmd::tcp::Args>),
    /// Bring an internal endpoint of the account to a port of this machine.
    Connect(Box<cmd::connect::Args>),
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
            Self::Tls(args) => cmd::tls::run(*args),
            Self::Connect(args) => cmd::connect::run(*args),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documentation_names_every_command_and_flag() {
        let docs = include_str!("../../../docs/cli.md");
        let mut missing = Vec::new();
        walk(&Cli::command(), docs, &mut missing);
        assert!(
            missing.is_empty(),
            "docs/cli.md does not mention {missing:?}"
        );
    }

    fn walk(command: &clap::Command, docs: &str, missing: &mut Vec<String>) {
        for below in command
            .get_subcommands()
            .filter(|below| !below.is_hide_set())
        {
            if !docs.contains(below.get_name()) {
                missing.push(below.get_name().to_owned());
            }
            let flags = below
                .get_arguments()
                .filter(|flag| !flag.is_hide_set())
                .filter_map(clap::Arg::get_long);
            let unknown = flags
                .map(|flag| format!("--{flag}"))
                .filter(|flag| !docs.contains(flag));
            missing.extend(unknown.map(|flag| format!("{} {flag}", below.get_name())));
            walk(below, docs, missing);
        }
    }

    #[test]
    fn lines_of_everyday_use_are_understood() {
        for line in [
            "server",
            "server --data-dir data --host localhost --agents-listen 127.0.0.1:0 --api-listen 127.0.0.1:0 --port-range 20000-20010",
            "server --expose 20001=127.0.0.1:5432 --expose 7000-7002=app:7000-7002 --demo",
            "tcp 5432",
            "tcp db:5432 --url tcp://edge:20001 --binding public --name db --description d --metadata m --pooling-enabled",
            "tcp 22 --cidr-allow 10.0.0.0/8 --cidr-allow 192.0.2.0/24 --cidr-deny 10.1.0.0/16 --upstream-proxy-protocol 2",
            "tcp 22 --state-dir s --web-addr false --authtoken pc1.x --output json --ephemeral --idle-timeout 1h",
            "tcp 22 --remote-addr edge:20001 --proxy-proto 1",
            "tls 443",
            "tls web:443 --url tls://app.edge.example.com --pooling-enabled --name web --cidr-allow 10.0.0.0/8",
            "connect tcp://db.internal:5432",
            "connect tcp://db.internal:5432 15432 --server edge:7443 --authtoken pc1.x",
            "connect tcp://db.internal:5432 -",
            "connect db.internal:22 --stdio --proxy-url socks5://p:1 --config a.yml --log-level debug",
            "start db web",
            "start --all",
            "start --none",
            "agent --config a.yml --config b.yml",
            "up",
            "api endpoints create --url tcp://x.internal:1 --type cloud --bindings internal --pooling-enabled=false --traffic-policy {}",
            "api endpoints update ep_1 --pooling-enabled --connections-max 5",
            "api endpoints list --limit 5 --before-id ep_1 --filter x",
            "api reserved-addrs create --kind port --host h --port 22 --region eu",
            "api credentials create --acl bind:* --acl bind:x:1",
            "api api-keys create --admin",
            "api ip-policies create --description office --rules-file rules.txt",
            "api ip-policies update ipp_1 --rules-file -",
            "api ip-policy-rules create --ip-policy-id ipp_1 --cidr 10.0.0.0/8 --action allow",
            "api ip-policy-rules update ipr_1 --cidr 10.0.0.0/9",
            "api tunnel-sessions restart ts_1",
            "api connections delete cn_1",
            "api vaults create --name prod/db --description d",
            "api vaults secrets vault_1 --limit 5",
            "api vault-secrets create --name a --vault-name prod/db --value-file -",
            "api vault-secrets create --name a --vault-id vault_1 --value x",
            "api vault-secrets update secret_1 --value-file f",
            "server --rotate-master-key --data-dir data",
            "accounts create acme --plan free --verified",
            "accounts delete ac_1 --force",
            "config check --server server.yml",
            "config add-authtoken -",
            "service install server --print",
            "service status",
            "completion bash",
            "diagnose --server edge:7443 --output json",
            "policy check p.yml --type cloud",
        ] {
            let words = ["portcullis"].into_iter().chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn lines_that_make_no_sense_are_refused() {
        for line in [
            "",
            "tcp",
            "tls",
            "tcp 1 --upstream-proxy-protocol 3",
            "tcp 1 --url a --remote-addr b",
            "tcp 1 --idle-timeout 300",
            "tcp 1 --traffic-policy a --traffic-policy-file b",
            "server --expose 20001",
            "server --port-range 5-1",
            "server --host https://x",
            "start",
            "connect",
            "connect tcp://db.internal:5432 99999",
            "start a --all",
            "start --all --none",
            "accounts create",
            "api endpoints create",
            "api ip-policy-rules create --cidr 10.0.0.0/8",
            "api vaults create",
            "api vault-secrets create --name a --value x",
            "api vault-secrets create --name a --vault-id i --vault-name n --value x",
            "api vault-secrets create --name a --vault-id i --value x --value-file f",
            "completion powershell-9",
        ] {
            let words = ["portcullis"]
                .into_iter()
                .chain(line.split(' ').filter(|word| !word.is_empty()));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
