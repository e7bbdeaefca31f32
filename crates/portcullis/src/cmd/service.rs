//! `portcullis service`: server or agent as a systemd service, as a user of its own and with low
//! ports by capability.
//!
//! Must never: run the service as root, or overwrite a configuration.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Subcommand, ValueEnum};
use portcullis_model::{Code, Error};

use crate::config::ServerConfig;
use crate::environment;
use crate::failure::Failure;
use crate::output;

const SERVER_UNIT: &str = include_str!("../../../../packaging/portcullis-server.service");
const AGENT_UNIT: &str = include_str!("../../../../packaging/portcullis-agent.service");
const UNIT_DIR: &str = "/etc/systemd/system";
const SERVER_CONFIG: &str = "/etc/portcullis/server.yml";
const AGENT_CONFIG: &str = "/etc/portcullis/portcullis.yml";
/// The file that a new server starts with; everything in it is a comment.
const SERVER_CONFIG_START: &str = "\
# Configuration of the Portcullis server. Every key is optional; docs/configuration.md has them all.
# Check it with: portcullis config check --server /etc/portcullis/server.yml
#
# host: edge.example.com
# endpoints:
#   - port: 20001
#     upstream: 127.0.0.1:5432
";

/// What runs as a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// `portcullis server`.
    Server,
    /// `portcullis agent`.
    Agent,
}

impl Role {
    fn unit(self) -> &'static str {
        match self {
            Self::Server => "portcullis-server.service",
            Self::Agent => "portcullis-agent.service",
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::Server => SERVER_UNIT,
            Self::Agent => AGENT_UNIT,
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Server => SERVER_CONFIG,
            Self::Agent => AGENT_CONFIG,
        }
    }
}

/// Which service.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// Server or agent.
    #[arg(value_enum, default_value = "agent")]
    role: Role,
}

/// `install`.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Server or agent.
    #[arg(value_enum, default_value = "agent")]
    role: Role,
    /// Its configuration file; /etc/portcullis/server.yml or /etc/portcullis/portcullis.yml by default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the unit and change nothing.
    #[arg(long)]
    print: bool,
    /// Install without starting it now.
    #[arg(long)]
    no_start: bool,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write the unit, enable it and start it.
    Install(InstallArgs),
    /// Stop it, disable it and remove the unit; configuration and state stay.
    Uninstall(RoleArgs),
    /// Start it.
    Start(RoleArgs),
    /// Stop it.
    Stop(RoleArgs),
    /// Stop and start it.
    Restart(RoleArgs),
    /// Show whether it runs.
    Status(RoleArgs),
}

/// Does it.
///
/// # Errors
/// `PTC_SERVICE_MANAGER` where systemd is absent or refuses, `PTC_CONFIG_…` for the configuration.
pub(crate) fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Install(args) => install(&args),
        Verb::Uninstall(args) => uninstall(args.role),
        Verb::Start(args) => systemctl(&["start", args.role.unit()]),
        Verb::Stop(args) => systemctl(&["stop", args.role.unit()]),
        Verb::Restart(args) => systemctl(&["restart", args.role.unit()]),
        Verb::Status(args) => status(args.role),
    }
}

fn install(args: &InstallArgs) -> Result<(), Failure> {
    let config = args
        .config
        .clone()
        .unwrap_or_else(|| args.role.config().into());
    let config = std::path::absolute(&config).unwrap_or(config);
    let binary = binary()?;
    let unit = unit(args.role, &binary, &config)?;
    let hidden = hidden(&binary);
    if args.print {
        output::line(unit.trim_end());
        if let Some(why) = hidden {
            output::note(&format!("note: {why}"));
        }
        return Ok(());
    }
    available()?;
    if let Some(why) = hidden {
        return Err(refused(why));
    }
    check_config(args.role, &config)?;
    let path = Path::new(UNIT_DIR).join(args.role.unit());
    write(&path, &unit)?;
    systemctl(&["daemon-reload"])?;
    let mut enable = vec!["enable"];
    if !args.no_start {
        enable.push("--now");
    }
    enable.push(args.role.unit());
    systemctl(&enable)?;
    output::line(&format!(
        "{} installed and enabled, with {}",
        args.role.unit(),
        config.display()
    ));
    Ok(())
}

fn uninstall(role: Role) -> Result<(), Failure> {
    available()?;
    let path = Path::new(UNIT_DIR).join(role.unit());
    if !path.exists() {
        output::line(&format!("{} is not installed", role.unit()));
        return Ok(());
    }
    systemctl(&["disable", "--now", role.unit()])?;
    std::fs::remove_file(&path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
    systemctl(&["daemon-reload"])?;
    output::line(&format!(
        "{} removed; configuration and state are still there",
        role.unit()
    ));
    Ok(())
}

/// Shows what systemd says; its exit status is ours (3: not running, 4: not installed).
fn status(role: Role) -> Result<(), Failure> {
    available()?;
    let status = Command::new("systemctl")
        .args(["status", "--no-pager", "--lines=10", role.unit()])
        .status();
    match status
        .map_err(|error| refused(format!("systemctl: {error}")))?
        .code()
    {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::Said(u8::try_from(code).unwrap_or(1))),
        None => Err(Failure::Said(1)),
    }
}

/// The unit with its paths filled in.
fn unit(role: Role, binary: &Path, config: &Path) -> Result<String, Failure> {
    let quoted = |path: &Path| match path.to_str() {
        Some(text)
            if !text.contains(|c: char| {
                c.is_control() || c == '%' || c == '"' || c == '\\' || c == ' '
            }) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(Failure::Usage(format!(
            "{}: a unit cannot name this path; use one without spaces and special characters",
            path.display()
        ))),
    };
    Ok(role
        .template()
        .replace("@BIN@", &quoted(binary)?)
        .replace("@CONFIG@", &quoted(config)?))
}

/// Why the service could not start this program: its unit hides homes and temporary files from it.
fn hidden(binary: &Path) -> Option<String> {
    let hidden = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
    let below = hidden.iter().find(|dir| binary.starts_with(dir))?;
    let path = binary.display();
    Some(format!(
        "services cannot see programs below {below}; copy it first and call the copy: \
         install -m 755 {path} /usr/local/bin/portcullis"
    ))
}

fn binary() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| refused(format!("the path of this program cannot be found: {error}")))
}

/// systemd manages this machine, and we may tell it what to do.
fn available() -> Result<(), Failure> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(refused(
            "this machine is not run by systemd (there is no /run/systemd/system)".to_owned(),
        ));
    }
    Ok(())
}

fn check_config(role: Role, config: &Path) -> Result<(), Failure> {
    if !environment::is_root() {
        return Err(refused("installing a service needs root".to_owned()));
    }
    match role {
        Role::Server => {
            if !config.exists() {
                write(config, SERVER_CONFIG_START)?;
            }
            ServerConfig::load(config)?.check()?;
        }
        Role::Agent if !config.exists() => {
            let message = format!(
                "{} does not exist; write it first, for example with\n    portcullis config add-authtoken --config {} TOKEN",
                config.display(),
                config.display()
            );
            return Err(Failure::new(Code::ConfigUnreadable, message));
        }
        Role::Agent => {
            super::config::load_agent(&[config.to_owned()])?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = match path.parent() {
        Some(dir) => std::fs::create_dir_all(dir).and_then(|()| std::fs::write(path, text)),
        None => std::fs::write(path, text),
    };
    written.map_err(|error| refused(format!("{}: {error}", path.display())))
}

fn systemctl(args: &[&str]) -> Result<(), Failure> {
    available()?;
    let output = Command::new("systemctl")
        .args(args)
        .output()
        .map_err(|error| refused(format!("systemctl: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(refused(format!(
        "systemctl {}: {}",
        args.join(" "),
        said.trim()
    )))
}

fn refused(message: String) -> Failure {
    Failure::Known(Error::new(Code::ServiceManager, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_run_as_their_own_user_with_hardening() {
        for role in [Role::Server, Role::Agent] {
            let text = unit(
                role,
                Path::new("/usr/bin/portcullis"),
                Path::new(role.config()),
            )
            .unwrap();
            assert!(
                text.contains("ExecStart=/usr/bin/portcullis ")
                    && text.contains(role.config())
                    && !text.contains('@')
                    || text.contains("@system-service")
            );
            for line in [
                "DynamicUser=yes",
                "NoNewPrivileges=yes",
                "ProtectSystem=strict",
                "Type=notify",
            ] {
                assert!(text.contains(line), "{line}");
            }
            assert!(!text.contains("@BIN@") && !text.contains("@CONFIG@"));
        }
        assert!(SERVER_UNIT.contains("AmbientCapabilities=CAP_NET_BIND_SERVICE"));
    }

    #[test]
    fn a_program_that_the_unit_hides_is_named() {
        assert!(hidden(Path::new("/root/.cargo/bin/portcullis")).is_some());
        assert!(hidden(Path::new("/usr/local/bin/portcullis")).is_none());
    }

    #[test]
    fn the_first_configuration_is_valid() {
        ServerConfig::parse(SERVER_CONFIG_START, "server.yml", Path::new("/")).unwrap();
    }
}
