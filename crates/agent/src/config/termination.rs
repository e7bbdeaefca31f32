//! `agent_tls_termination:` of an entry of `endpoints:`.
//!
//! Must never: quote a key in a problem.

use portcullis_model::Secret;
use portcullis_net::tls::ClientVerification;

use super::entry::Files;
use super::reader::Section;
use crate::termination::{PemSource, TlsTermination};

/// Words of `mutual_tls_verification_strategy`.
const STRATEGIES: [(&str, ClientVerification); 3] = [
    ("require-and-verify", ClientVerification::RequireAndVerify),
    ("require-any", ClientVerification::RequireAny),
    ("request", ClientVerification::Request),
];

/// Reads it, and the files that it names.
pub(super) fn termination(section: Section<'_>, files: Files) -> Option<TlsTermination> {
    let certificate = source(&section, "server_certificate", files);
    let private_key = source(&section, "server_private_key", files);
    let key = "mutual_tls_certificate_authorities";
    let mut authorities = Vec::new();
    for (at, text) in section.texts(key).into_iter().enumerate() {
        let authority = PemSource::parse(Secret::new(text));
        match authority.is_file() && files == Files::Refused {
            true => section.problem(&format!("{key}[{at}]"), ONLY_TEXT),
            false => authorities.push(authority),
        }
    }
    let verification = section.word("mutual_tls_verification_strategy", &STRATEGIES);
    for (key, source) in [
        ("server_certificate", &certificate),
        ("server_private_key", &private_key),
    ] {
        if source.is_none() && !section.has(key) {
            section.problem(key, "is missing; give a PEM file, or the PEM text");
        }
    }
    let tls = match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => Some(TlsTermination {
            certificate,
            private_key,
            authorities,
            verification: verification.unwrap_or(ClientVerification::RequireAndVerify),
        }),
        _ => None,
    };
    if let Some(Err(error)) = tls.as_ref().map(TlsTermination::check) {
        section.problem("server_certificate", error);
    }
    section.finish(&[
        ("crt", "server_certificate"),
        ("key", "server_private_key"),
        ("mutual_tls_cas", "mutual_tls_certificate_authorities"),
    ]);
    tls
}

const ONLY_TEXT: &str = "names a file; only PEM text is possible here";

fn source(section: &Section<'_>, key: &'static str, files: Files) -> Option<PemSource> {
    let source = PemSource::parse(section.secret(key)?);
    if source.is_file() && files == Files::Refused {
        section.problem(key, ONLY_TEXT);
        return None;
    }
    Some(source)
}
