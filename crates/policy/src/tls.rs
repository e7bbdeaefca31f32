//! What `terminate-tls` asks for, and what a terminated connection is known by.
//!
//! Must never: parse a certificate or hold a connection; the edge does.

use std::fmt;
use std::sync::Arc;

use portcullis_model::id::{CertificateAuthorityId, TlsCertificateId};

/// How TLS is to be terminated.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Termination {
    /// The lowest version.
    pub min_version: TlsVersion,
    /// The highest version.
    pub max_version: TlsVersion,
    /// Which certificate.
    pub identity: Identity,
    /// Whether clients have to show one.
    pub clients: ClientCertificates,
    /// Protocols that are offered by ALPN, in this order; none: ALPN is left alone.
    pub alpn: Vec<String>,
}

/// Without keys.
impl fmt::Debug for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Termination")
            .field("min_version", &self.min_version)
            .field("max_version", &self.max_version)
            .field("clients", &self.clients.strategy)
            .finish_non_exhaustive()
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// `1.2`
    V12,
    /// `1.3`
    #[default]
    V13,
}

/// Which certificate a server shows.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Identity {
    /// The account's newest valid one for the name, else one from ACME or the configuration, else one of the
    /// server's own CA.
    #[default]
    Managed,
    /// One of the account's, by id.
    Stored(TlsCertificateId),
    /// Given in the document.
    Pem {
        /// Leaf first.
        certificate: String,
        /// Its private key.
        private_key: String,
    },
}

/// Which certificates clients show.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ClientCertificates {
    /// Whether they have to.
    pub strategy: Verification,
    /// Who may have issued them; empty: clients are not asked.
    pub authorities: Vec<Authority>,
}

/// What is done with a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Verification {
    /// One is required, and one of the authorities has issued it.
    #[default]
    RequireAndVerify,
    /// One is required, whoever issued it.
    RequireAny,
    /// One is asked for; none, and any, will do.
    Request,
}

/// A certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// One of the account's, by id.
    Stored(CertificateAuthorityId),
    /// PEM.
    Pem(String),
}

/// What a terminated connection is known by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFacts {
    /// The name that the client asked for, in lower case; empty: none.
    pub sni: String,
    /// `1.2` or `1.3`
    pub version: String,
    /// As IANA names it, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// The protocol agreed on by ALPN; empty: none.
    pub alpn: String,
    /// The JA4 fingerprint of the ClientHello; empty: not known.
    pub ja4: String,
    /// The client's certificate.
    pub client: Option<CertificateFacts>,
    /// The one that was shown to it.
    pub server: Option<CertificateFacts>,
    /// What it was terminated by, as [`Need::Tls`](crate::Need::Tls) had it. A later `terminate-tls` that demands a
    /// client's certificate holds it against this; without it such a one fails.
    pub termination: Option<Arc<Termination>>,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateFacts {
    /// Whose it is.
    pub subject: NameFacts,
    /// Who issued it.
    pub issuer: NameFacts,
    /// Names of hosts.
    pub dns_names: Vec<String>,
    /// Addresses of e-mail.
    pub email_addresses: Vec<String>,
    /// IP addresses.
    pub ip_addresses: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// In lower-case hexadecimal digits.
    pub serial_number: String,
    /// Such as `ecdsa-with-SHA256`.
    pub signature_algorithm: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// Its extensions.
    pub extensions: Vec<ExtensionFacts>,
    /// PEM; empty for the server's.
    pub pem: String,
}

/// A distinguished name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameFacts {
    /// The whole, such as `CN=alice,O=Example`.
    pub text: String,
    /// `CN`
    pub common_name: String,
    /// `C`
    pub country: Vec<String>,
    /// `L`
    pub locality: Vec<String>,
    /// `O`
    pub organization: Vec<String>,
    /// `OU`
    pub organizational_unit: Vec<String>,
    /// `postalCode`
    pub postal_code: Vec<String>,
    /// `ST`
    pub province: Vec<String>,
    /// `street`
    pub street_address: Vec<String>,
}

/// An extension of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtensionFacts {
    /// The dotted object identifier.
    pub id: String,
    /// Whether who does not know it must refuse the certificate.
    pub critical: bool,
    /// Its value, in base64.
    pub value: String,
}
