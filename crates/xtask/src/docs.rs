//! Generated documents: written by `cargo xtask docs`, compared by `cargo xtask tidy`.
//! The OpenAPI document is compared by a test of the control crate.

use std::path::Path;

/// Path and text of every generated document.
fn generated() -> Vec<(&'static str, String)> {
    vec![("docs/errors.md", portcullis_model::errors::markdown())]
}

/// Writes them.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    for (path, text) in generated() {
        std::fs::write(root.join(path), text)?;
        println!("docs: {path}");
    }
    Ok(())
}

/// What differs.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let differs = |path: &str, text: &str| {
        std::fs::read_to_string(root.join(path)).is_ok_and(|on_disk| on_disk == text)
    };
    Ok(generated()
        .into_iter()
        .filter(|(path, text)| !differs(path, text))
        .map(|(path, _)| format!("{path} is not what the code says; run `cargo xtask docs`"))
        .collect())
}
