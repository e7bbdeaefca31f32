//! What the process finds around it: environment variables, default directories, and the join
//! string, API key and API address that a server on this machine left for local use.
//!
//! This is the only place that reads environment variables. Must never: send a key that it found
//! on disk to an address that was found elsewhere.

use std::path::{Path, PathBuf};

use portcullis_model::{Code, Error, Secret};

use crate::defaults;

/// The file with the join string, in a data directory.
pub(crate) const JOIN_FILE: &str = "join";
/// The file with the first admin key, in a data directory.
pub(crate) const ADMIN_KEY_FILE: &str = "admin.key";
/// The file with the API's address, in a data directory.
pub(crate) const API_URL_FILE: &str = "api.url";
/// The file with the certificate of the server's own CA, in a data directory.
pub(crate) const CA_FILE: &str = "ca.pem";

fn var(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

/// `PORTCULLIS_AUTHTOKEN`, else `NGROK_AUTHTOKEN`.
pub(crate) fn authtoken() -> Option<Secret> {
    var("PORTCULLIS_AUTHTOKEN")
        .or_else(|| var("NGROK_AUTHTOKEN"))
        .map(Secret::new)
}

/// `PORTCULLIS_API_KEY`, else `NGROK_API_KEY`.
pub(crate) fn api_key() -> Option<Secret> {
    var("PORTCULLIS_API_KEY")
        .or_else(|| var("NGROK_API_KEY"))
        .map(Secret::new)
}

/// `PORTCULLIS_API_URL`.
pub(crate) fn api_url() -> Option<String> {
    var("PORTCULLIS_API_URL")
}

/// `PORTCULLIS_SERVER`: where agents connect, `host:port`.
pub(crate) fn server() -> Option<String> {
    var("PORTCULLIS_SERVER")
}

/// `PORTCULLIS_CONFIG`, several paths parted by `:`.
pub(crate) fn config_files() -> Vec<PathBuf> {
    var("PORTCULLIS_CONFIG")
        .map(|paths| std::env::split_paths(&paths).collect())
        .unwrap_or_default()
}

/// `PORTCULLIS_LOG`.
pub(crate) fn log() -> Option<String> {
    var("PORTCULLIS_LOG")
}

/// Whether the terminal says that it can show lines and no more.
pub(crate) fn dumb_terminal() -> bool {
    var("TERM").is_some_and(|term| term == "dumb")
}

/// `VISUAL`, else `EDITOR`.
pub(crate) fn editor() -> Option<String> {
    var("VISUAL").or_else(|| var("EDITOR"))
}

/// Names the server's data directory, for commands on the same machine too.
pub(crate) const DATA_DIR: &str = "PORTCULLIS_DATA_DIR";

/// `PORTCULLIS_DATA_DIR`.
pub(crate) fn data_dir() -> Option<PathBuf> {
    var(DATA_DIR).map(PathBuf::from)
}

/// `PORTCULLIS_STATE_DIR`.
pub(crate) fn state_dir() -> Option<PathBuf> {
    var("PORTCULLIS_STATE_DIR").map(PathBuf::from)
}

fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

fn xdg(name: &str, below_home: &str) -> Option<PathBuf> {
    var(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| home().map(|home| home.join(below_home)))
}

/// The agent's configuration file where none is named.
pub(crate) fn default_agent_config() -> Option<PathBuf> {
    xdg("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("portcullis/portcullis.yml"))
}

/// The agent's state directory where none is named.
pub(crate) fn default_state_dir() -> PathBuf {
    xdg("XDG_STATE_HOME", ".local/state")
        .map(|dir| dir.join("portcullis/agent"))
        .unwrap_or_else(|| PathBuf::from("/var/lib/portcullis/agent"))
}

/// The data directory of this user's server.
fn user_data_dir() -> Option<PathBuf> {
    xdg("XDG_DATA_HOME", ".local/share").map(|dir| dir.join("portcullis"))
}

/// The data directory of the system's server.
pub(crate) fn system_data_dir() -> PathBuf {
    PathBuf::from("/var/lib/portcullis")
}

/// Whether the process runs as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The server's data directory where neither the command line nor the configuration names one: the
/// environment's, else `./data` when a server lived there before, else the user's or the system's.
pub(crate) fn default_data_dir() -> PathBuf {
    let here = PathBuf::from("data");
    if let Some(dir) = data_dir() {
        return dir;
    }
    if is_data_dir(&here) {
        return here;
    }
    if is_root() {
        system_data_dir()
    } else {
        user_data_dir().unwrap_or(here)
    }
}

/// Whether a server has lived in a directory.
fn is_data_dir(dir: &Path) -> bool {
    dir.join("store.sqlite").exists() || dir.join(JOIN_FILE).exists()
}

/// Whether commands find a server's directory from every other one, without being told.
pub(crate) fn is_found(dir: &Path) -> bool {
    let same = |known: PathBuf| std::fs::canonicalize(known).is_ok_and(|known| known == dir);
    user_data_dir().is_some_and(same) || same(system_data_dir())
}

/// The directories in which a server of this machine may have left its files: the one that is named,
/// as the server itself prefers it, then the nearest.
pub(crate) fn local_data_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = data_dir().into_iter().collect();
    dirs.push(PathBuf::from("data"));
    dirs.extend(user_data_dir());
    dirs.push(system_data_dir());
    dirs
}

/// The text of a small file, if it exists and can be read.
///
/// # Errors
/// `PTC_CONFIG_UNREADABLE` when it exists and cannot be read.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                || error.kind() == std::io::ErrorKind::NotADirectory =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::new(
            Code::ConfigUnreadable,
            format!("{}: {error}", path.display()),
        )),
    }
}

/// Where the API is and with which key.
#[derive(Debug, Clone)]
pub(crate) struct ApiAccess {
    /// The base address, without a slash at the end.
    pub(crate) url: String,
    /// The key, when there is one.
    pub(crate) key: Option<Secret>,
    /// The CA of a local server, trusted beside the public ones.
    pub(crate) ca: Option<PathBuf>,
}

/// Finds the API: what is given, else the environment, else the files of a server on this machine.
/// Its admin key is used only for its own address.
pub(crate) fn api_access(url: Option<String>, key: Option<Secret>) -> ApiAccess {
    let url = url
        .or_else(api_url)
        .map(|url| url.trim_end_matches('/').to_owned());
    let local = local_data_dirs()
        .into_iter()
        .filter_map(|dir| Some((local_api(&dir, url.as_deref())?, dir)))
        .find(|(found, dir)| key.is_none() || url.is_some() || vouches(dir, &found.url));
    match local.map(|(found, _)| found) {
        Some(found) => ApiAccess {
            key: key.or(found.key),
            ..found
        },
        None => ApiAccess {
            url: url.unwrap_or_else(|| format!("http://127.0.0.1:{}", defaults::API_PORT)),
            key,
            ca: None,
        },
    }
}

/// Whether a key that comes from elsewhere may go to the address in a data directory. The one below the
/// current directory may have come with what somebody unpacked there, so it names this machine or nothing.
fn vouches(dir: &Path, url: &str) -> bool {
    dir.is_absolute() || is_local(url)
}

/// Whether a URL's host is this machine.
pub(crate) fn is_local(url: &str) -> bool {
    let host = reqwest::Url::parse(url)
        .ok()
        .and_then(|url| Some(url.host_str()?.trim_matches(['[', ']']).to_owned()));
    host.is_some_and(|host| {
        let ip = host.parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    })
}

/// The API of the server whose data directory this is, if it is the one that is asked for.
fn local_api(dir: &Path, wanted: Option<&str>) -> Option<ApiAccess> {
    let url = read(&dir.join(API_URL_FILE))
        .ok()
        .flatten()?
        .trim_end_matches('/')
        .to_owned();
    if wanted.is_some_and(|wanted| wanted != url) {
        return None;
    }
    let key = read(&dir.join(ADMIN_KEY_FILE))
        .ok()
        .flatten()
        .map(Secret::new);
    let ca = Some(dir.join(CA_FILE)).filter(|path| path.exists());
    Some(ApiAccess { url, key, ca })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_key_goes_to_its_own_address_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(API_URL_FILE), "http://127.0.0.1:7480\n").unwrap();
        std::fs::write(dir.path().join(ADMIN_KEY_FILE), "secret\n").unwrap();
        let found = local_api(dir.path(), Some("http://127.0.0.1:7480")).unwrap();
        assert_eq!(found.key, Some(Secret::new("secret".to_owned())));
        assert!(local_api(dir.path(), Some("https://evil.example.com")).is_none());
        assert!(local_api(dir.path(), None).is_some());
        assert!(local_api(&dir.path().join("none"), None).is_none());
    }

    #[test]
    fn a_directory_that_happens_to_be_here_gets_no_key_from_elsewhere() {
        let (here, own) = (Path::new("data"), Path::new("/var/lib/portcullis"));
        assert!(!vouches(here, "https://evil.example.com"));
        assert!(!vouches(here, "https://127.0.0.1.evil.example.com"));
        assert!(!vouches(here, "https://localhost@evil.example.com"));
        assert!(vouches(here, "https://127.0.0.1:7480"));
        assert!(vouches(here, "http://[::1]:7480"));
        assert!(vouches(own, "https://edge.example.com:7480"));
    }
}
