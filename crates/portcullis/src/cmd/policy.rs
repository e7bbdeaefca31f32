//! `portcullis policy`: work on Traffic Policy documents without a server.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use portcullis_model::{Code, EndpointType, Error};
use portcullis_policy::Policy;

use crate::defaults;
use crate::failure::Failure;
use crate::output;

mod facts;
mod test;

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Check a document: every problem at once, each with its path.
    Check(CheckArgs),
    /// Say what a policy would do to a connection.
    Test(Box<test::TestArgs>),
}

/// The type of the endpoint that the policy is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum For {
    /// An agent's endpoint: what the policy lets through goes to its upstream.
    Agent,
    /// A cloud endpoint: the policy itself must end every connection's way.
    Cloud,
}

impl From<For> for EndpointType {
    fn from(kind: For) -> Self {
        match kind {
            For::Agent => Self::Agent,
            For::Cloud => Self::Cloud,
        }
    }
}

/// `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The document (`-` reads standard input).
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The type of endpoint that it is for.
    #[arg(
        long = "type",
        value_enum,
        default_value = "agent",
        value_name = "TYPE"
    )]
    kind: For,
}

/// Does it.
///
/// # Errors
/// `PTC_POLICY_…` with every problem, `PTC_CONFIG_UNREADABLE`.
pub(crate) fn run(verb: Verb) -> Result<(), Failure> {
    let args = match verb {
        Verb::Check(args) => args,
        Verb::Test(args) => return test::run(&args),
    };
    let text = read_document(&args.file)?;
    let policy = Policy::compile(&text, args.kind.into())?;
    for notice in policy.notices() {
        output::note(&format!("note: {}: {}", notice.path, notice.message));
    }
    output::line(&format!("{}: valid", args.file.display()));
    Ok(())
}

/// Reads a policy document; `-` is standard input.
///
/// # Errors
/// `PTC_CONFIG_UNREADABLE`, `PTC_POLICY_TOO_LARGE`.
pub(crate) fn read_document(path: &Path) -> Result<String, Failure> {
    let refuse = |error: std::io::Error| {
        Error::new(
            Code::ConfigUnreadable,
            format!("{}: {error}", path.display()),
        )
    };
    let limit = defaults::POLICY_FILE_BYTES_MAX;
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(limit + 1)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .map_err(refuse)?
            .take(limit + 1)
            .read_to_string(&mut text)
    };
    let bytes = read.map_err(refuse)?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > limit) {
        return Err(Failure::new(
            Code::PolicyTooLarge,
            format!("{}: larger than 1 MiB", path.display()),
        ));
    }
    Ok(text)
}
