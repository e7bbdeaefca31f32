//! `portcullis completion`: a script for the shell, on standard output.

use clap::{Args as ClapArgs, CommandFactory as _};

use crate::failure::Failure;
use crate::output;

/// `completion`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Install it:\n  bash  portcullis completion bash > /etc/bash_completion.d/portcullis\n  zsh   portcullis completion zsh > \"${fpath[1]}/_portcullis\"\n  fish  portcullis completion fish > ~/.config/fish/completions/portcullis.fish"
)]
pub(crate) struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Prints it.
///
/// # Errors
/// None; the result is that of all commands.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::cli::Cli::command(),
        "portcullis",
        &mut script,
    );
    output::line(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}
