//! Lists of networks with categories, one network on a line.
//!
//! ```text
//! # a comment
//! 192.0.2.0/24
//! 198.51.100.7 com.example.crawler
//! ```
//!
//! Must never: keep more than its limits say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use portcullis_model::{Code, Error};
use portcullis_policy::cidr::{self, CidrSet};

use super::{CategoryList, read_bounded};
use crate::defaults::{
    CATEGORIES_MAX, CATEGORY_BYTES_MAX, CATEGORY_FILES_MAX, CATEGORY_LIST_BYTES_MAX,
    CATEGORY_NETWORKS_MAX,
};

/// Networks by category.
#[derive(Debug, Default)]
pub(crate) struct Categories(Vec<(String, CidrSet)>);

impl Categories {
    /// Reads every list.
    ///
    /// # Errors
    /// With the file, the line and what is wrong there.
    pub(super) fn load(lists: &[CategoryList]) -> Result<Self, Error> {
        let mut read = Collected::default();
        for list in lists {
            for (path, category) in files_of(list)? {
                read.list(&path, category.as_deref())?;
            }
        }
        let sets = read.networks.into_iter();
        Ok(Self(
            sets.map(|(category, networks)| (category, networks.into_iter().collect()))
                .collect(),
        ))
    }

    /// The categories of an address, with those above each, in order.
    pub(super) fn of(&self, ip: IpAddr) -> Vec<String> {
        let mut found = BTreeSet::new();
        for (category, _) in self.0.iter().filter(|(_, networks)| networks.contains(ip)) {
            let above = category.match_indices('.').map(|(at, _)| at);
            found.extend(above.map(|at| &category[..at]));
            found.insert(category);
        }
        found.into_iter().map(str::to_owned).collect()
    }
}

/// The files of a list, and the category of each: the list's own, or what a file in a directory is called.
pub(super) fn files_of(list: &CategoryList) -> Result<Vec<(PathBuf, Option<String>)>, Error> {
    if !list.path.is_dir() {
        return Ok(vec![(list.path.clone(), list.category.clone())]);
    }
    let unreadable = |error: std::io::Error| {
        Error::new(
            Code::ConfigUnreadable,
            format!("{}: {error}", list.path.display()),
        )
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&list.path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        // What editors and package managers leave lying about is hidden, or has another ending.
        let named = name.filter(|name| !name.starts_with('.')).and_then(|name| {
            name.strip_suffix(".txt")
                .or_else(|| name.strip_suffix(".list"))
        });
        let Some(named) = named else { continue };
        let category = list.category.clone().or_else(|| Some(named.to_owned()));
        if files.len() >= CATEGORY_FILES_MAX {
            let what = format!(
                "{}: more than {CATEGORY_FILES_MAX} lists",
                list.path.display()
            );
            return Err(Error::new(Code::ConfigInvalid, what));
        }
        files.push((path.clone(), category));
    }
    files.sort();
    Ok(files)
}

/// Whether a text may be a category: lower-case names, from the widest to the narrowest, such as
/// `com.example.crawler`.
pub fn is_category(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    text.len() <= CATEGORY_BYTES_MAX && text.split('.').all(is_name)
}

/// What was read so far.
#[derive(Default)]
struct Collected {
    networks: BTreeMap<String, Vec<IpNet>>,
    count: usize,
}

impl Collected {
    fn list(&mut self, path: &Path, category: Option<&str>) -> Result<(), Error> {
        let bytes = read_bounded(path, CATEGORY_LIST_BYTES_MAX)?;
        let wrong = |line: usize, what: &str| {
            Error::new(
                Code::ConfigInvalid,
                format!("{}:{line}: {what}", path.display()),
            )
        };
        let text = String::from_utf8(bytes).map_err(|_| wrong(1, "the list is not text"))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut columns = line.split_whitespace();
            let Some(network) = columns.next() else {
                continue;
            };
            let wrong = |what: &str| wrong(number + 1, what);
            let category = columns.next().or(category);
            let category =
                category.ok_or_else(|| wrong("the line has no category, nor has the list"))?;
            if !is_category(category) {
                return Err(wrong(
                    "a category is lower-case names with dots between, such as com.example",
                ));
            }
            if columns.next().is_some() {
                return Err(wrong("more than a network and a category"));
            }
            let network = cidr::parse_or_address(network).map_err(|what| wrong(&what))?;
            self.add(network, category).map_err(|what| wrong(&what))?;
        }
        Ok(())
    }

    fn add(&mut self, network: IpNet, category: &str) -> Result<(), String> {
        self.count += 1;
        if self.count > CATEGORY_NETWORKS_MAX {
            return Err(format!("more than {CATEGORY_NETWORKS_MAX} networks in all"));
        }
        if let Some(networks) = self.networks.get_mut(category) {
            networks.push(network);
            return Ok(());
        }
        if self.networks.len() >= CATEGORIES_MAX {
            return Err(format!("more than {CATEGORIES_MAX} categories in all"));
        }
        self.networks.insert(category.to_owned(), vec![network]);
        Ok(())
    }
}
