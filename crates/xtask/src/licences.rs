//! Licences and banned packages, read from the resolved dependency graph; the same rules stand in
//! `deny.toml` for cargo-deny. This check needs no network and no further tool.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context as _;
use cargo_metadata::{Metadata, Package};

/// Licences that a dependency may offer.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages that must not come in: a second TLS stack, and unmaintained ones.
const BANNED: &[&str] = &[
    "openssl",
    "openssl-sys",
    "native-tls",
    "ring",
    "serde_yaml",
    "time-macros-impl",
];

/// What breaks the rules.
pub(crate) fn check(root: &Path, metadata: &Metadata) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let used = used(root)?;
    let is_used =
        |package: &&Package| used.contains(&format!("{} v{}", package.name, package.version));
    for package in metadata.packages.iter().filter(is_used) {
        let name = package.name.as_str();
        if BANNED.contains(&name) {
            problems.push(format!("{name} {} is banned", package.version));
        }
        match package.license.as_deref() {
            Some(expression) if permitted(expression) => {}
            Some(expression) => problems.push(format!(
                "{name}: the licence `{expression}` is not on the list"
            )),
            None if package.license_file.is_some() => {}
            None => problems.push(format!("{name} names no licence")),
        }
    }
    Ok(problems)
}

/// Names and versions that are really built, on any target; cargo's metadata also lists what only a
/// feature nobody enables would bring.
fn used(root: &Path) -> anyhow::Result<HashSet<String>> {
    let tree = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--workspace",
            "--target",
            "all",
        ])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root)
        .output()
        .context("cargo tree lists the packages")?;
    anyhow::ensure!(
        tree.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let name_and_version = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Ok(String::from_utf8(tree.stdout)?
        .lines()
        .map(name_and_version)
        .collect())
}

/// Whether an SPDX expression can be met with the list. `AND` needs every part, `OR` and `/` one.
fn permitted(expression: &str) -> bool {
    let normal = expression.replace('/', " OR ").replace(['(', ')'], " ");
    normal
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|one| ALLOWED.contains(&one.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read() {
        assert!(permitted("MIT OR Apache-2.0"));
        assert!(permitted("MIT/Apache-2.0"));
        assert!(permitted("(MIT OR GPL-3.0) AND Unicode-3.0"));
        assert!(!permitted("GPL-3.0"));
        assert!(!permitted("MIT AND GPL-3.0"));
    }
}
