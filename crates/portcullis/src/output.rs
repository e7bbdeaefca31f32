//! What commands print: text to standard output and notes to standard error, neither of which may
//! panic when the reader has gone (`portcullis api … | head`).
//!
//! Must never: use `println!` or `eprintln!`; they panic on a broken pipe.

use std::io::{self, IsTerminal as _, Write as _};

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns, for people.
    Table,
    /// JSON, for programs.
    Json,
}

impl Format {
    /// The asked for format, else a table on a terminal and JSON elsewhere.
    pub(crate) fn settle(asked: Option<Self>) -> Self {
        asked.unwrap_or(if io::stdout().is_terminal() {
            Self::Table
        } else {
            Self::Json
        })
    }
}

/// Prints a line to standard output. When nobody reads any more, the process ends quietly.
pub(crate) fn line(text: &str) {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    if let Err(error) = written {
        drop(out);
        give_up(&error);
    }
}

/// Prints a line to standard error. A standard error that is gone is no reason to stop.
pub(crate) fn note(text: &str) {
    let mut err = io::stderr().lock();
    if err
        .write_all(text.as_bytes())
        .and_then(|()| err.write_all(b"\n"))
        .is_err()
    {
        // There is no third place to complain to.
    }
}

/// Standard output is gone: a closed pipe is the reader's choice, a terminal that hung up is told by
/// its signal, anything else is a failure.
fn give_up(error: &io::Error) {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    if error.raw_os_error() == Some(nix::libc::EIO) {
        return;
    }
    note(&format!("error: cannot write to standard output: {error}"));
    std::process::exit(1);
}

/// Aligned `name  value` lines.
pub(crate) fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}").trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// A table with a header line and no borders.
pub(crate) fn table(headers: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(headers.iter().map(|header| header.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}
