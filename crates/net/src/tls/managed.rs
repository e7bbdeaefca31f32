//! Which certificate is shown where none is named: of an ACME authority if it is for the name, else of the server's
//! own CA.
//!
//! Must never: keep a key of more names than its bound.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::acme::Acme;
use super::authority::{CertAuthority, OwnLeaf};
use crate::defaults::OWN_LEAVES_MAX;

/// Answers handshakes by the name that the client asks for.
pub struct Managed {
    acme: Option<Acme>,
    authority: CertAuthority,
    /// For clients that name nobody.
    unnamed: OwnLeaf,
    named: RwLock<HashMap<String, Arc<OwnLeaf>>>,
    named_max: usize,
}

impl Managed {
    /// With the authorities that there are. `host` is who a client means that names nobody.
    ///
    /// # Errors
    /// `PTC_CERTIFICATE_INVALID` when the host cannot stand in a certificate.
    pub fn new(
        acme: Option<Acme>,
        authority: &CertAuthority,
        host: &str,
    ) -> Result<Arc<Self>, portcullis_model::Error> {
        Ok(Arc::new(Self {
            acme,
            unnamed: OwnLeaf::new(authority, &[host.to_owned()], &[])?,
            authority: authority.clone(),
            named: RwLock::default(),
            named_max: OWN_LEAVES_MAX,
        }))
    }

    fn own(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let now = jiff::Timestamp::now().as_second();
        let known = self.named.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = known.get(name) {
            return Some(leaf.current(now));
        }
        drop(known);
        // Outside of the lock; a client's name is a host name, so what fails is of no use to it.
        let leaf = Arc::new(OwnLeaf::new(&self.authority, &[name.to_owned()], &[]).ok()?);
        let key = leaf.current(now);
        let mut known = self.named.write().unwrap_or_else(PoisonError::into_inner);
        // Names are what clients say: whoever makes them up has others' leaves issued anew, and no more.
        if known.len() >= self.named_max {
            known.clear();
        }
        known.insert(name.to_owned(), leaf);
        Some(key)
    }
}

impl fmt::Debug for Managed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Managed")
            .field("acme", &self.acme)
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Managed {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name().map(str::to_ascii_lowercase) else {
            let now = jiff::Timestamp::now().as_second();
            return Some(self.unnamed.current(now));
        };
        let acme = self.acme.as_ref();
        acme.and_then(|acme| acme.certificate_for(&name))
            .or_else(|| self.own(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::MasterKey;
    use crate::tls::certificate::describe;

    #[test]
    fn each_name_has_a_leaf_and_there_is_an_end_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::load_or_create(&dir.path().join("k")).unwrap();
        let authority = CertAuthority::load_or_create(dir.path(), &key).unwrap();
        let managed = Managed {
            acme: None,
            unnamed: OwnLeaf::new(&authority, &["edge.example.com".to_owned()], &[]).unwrap(),
            authority,
            named: RwLock::default(),
            named_max: 4,
        };
        let first = managed.own("a.example").unwrap();
        assert_eq!(describe(&first.cert[0]).unwrap().names.dns, ["a.example"]);
        assert!(Arc::ptr_eq(&first, &managed.own("a.example").unwrap()));
        for other in 0..4 {
            managed.own(&format!("n{other}.example")).unwrap();
            assert!(managed.named.read().unwrap().len() <= 4);
        }
        assert!(!Arc::ptr_eq(&first, &managed.own("a.example").unwrap()));
        assert!(managed.own("no such name!").is_none());
    }
}
