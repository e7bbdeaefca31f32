//! Settings of endpoints that are routed by the name in clients' TLS: the port, and which names there are.
//!
//! Must never: decide whose a name is; that is the registry's.

use std::net::IpAddr;

use portcullis_model::url::TLS_PORT;
use portcullis_model::{Account, Code, Error};

use super::{Settings, SharedHost, admits};

/// The port on which TLS is routed by name, and who may have which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The port; `None`: there are no public TLS endpoints.
    pub port: Option<u16>,
    /// The port is for TLS alone. Otherwise it is whose endpoint comes first: a TCP endpoint may have it on a
    /// shared host as long as nobody holds a name, and nobody gets a name as long as it does.
    pub reserved: bool,
    /// IPs that the port listens on; empty: all that no pool of IPs has.
    pub bind: Vec<IpAddr>,
    /// Names at or below which accounts may have names; empty: the shared hosts'.
    pub hosts: Vec<TlsHost>,
    /// Accounts may have any name that is at or below none of the server's.
    pub any_name: bool,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            port: Some(TLS_PORT),
            reserved: false,
            bind: Vec::new(),
            hosts: Vec::new(),
            any_name: false,
        }
    }
}

/// A name at or below which accounts may have names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsHost {
    /// The name, lower case.
    pub host: String,
    /// Accounts (ids or names) that may use it; empty: all.
    pub accounts: Vec<String>,
}

#[cfg(test)]
/// Whether two names, of which each may be a wildcard, could be asked for by the same client.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    one == other || covers(one, other) || covers(other, one)
}

/// Whether the wildcard covers the name, at whatever depth. A wildcard covers those below it.
pub(crate) fn covers(wildcard: &str, name: &str) -> bool {
    wildcard
        .strip_prefix('*')
        .is_some_and(|suffix| name.len() > wildcard.len() - 1 && name.ends_with(suffix))
}

/// What a name may be at or below.
struct Base<'a> {
    host: &'a str,
    accounts: &'a [String],
    region: &'a str,
}

impl Base<'_> {
    fn is_above(&self, name: &str) -> bool {
        let plain = name.strip_prefix("*.").unwrap_or(name);
        plain
            .strip_suffix(self.host)
            .is_some_and(|front| front.is_empty() || front.ends_with('.'))
    }
}

impl TlsSettings {
    /// Whether the port answers on IPs of a shared host.
    pub(crate) fn shares_ips_with(&self, host: &SharedHost) -> bool {
        self.bind.is_empty()
            || host.bind.is_empty()
            || self.bind.iter().any(|ip| host.bind.contains(ip))
    }

    /// Puts names in lower case, and says what is wrong with the whole.
    pub(super) fn check(&mut self, problems: &mut Vec<String>) {
        for (index, base) in self.hosts.iter_mut().enumerate() {
            base.host.make_ascii_lowercase();
            if base.host.is_empty() || base.host.parse::<IpAddr>().is_ok() {
                problems.push(format!("tls.hosts[{index}].host: must be a name"));
            }
        }
        if self.port == Some(0) {
            self.port = None;
        }
    }
}

impl Settings {
    /// What names may be at or below. Names of the server that TLS is not offered at still are its own.
    fn tls_bases(&self) -> impl Iterator<Item = Base<'_>> {
        let own = self.tls.hosts.iter().map(|base| Base {
            host: &base.host,
            accounts: &base.accounts,
            region: &self.region,
        });
        let shared = self.hosts.iter().filter(|_| self.tls.hosts.is_empty());
        let shared = shared.filter(|host| host.host.parse::<IpAddr>().is_err());
        own.chain(shared.map(|host| Base {
            host: &host.host,
            accounts: &host.accounts,
            region: &host.region,
        }))
    }

    /// Whether an account may ask for a name at all; with the region of an endpoint there. `alone`: there is no
    /// other account.
    ///
    /// # Errors
    /// `PTC_ADDRESS_HOST_UNKNOWN` or `PTC_URL_WILDCARD`, with the names that there are.
    pub(crate) fn tls_region(
        &self,
        account: &Account,
        alone: bool,
        name: &str,
    ) -> Result<&str, Error> {
        let above = |base: &Base<'_>| base.is_above(name);
        // The nearest decides: who may have names below `a.example.com` is not asked of `example.com`.
        let nearest = self
            .tls_bases()
            .filter(above)
            .max_by_key(|base| base.host.len());
        if let Some(base) = &nearest {
            let is_own = alone || (base.accounts.len() == 1 && admits(base.accounts, account));
            if name.strip_prefix("*.") == Some(base.host) && !is_own {
                let message = format!(
                    "`{name}` would take every name at `{0}` from the other accounts; name the host in full, or write a wildcard below a name of your own, such as `*.app.{0}`",
                    base.host
                );
                return Err(Error::new(Code::UrlWildcard, message));
            }
            if admits(base.accounts, account) {
                return Ok(base.region);
            }
        }
        let is_servers = self.hosts.iter().any(|shared| {
            let base = Base {
                host: &shared.host,
                accounts: &[],
                region: "",
            };
            base.is_above(name)
        });
        let takes_servers = || {
            let shared = self.hosts.iter().map(|shared| shared.host.as_str());
            let mut all = shared.chain(self.tls.hosts.iter().map(|base| base.host.as_str()));
            all.any(|host| covers(name, host))
        };
        if self.tls.any_name && nearest.is_none() && !is_servers && (alone || !takes_servers()) {
            return Ok(&self.region);
        }
        Err(self.no_tls_name(account, name))
    }

    fn no_tls_name(&self, account: &Account, name: &str) -> Error {
        let mine: Vec<&str> = self
            .tls_bases()
            .filter(|base| admits(base.accounts, account))
            .map(|base| base.host)
            .take(20)
            .collect();
        let message = if mine.is_empty() {
            format!(
                "`{name}` is not available: the server has no names for TLS; add one under `tls.hosts`"
            )
        } else {
            format!(
                "`{name}` is not at or below a name that this server routes TLS for, which are {}; the operator may add others under `tls.hosts`, or set `tls.any_name`",
                mine.join(", ")
            )
        };
        Error::new(Code::AddressHostUnknown, message)
    }

    /// The name below which an account gets random names, and its region.
    ///
    /// # Errors
    /// `PTC_ADDRESS_HOST_UNKNOWN` when there is none.
    pub(crate) fn tls_random_base(&self, account: &Account) -> Result<(&str, &str), Error> {
        let mine: Vec<Base<'_>> = self
            .tls_bases()
            .filter(|base| admits(base.accounts, account))
            .collect();
        let here = mine.iter().find(|base| base.region == self.region);
        here.or_else(|| mine.first())
            .map(|base| (base.host, base.region))
            .ok_or_else(|| {
                Error::new(
                    Code::AddressHostUnknown,
                    "the server has no name below which it could make random names for TLS; add one under `tls.hosts`",
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use portcullis_model::{AccountId, Timestamp};

    use super::*;

    fn account(name: &str) -> Account {
        Account {
            id: AccountId::new(1_700_000_000, [1; 16]),
            name: name.into(),
            plan: "default".into(),
            verified: false,
            description: String::new(),
            metadata: String::new(),
            created_at: Timestamp::from_unix_millis(0),
        }
    }

    fn settings() -> Settings {
        Settings::new("n", "eu", "edge.example.com")
    }

    #[test]
    fn wildcards_overlap_with_what_they_cover() {
        for (one, other, expected) in [
            ("a.x.com", "a.x.com", true),
            ("a.x.com", "b.x.com", false),
            ("*.x.com", "a.x.com", true),
            ("*.x.com", "b.a.x.com", true),
            ("*.x.com", "x.com", false),
            ("*.x.com", "*.a.x.com", true),
            ("*.x.com", "*.x.com", true),
            ("*.x.com", "*.y.com", false),
            ("*.x.com", "ax.com", false),
            ("*.x.com", ".x.com", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn names_are_at_or_below_the_servers_unless_it_takes_any() {
        let mut settings = settings();
        let me = account("me");
        let may = |settings: &Settings, name: &str| {
            settings
                .tls_region(&me, false, name)
                .map_err(|error| error.code)
                .map(str::to_owned)
        };
        for name in [
            "edge.example.com",
            "a.edge.example.com",
            "*.a.edge.example.com",
        ] {
            assert_eq!(may(&settings, name), Ok("eu".into()), "{name}");
        }
        for name in [
            "example.com",
            "xedge.example.com",
            "a.other.org",
            "*.example.com",
        ] {
            assert_eq!(
                may(&settings, name),
                Err(Code::AddressHostUnknown),
                "{name}"
            );
        }
        assert_eq!(may(&settings, "*.edge.example.com"), Err(Code::UrlWildcard));
        assert!(settings.tls_region(&me, true, "*.edge.example.com").is_ok());
        settings.tls.any_name = true;
        assert!(may(&settings, "a.other.org").is_ok());
        assert!(may(&settings, "*.other.org").is_ok());
        assert_eq!(
            may(&settings, "*.example.com"),
            Err(Code::AddressHostUnknown)
        );
        settings.tls.hosts = vec![TlsHost {
            host: "apps.example.com".into(),
            accounts: vec!["me".into()],
        }];
        assert!(
            may(&settings, "*.apps.example.com").is_ok(),
            "its only account"
        );
        assert_eq!(
            may(&settings, "a.edge.example.com"),
            Err(Code::AddressHostUnknown),
            "still the server's"
        );
        let other = settings.tls_region(&account("other"), false, "a.apps.example.com");
        assert_eq!(other.map_err(|e| e.code), Err(Code::AddressHostUnknown));
        assert!(settings.tls_random_base(&account("other")).is_err());
        assert_eq!(
            settings
                .tls_random_base(&me)
                .map(|(host, _)| host.to_owned()),
            Ok("apps.example.com".to_owned())
        );
    }

    #[test]
    fn a_server_without_a_name_has_none_for_tls() {
        let settings = Settings::new("n", "eu", "203.0.113.5");
        assert!(settings.tls_random_base(&account("me")).is_err());
        assert!(
            settings
                .tls_region(&account("me"), true, "a.example.com")
                .is_err()
        );
    }
}
