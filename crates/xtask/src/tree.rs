//! The Rust sources of the repository, read once.

use std::path::Path;

use anyhow::Context as _;

/// One source file.
pub(crate) struct Source {
    /// Path from the root, with forward slashes.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

impl Source {
    /// The crate's directory name, `model` for `crates/model/src/id.rs`.
    pub(crate) fn krate(&self) -> &str {
        self.path.split('/').nth(1).unwrap_or_default()
    }

    /// Whether the file holds only tests, benches, examples or fuzz targets.
    pub(crate) fn is_test(&self) -> bool {
        ["/tests/", "/benches/", "/examples/"]
            .iter()
            .any(|part| self.path.contains(part))
            || self.path.ends_with("tests.rs")
            || self.path.starts_with("fuzz/")
            || self.krate() == "e2e"
    }

    /// The product's part: everything before the first `#[cfg(test)]` that opens a module.
    pub(crate) fn product(&self) -> &str {
        let cut = self.text.match_indices("#[cfg(test)]").find(|(at, mark)| {
            let rest = self.text[at + mark.len()..].trim_start();
            rest.starts_with("mod ") && rest.find('{') < rest.find(';').or(Some(usize::MAX))
        });
        cut.map_or(&self.text, |(at, _)| &self.text[..at])
    }
}

/// Every tracked or new `.rs` file below the root.
pub(crate) fn rust_files(root: &Path) -> anyhow::Result<Vec<Source>> {
    let listing = std::process::Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ])
        .current_dir(root)
        .output()
        .context("git lists the files")?;
    anyhow::ensure!(
        listing.status.success(),
        "git ls-files failed; tidy runs inside a checkout"
    );
    let mut files = Vec::new();
    for path in String::from_utf8(listing.stdout)?.lines() {
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            files.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(files)
}
