//! `portcullis api vault-secrets`: what policies read with `secrets.get`. Values go in and never come out.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use portcullis_model::{Code, Error};

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use crate::defaults;
use crate::failure::Failure;

pub(super) const KIND: Kind = Kind {
    path: "/vault_secrets",
    key: "secrets",
    columns: &[
        ("id", "id"),
        ("name", "name"),
        ("vault", "vault_name"),
        ("description", "description"),
        ("updated", "updated_at"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a secret.
    Create(CreateArgs),
    /// Show one, without its value.
    Get(IdArgs),
    /// List them, without their values.
    List(ListArgs),
    /// Change value, name, description or metadata.
    Update(UpdateArgs),
    /// Delete one.
    Delete(IdArgs),
}

/// Where the value comes from.
#[derive(Args)]
pub(crate) struct Value {
    /// The value; it stays in the shell's history and the list of processes, which a file does not.
    #[arg(long, value_name = "TEXT", group = "of_value")]
    value: Option<String>,
    /// A file with the value (`-` reads standard input); one line end at its end is left out.
    #[arg(long, value_name = "FILE", group = "of_value")]
    value_file: Option<PathBuf>,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Value")
            .field("value_file", &self.value_file)
            .finish_non_exhaustive()
    }
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Letters, digits and `_/.`; policies read it by this.
    #[arg(long)]
    name: String,
    /// The vault it goes into.
    #[arg(
        long,
        value_name = "ID",
        group = "of_vault",
        required_unless_present = "vault_name"
    )]
    vault_id: Option<String>,
    /// The vault it goes into, by its name.
    #[arg(long, value_name = "NAME", group = "of_vault")]
    vault_name: Option<String>,
    #[command(flatten)]
    value: Value,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    common: Common,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Its id.
    #[arg(value_name = "ID")]
    id: String,
    /// Its new name; not while a policy reads it.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    value: Value,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    common: Common,
}

/// Does it.
pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(args) => {
            let value = args.value.read()?.ok_or_else(|| {
                Failure::Usage(
                    "a secret needs --value-file FILE (- is standard input) or --value TEXT"
                        .to_owned(),
                )
            })?;
            let body = Body::labelled(args.labels)
                .with("name", Some(args.name))
                .with("value", Some(value))
                .with("vault_id", args.vault_id)
                .with("vault_name", args.vault_name);
            common::create(KIND, body, &args.common).await.map(drop)
        }
        Verb::Get(args) => common::get(KIND, &args).await.map(drop),
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Update(args) => {
            let value = args.value.read()?;
            let body = Body::labelled(args.labels)
                .with("name", args.name)
                .with("value", value);
            common::update(KIND, &args.id, body, &args.common).await
        }
        Verb::Delete(args) => common::delete(KIND, &args, &[]).await,
    }
}

impl Value {
    /// The value, if there is one.
    fn read(self) -> Result<Option<String>, Failure> {
        match (self.value, self.value_file) {
            (Some(value), _) => Ok(Some(value)),
            (None, Some(path)) => read(&path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// Reads a file, or standard input for `-`, without the line end that editors and `echo` put there.
fn read(path: &Path) -> Result<String, Failure> {
    let refuse = |error: std::io::Error| {
        let text = format!("{}: {error}", path.display());
        Failure::Known(Error::new(Code::ConfigUnreadable, text))
    };
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).map_err(refuse)?)
    };
    let mut text = String::new();
    let most = defaults::SECRET_FILE_BYTES_MAX;
    let bytes = source
        .take(most + 1)
        .read_to_string(&mut text)
        .map_err(refuse)?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > most) {
        let text = format!("{}: larger than {most} bytes", path.display());
        return Err(Failure::new(Code::SecretValueTooLong, text));
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_from_a_file_without_its_last_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        for (stored, value) in [
            ("hunter2\n", "hunter2"),
            ("hunter2", "hunter2"),
            ("a\nb\r\n", "a\nb"),
            ("a\n\n", "a\n"),
        ] {
            std::fs::write(&path, stored).unwrap();
            assert_eq!(read(&path).unwrap(), value);
        }
        std::fs::write(&path, "x".repeat(20_000)).unwrap();
        assert!(read(&path).is_err());
        assert!(read(&dir.path().join("none")).is_err());
    }

    #[test]
    fn flags_print_no_value() {
        let value = Value {
            value: Some("hunter2".to_owned()),
            value_file: None,
        };
        assert!(!format!("{value:?}").contains("hunter2"));
    }
}
