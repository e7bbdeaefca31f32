//! Log lines: `tracing` to standard error or a file, as text or JSON, filtered by `PORTCULLIS_LOG`
//! (`info`, `debug`, `portcullis_edge=trace,info` …). The filter can be changed while running.
//!
//! Must never: write to standard output, which belongs to results.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::OnceLock;

use portcullis_model::{Code, Error};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::LogFormat;
use crate::{defaults, environment};
use writer::Lines;

mod writer;

/// The lines of this process, for its end. Like the subscriber, there is one.
static LINES: OnceLock<Lines> = OnceLock::new();

/// The filter of commands that serve something.
pub(crate) const LEVEL_SERVING: &str = "info";
/// The filter of commands that answer and end.
pub(crate) const LEVEL_QUIET: &str = "warn";

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
    /// Nowhere.
    Off,
}

impl std::str::FromStr for Target {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "stderr" | "stdout" | "true" => Self::Stderr,
            "false" | "off" | "none" => Self::Off,
            path => Self::File(path.into()),
        })
    }
}

/// Changes the filter of a running process.
#[derive(Debug, Clone)]
pub(crate) struct Filter(reload::Handle<EnvFilter, Registry>);

impl Filter {
    /// Puts another filter in force; one that cannot be read changes nothing.
    pub(crate) fn set(&self, level: &str) -> Result<(), String> {
        let filter = filter(level)?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Starts logging. `PORTCULLIS_LOG` is stronger than `level`.
///
/// # Errors
/// `PTC_CONFIG_INVALID` for a filter that cannot be read, `PTC_CONFIG_UNREADABLE` for a file that
/// cannot be opened.
pub(crate) fn start(level: &str, format: LogFormat, target: &Target) -> Result<Filter, Error> {
    let from_env = environment::log();
    let (source, text) = match &from_env {
        Some(text) => ("PORTCULLIS_LOG", text.as_str()),
        None => ("log.level", level),
    };
    let filter = filter(text)
        .map_err(|cause| Error::new(Code::ConfigInvalid, format!("{source}: {cause}")))?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = match target {
        Target::Off => None,
        Target::Stderr => Some(Lines::start(io::stderr())?),
        Target::File(path) => Some(Lines::start(open(path)?)?),
    };
    let started = match (lines.clone(), format) {
        (None, _) => registry.try_init(),
        (Some(lines), LogFormat::Json) => registry
            .with(fmt::layer().json().flatten_event(true).with_writer(lines))
            .try_init(),
        (Some(lines), LogFormat::Text) => {
            let colours = *target == Target::Stderr && io::stderr().is_terminal();
            registry
                .with(fmt::layer().with_ansi(colours).with_writer(lines))
                .try_init()
        }
    };
    started.map_err(Error::internal)?;
    if let Some(lines) = lines {
        // There is one subscriber, so this is the first and only time.
        LINES.get_or_init(|| lines);
    }
    Ok(Filter(handle))
}

/// Waits for the last lines. The process calls it before it ends.
pub(crate) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(defaults::LOG_FLUSH_PATIENCE);
    }
}

fn open(path: &PathBuf) -> Result<std::fs::File, Error> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|error| {
        Error::new(
            Code::ConfigUnreadable,
            format!("log file {}: {error}", path.display()),
        )
    })
}

/// Whether a text can be read as a filter.
pub(crate) fn check_filter(level: &str) -> Result<(), String> {
    filter(level).map(drop)
}

/// Reads a filter; ngrok's words for levels are understood.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let text = match level.trim() {
        "crit" => "error",
        "dbug" => "debug",
        "eror" => "error",
        "" => return Err("an empty filter would hide everything; use off".to_owned()),
        other => other,
    };
    // A lone word that is no level would be read as a target, and silence everything else.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let lone = text.chars().all(|c| c.is_ascii_alphabetic());
    if lone && !levels.contains(&text.to_ascii_lowercase().as_str()) {
        return Err(format!(
            "`{text}` is not a log level; use {}, or a filter such as info,portcullis_edge=debug",
            levels.join(", ")
        ));
    }
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| format!("`{text}` is not a log filter: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused_instead_of_silencing_the_log() {
        for good in [
            "info",
            "DEBUG",
            "crit",
            "off",
            "info,portcullis_edge=trace",
            "portcullis_edge=debug",
        ] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in ["inof", "verbose", "", "info,portcullis_edge=loud"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
