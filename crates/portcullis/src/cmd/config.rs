//! `portcullis config`: the agent's configuration file (and `check` for the server's).
//!
//! Must never: print a token, or leave a half-written file.

mod edit;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use portcullis_agent::{AgentConfig, Overrides};
use portcullis_model::join::JoinString;
use portcullis_model::secret::Token;
use portcullis_model::{Code, Error, Secret};

use crate::config::ServerConfig;
use crate::environment;
use crate::failure::Failure;
use crate::output;

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Check configuration files: every problem at once, each with its path.
    Check(CheckArgs),
    /// Keep an authtoken or join string in the file.
    AddAuthtoken(AddArgs),
    /// Keep an API key in the file.
    AddApiKey(AddArgs),
    /// Keep the server's address in the file.
    AddConnectUrl(AddArgs),
    /// Open the file in $EDITOR, and check it afterwards.
    Edit(FileArgs),
    /// Print the file's path.
    Path(FileArgs),
}

/// `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The files; the agent's own by default.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The files, as other commands name them.
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Check as the server's configuration.
    #[arg(long)]
    server: bool,
}

/// `add-…`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The value; `-` reads it from standard input, which keeps it out of the shell's history.
    #[arg(value_name = "VALUE")]
    value: String,
    #[command(flatten)]
    file: FileArgs,
}

/// Which file.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The file; ~/.config/portcullis/portcullis.yml by default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FileArgs {
    fn path(&self) -> Result<PathBuf, Failure> {
        let named = self
            .config
            .clone()
            .or_else(|| environment::config_files().pop());
        named.or_else(environment::default_agent_config).ok_or_else(|| {
            Failure::new(Code::ConfigUnreadable, "there is no home directory to keep a configuration in; name a file with --config")
        })
    }
}

/// Does it.
///
/// # Errors
/// `PTC_CONFIG_…`, and what the value is refused with.
pub(crate) fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Check(args) => check(args),
        Verb::AddAuthtoken(args) => add(&args, "authtoken", check_authtoken),
        Verb::AddApiKey(args) => add(&args, "api_key", check_api_key),
        Verb::AddConnectUrl(args) => add(&args, "connect_url", |_| Ok(())),
        Verb::Edit(args) => edit(&args.path()?),
        Verb::Path(args) => {
            output::line(&args.path()?.display().to_string());
            Ok(())
        }
    }
}

/// The files to read: those named, else the environment's, else the default one if it exists.
pub(crate) fn files(named: &[PathBuf]) -> Vec<PathBuf> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let from_env = environment::config_files();
    if !from_env.is_empty() {
        return from_env;
    }
    environment::default_agent_config()
        .filter(|path| path.exists())
        .into_iter()
        .collect()
}

/// The agent's configuration from files alone.
///
/// # Errors
/// `PTC_CONFIG_…`.
pub(crate) fn load_agent(files: &[PathBuf]) -> Result<AgentConfig, Error> {
    AgentConfig::load(files, &Overrides::default())
}

/// The API key of the agent's configuration, if there is one.
///
/// # Errors
/// `PTC_CONFIG_…` for a configuration that is there and cannot be read.
pub(crate) fn configured_api_key(named: &[PathBuf]) -> Result<Option<Secret>, Error> {
    let files = files(named);
    if files.is_empty() {
        Ok(None)
    } else {
        Ok(load_agent(&files)?.agent.api_key)
    }
}

fn check(args: CheckArgs) -> Result<(), Failure> {
    let named = [args.files, args.config].concat();
    if args.server {
        let [file] = named.as_slice() else {
            return Err(Failure::Usage("give the one file to check".to_owned()));
        };
        let config = ServerConfig::load(file)?;
        config.check()?;
        config.check_files()?;
        output::line(&format!("{}: valid", file.display()));
        return Ok(());
    }
    let files = files(&named);
    if files.is_empty() {
        let place = environment::default_agent_config()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        return Err(Failure::new(
            Code::ConfigUnreadable,
            format!("there is no configuration file at {place}; name one"),
        ));
    }
    let config = load_agent(&files)?;
    for note in &config.notes {
        output::note(&format!("note: {note}"));
    }
    let names: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    output::line(&format!(
        "{}: valid, {} endpoint(s)",
        names.join(", "),
        config.endpoints.len()
    ));
    Ok(())
}

fn check_authtoken(value: &str) -> Result<(), Failure> {
    let malformed = |cause: String| Failure::new(Code::AuthtokenMalformed, cause);
    if JoinString::is_claimed_by(value) {
        return JoinString::parse(value)
            .map(drop)
            .map_err(|error| malformed(error.to_string()));
    }
    Token::parse(value)
        .map(drop)
        .map_err(|error| malformed(error.to_string()))
}

fn check_api_key(value: &str) -> Result<(), Failure> {
    if JoinString::is_claimed_by(value) {
        return Err(Failure::new(
            Code::ApiKeyMalformed,
            "this is a join string; use `config add-authtoken` for it",
        ));
    }
    Token::parse(value)
        .map(drop)
        .map_err(|error| Failure::new(Code::ApiKeyMalformed, error.to_string()))
}

fn add(args: &AddArgs, key: &str, check: fn(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let value = if args.value == "-" {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(|error| {
            Failure::new(Code::ConfigUnreadable, format!("standard input: {error}"))
        })?;
        line.trim().to_owned()
    } else {
        args.value.trim().to_owned()
    };
    check(&value)?;
    let path = args.file.path()?;
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(Failure::new(
                Code::ConfigUnreadable,
                format!("{}: {error}", path.display()),
            ));
        }
    };
    let after = edit::with_agent_key(&before, key, &value).map_err(|cause| {
        Failure::new(Code::ConfigInvalid, format!("{}: {cause}", path.display()))
    })?;
    let dir = path.parent().unwrap_or(Path::new("."));
    AgentConfig::parse(&after, dir, &Overrides::default())?;
    replace(&path, &after).map_err(|error| {
        Failure::new(
            Code::ConfigUnreadable,
            format!("{}: {error}", path.display()),
        )
    })?;
    output::line(&format!("{key} saved in {}", path.display()));
    Ok(())
}

/// Writes a file for this user alone, whole or not at all.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let fresh = dir.join(format!(".portcullis.{}.tmp", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| std::fs::rename(&fresh, path));
    if renamed.is_err() {
        // The error that matters is the first; a leftover is harmless.
        drop(std::fs::remove_file(&fresh));
    }
    renamed
}

fn edit(path: &Path) -> Result<(), Failure> {
    let Some(editor) = environment::editor() else {
        return Err(Failure::Usage(format!(
            "set $EDITOR first, or edit {} by hand",
            path.display()
        )));
    };
    if !path.exists() {
        replace(path, edit::START).map_err(|error| {
            Failure::new(
                Code::ConfigUnreadable,
                format!("{}: {error}", path.display()),
            )
        })?;
    }
    // An editor may come with arguments, as `code --wait` does.
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = std::process::Command::new(program)
        .args(words)
        .arg(path)
        .status();
    match status {
        Ok(status) if status.success() => check(CheckArgs {
            files: vec![path.to_owned()],
            config: Vec::new(),
            server: false,
        }),
        Ok(status) => Err(Failure::Usage(format!("{program} ended with {status}"))),
        Err(error) => Err(Failure::Usage(format!("{program}: {error}"))),
    }
}
