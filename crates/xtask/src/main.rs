//! Repository tasks: `tidy` checks the rules of the house, `docs` writes what is generated.
//!
//! Must never: be needed to build or run the product.

mod docs;
mod functions;
mod layers;
mod licences;
mod sources;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;

/// Repository tasks.
#[derive(Parser)]
#[command(name = "xtask")]
enum Task {
    /// Check layers, headers, sizes, purity, licences and generated files.
    Tidy {
        /// Write the list of exceptions anew; it may only shrink.
        #[arg(long)]
        shrink: bool,
    },
    /// Write generated documents.
    Docs,
}

fn main() -> std::process::ExitCode {
    let task = Task::parse();
    let done = root().and_then(|root| match task {
        Task::Tidy { shrink } => tidy(&root, shrink),
        Task::Docs => docs::write(&root),
    });
    // Not returned from `main`: that would print a backtrace where one is asked for by the environment.
    done.map_or_else(
        |error| {
            eprintln!("xtask: {error:#}");
            std::process::ExitCode::FAILURE
        },
        |()| std::process::ExitCode::SUCCESS,
    )
}

/// The repository's root, from where this crate lies.
fn root() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest
        .ancestors()
        .nth(2)
        .context("xtask lies two levels below the root")?
        .to_owned())
}

fn tidy(root: &Path, shrink: bool) -> anyhow::Result<()> {
    let files = tree::rust_files(root)?;
    let metadata = layers::metadata(root)?;
    let mut problems = Vec::new();
    problems.extend(layers::check(&metadata));
    problems.extend(licences::check(root, &metadata)?);
    problems.extend(sources::check(&files));
    problems.extend(functions::check(root, &files, shrink)?);
    problems.extend(docs::check(root)?);
    if problems.is_empty() {
        println!(
            "tidy: {} files, {} packages, nothing to say",
            files.len(),
            metadata.packages.len()
        );
        return Ok(());
    }
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    anyhow::bail!("tidy: {} problems", problems.len())
}
