//! The layer table: which crate may depend on which. `ARCHITECTURE.md` shows it to people.

use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Package, level, and what it may use below it (`*`: everything on lower levels).
const TABLE: &[(&str, u8)] = &[
    ("portcullis-model", 0),
    ("portcullis-policy", 1),
    ("portcullis-proto", 1),
    ("portcullis-net", 2),
    ("portcullis-store", 2),
    ("portcullis-telemetry", 2),
    ("portcullis-edge", 3),
    ("portcullis-agent", 3),
    ("portcullis-control", 3),
    ("portcullis", 4),
    // Judges the product, so it uses nothing of it and nothing of the product uses it.
    ("portcullis-conformance", 4),
    ("portcullis-e2e", 5),
    ("portcullis-xtask", 5),
    ("portcullis-bench", 6),
];

/// Crates of level 0 and 1 see no runtime and no socket.
const PURE_BANS: &[&str] = &[
    "tokio",
    "tokio-util",
    "socket2",
    "rustls",
    "hyper",
    "axum",
    "rusqlite",
];

/// Libraries that only these crates may name.
const WALLS: &[(&str, &[&str])] = &[
    ("rusqlite", &["portcullis-store"]),
    (
        "socket2",
        &["portcullis-net", "portcullis-e2e", "portcullis-conformance"],
    ),
    ("axum", &["portcullis-control", "portcullis-agent"]),
    (
        "clap",
        &[
            "portcullis",
            "portcullis-xtask",
            "portcullis-e2e",
            "portcullis-conformance",
        ],
    ),
    (
        "anyhow",
        &[
            "portcullis",
            "portcullis-xtask",
            "portcullis-e2e",
            "portcullis-bench",
        ],
    ),
];

/// Reads the workspace with its resolved packages.
pub(crate) fn metadata(root: &Path) -> anyhow::Result<Metadata> {
    Ok(MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(["--offline".into(), "--locked".into()])
        .exec()?)
}

/// What breaks the table.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let level = |name: &str| {
        TABLE
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, level)| *level)
    };
    let mut problems = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let Some(own) = level(name) else {
            problems.push(format!(
                "{name} has no row in xtask/src/layers.rs; a new crate needs an ADR"
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development)
        {
            let used = dependency.name.as_str();
            if let Some(theirs) = level(used)
                && theirs >= own
            {
                problems.push(format!(
                    "{name} (level {own}) may not depend on {used} (level {theirs})"
                ));
            }
            if own <= 1 && PURE_BANS.contains(&used) {
                problems.push(format!("{name} is pure and may not depend on {used}"));
            }
            for (library, allowed) in WALLS {
                if used == *library && !allowed.contains(&name) {
                    problems.push(format!(
                        "{name} may not depend on {used}; only {allowed:?} may"
                    ));
                }
            }
        }
    }
    problems
}
