//! The keys of the files that say where addresses are, and whose.
//!
//! Must never: read such a file; the edge does.

use std::path::{Path, PathBuf};

use portcullis_edge::places::{CategoryList, PlaceFiles, is_category};
use serde::Serialize;

use super::reader::Section;

/// `geo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct GeoConfig {
    /// A City or Country file in MaxMind's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) city: Option<PathBuf>,
    /// An ASN file in MaxMind's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asn: Option<PathBuf>,
}

/// One of `ip_categories`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct IpCategories {
    /// A list, or a directory of lists.
    pub(crate) file: PathBuf,
    /// The category of lines that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) category: Option<String>,
}

/// Reads `geo`; its files are found relative to `base`.
pub(super) fn geo(top: &mut Section, base: &Path) -> GeoConfig {
    let mut section = top.section("geo");
    let mut file = |key| section.file(key).map(|path| base.join(path));
    let geo = GeoConfig {
        city: file("city"),
        asn: file("asn"),
    };
    section.finish();
    geo
}

/// Reads `ip_categories`; its files are found relative to `base`.
pub(super) fn ip_categories(top: &mut Section, base: &Path) -> Vec<IpCategories> {
    let mut lists = Vec::new();
    for mut section in top.sections("ip_categories") {
        let file = section.file("file").map(|path| base.join(path));
        let category = section.text("category");
        if category.as_deref().is_some_and(|it| !is_category(it)) {
            let what =
                "lower-case names with dots between are expected, such as blocklist.org.example";
            section.problem("category", what);
        }
        match file {
            Some(file) => lists.push(IpCategories { file, category }),
            None => section.problem_here("`file` is required"),
        }
        section.finish();
    }
    lists
}

/// The files, as the edge takes them.
pub(crate) fn files(geo: &GeoConfig, lists: &[IpCategories]) -> PlaceFiles {
    let list = |list: &IpCategories| CategoryList {
        path: list.file.clone(),
        category: list.category.clone(),
    };
    PlaceFiles {
        city: geo.city.clone(),
        asn: geo.asn.clone(),
        categories: lists.iter().map(list).collect(),
    }
}
