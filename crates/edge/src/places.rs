//! Where addresses are and whose they are: MaxMind files and lists that the operator brings, read off the
//! data threads and read again when they change.
//!
//! Owns: the data in force. Must never: let a broken file take away what is known, or make a connection wait
//! for a file.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use portcullis_model::{Code, Error};
use portcullis_policy::world::Place;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::defaults::PLACE_FILE_BYTES_MAX;

pub(crate) mod follow;
mod lists;

use lists::Categories;
pub use lists::is_category;

/// The files that say where addresses are, and whose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaceFiles {
    /// A City or Country file in MaxMind's format.
    pub city: Option<PathBuf>,
    /// An ASN file in MaxMind's format.
    pub asn: Option<PathBuf>,
    /// Lists of networks with their categories.
    pub categories: Vec<CategoryList>,
}

/// A list of networks, or a directory of lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CategoryList {
    /// A file; or a directory, in which a file without a category of its own is of the category that its name
    /// is, without `.txt` or `.list`.
    pub path: PathBuf,
    /// The category of lines that name none.
    pub category: Option<String>,
}

/// What is known of addresses, as it is in force.
#[derive(Debug, Default)]
pub struct Places {
    data: RwLock<Data>,
}

/// The parts, each of which is replaced by itself.
#[derive(Debug, Clone, Default)]
struct Data {
    city: Option<Arc<Database>>,
    asn: Option<Arc<Database>>,
    categories: Option<Arc<Categories>>,
}

impl Places {
    /// Reads every file once.
    ///
    /// # Errors
    /// `PTC_CONFIG_UNREADABLE` or `PTC_CONFIG_INVALID`, with the file and what is wrong with it.
    pub fn read(files: &PlaceFiles) -> Result<Self, Error> {
        let places = Self::default();
        for part in Part::of(files) {
            places.replace(part.load(files)?);
        }
        Ok(places)
    }

    /// What is known of an address; `None`: nothing. A lookup in files takes microseconds, so who may ask again
    /// keeps the answer.
    pub fn of(&self, ip: IpAddr) -> Option<Arc<Place>> {
        let data = self
            .data
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if data.city.is_none() && data.asn.is_none() && data.categories.is_none() {
            return None;
        }
        let ip = ip.to_canonical();
        let mut place = Place::default();
        if let Some(city) = &data.city {
            place.geo = city.geo(ip);
        }
        if let Some(asn) = &data.asn {
            (place.as_number, place.as_organization) = asn.system(ip);
        }
        if let Some(categories) = &data.categories {
            place.categories = categories.of(ip);
        }
        Some(Arc::new(place))
    }

    fn replace(&self, loaded: Loaded) {
        let mut data = self.data.write().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Loaded::City(city) => data.city = Some(city),
            Loaded::Asn(asn) => data.asn = Some(asn),
            Loaded::Categories(categories) => data.categories = Some(categories),
        }
    }
}

/// What is read, and read again, by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    City,
    Asn,
    Categories,
}

/// A part that was read.
pub(crate) enum Loaded {
    City(Arc<Database>),
    Asn(Arc<Database>),
    Categories(Arc<Categories>),
}

impl Part {
    /// Those that there are files for.
    fn of(files: &PlaceFiles) -> Vec<Self> {
        let mut parts = Vec::new();
        parts.extend(files.city.is_some().then_some(Self::City));
        parts.extend(files.asn.is_some().then_some(Self::Asn));
        parts.extend((!files.categories.is_empty()).then_some(Self::Categories));
        parts
    }

    /// As metrics and log lines name it.
    fn label(self) -> &'static str {
        match self {
            Self::City => "city",
            Self::Asn => "asn",
            Self::Categories => "categories",
        }
    }

    /// Reads it. Blocks for as long as the files are large.
    fn load(self, files: &PlaceFiles) -> Result<Loaded, Error> {
        let of_none = || Error::of(Code::Internal); // a part is asked for that has no file
        Ok(match self {
            Self::City => {
                let path = files.city.as_deref().ok_or_else(of_none)?;
                Loaded::City(Database::open(path, &["ASN", "ISP"])?)
            }
            Self::Asn => {
                let path = files.asn.as_deref().ok_or_else(of_none)?;
                Loaded::Asn(Database::open(path, &["City", "Country"])?)
            }
            Self::Categories => Loaded::Categories(Arc::new(Categories::load(&files.categories)?)),
        })
    }
}

/// A file in MaxMind's format, whole in memory and checked.
pub(crate) struct Database(Reader<Vec<u8>>);

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = &self.0.metadata().database_type;
        f.debug_tuple("Database").field(kind).finish()
    }
}

impl Database {
    /// Reads a file whose type is none of those that belong elsewhere.
    fn open(path: &Path, others: &[&str]) -> Result<Arc<Self>, Error> {
        let invalid =
            |what: String| Error::new(Code::ConfigInvalid, format!("{}: {what}", path.display()));
        let bytes = read_bounded(path, PLACE_FILE_BYTES_MAX)?;
        let reader = Reader::from_source(bytes)
            .map_err(|error| invalid(format!("not a MaxMind file: {error}")))?;
        check(&reader)
            .map_err(|error| invalid(format!("a MaxMind file that is damaged: {error}")))?;
        let kind = &reader.metadata().database_type;
        if others.iter().any(|other| kind.contains(other)) {
            return Err(invalid(format!(
                "its type is {kind}, which belongs to the other key"
            )));
        }
        Ok(Arc::new(Self(reader)))
    }

    /// By the names that expressions use; what the file does not say is absent.
    fn geo(&self, ip: IpAddr) -> BTreeMap<String, String> {
        let mut geo = BTreeMap::new();
        // An address of a family that the file does not have is one that it does not know.
        let found = self
            .0
            .lookup(ip)
            .and_then(|found| found.decode::<City<'_>>());
        let Ok(Some(city)) = found else {
            return geo;
        };
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                geo.insert(name.to_owned(), value);
            }
        };
        let name = |named: &Option<Named<'_>>| {
            let names = named.as_ref()?.names.as_ref()?;
            names.en.map(str::to_owned)
        };
        let code = city.country.as_ref().and_then(|country| country.iso_code);
        add("city", name(&city.city));
        add("country", name(&city.country));
        add("country_code", code.map(str::to_owned));
        let mut subdivisions = city.subdivisions.unwrap_or_default().into_iter();
        add("subdivision", name(&subdivisions.next()));
        let location = city.location.unwrap_or_default();
        add("latitude", location.latitude.map(|it| it.to_string()));
        add("longitude", location.longitude.map(|it| it.to_string()));
        add("radius", location.accuracy_radius.map(|it| it.to_string()));
        geo
    }

    /// The number and the organization of an autonomous system; 0 and nothing where none is known.
    fn system(&self, ip: IpAddr) -> (u32, String) {
        let found = self
            .0
            .lookup(ip)
            .and_then(|found| found.decode::<Asn<'_>>());
        let asn = found.ok().flatten().unwrap_or_default();
        (
            asn.autonomous_system_number.unwrap_or(0),
            asn.autonomous_system_organization.unwrap_or("").to_owned(),
        )
    }
}

/// Looks at all of a file, so that half of one is found when it is read and not at a lookup. The crate's own
/// check wants a description, which makers of small files leave out.
fn check(reader: &Reader<Vec<u8>>) -> Result<(), MaxMindDbError> {
    if !reader.metadata().description.is_empty() {
        return reader.verify();
    }
    for network in reader.networks(WithinOptions::default())? {
        network?.decode::<IgnoredAny>()?;
    }
    Ok(())
}

/// What is read of an entry of a City or Country file.
#[derive(Deserialize)]
struct City<'a> {
    #[serde(borrow)]
    city: Option<Named<'a>>,
    #[serde(borrow)]
    country: Option<Named<'a>>,
    #[serde(borrow)]
    subdivisions: Option<Vec<Named<'a>>>,
    location: Option<Location>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    iso_code: Option<&'a str>,
    #[serde(borrow)]
    names: Option<Names<'a>>,
}

#[derive(Deserialize)]
struct Names<'a> {
    #[serde(borrow)]
    en: Option<&'a str>,
}

#[derive(Deserialize, Default)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
    accuracy_radius: Option<u32>,
}

/// What is read of an entry of an ASN file.
#[derive(Deserialize, Default)]
struct Asn<'a> {
    autonomous_system_number: Option<u32>,
    #[serde(borrow)]
    autonomous_system_organization: Option<&'a str>,
}

/// A file as it is, if it is no larger than it may be.
fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let unreadable = |what: &dyn std::fmt::Display| {
        Error::new(
            Code::ConfigUnreadable,
            format!("{}: {what}", path.display()),
        )
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| unreadable(&error))?;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > most {
        return Err(unreadable(&format!("larger than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
