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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::AgentConfig;
    use crate::config::{EndpointEntry, Overrides};

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn entry(tls: Value) -> Result<Option<TlsTermination>, String> {
        let entry = json!({"name": "db", "upstream": {"url": 5432}, "agent_tls_termination": tls});
        EndpointEntry::from_json(&entry)
            .map(|entry| entry.options.tls_termination)
            .map_err(|error| error.message)
    }

    #[test]
    fn the_local_api_takes_text_and_no_files() {
        let (pem, key) = pair();
        let tls = json!({
            "server_certificate": pem, "server_private_key": key,
            "mutual_tls_certificate_authorities": [pem], "mutual_tls_verification_strategy": "request",
        });
        let read = entry(tls).unwrap().unwrap();
        assert_eq!(read.verification, ClientVerification::Request);
        assert_eq!(read.authorities.len(), 1);
        let files = json!({
            "server_certificate": "/etc/a.pem", "server_private_key": key,
            "mutual_tls_certificate_authorities": ["/etc/b.pem"],
        });
        let problems = entry(files).unwrap_err();
        for place in [
            "server_certificate",
            "mutual_tls_certificate_authorities[0]",
        ] {
            let named = format!("agent_tls_termination.{place}");
            assert!(problems.contains(&named), "{problems}");
        }
    }

    #[test]
    fn problems_are_named_and_no_key_is_quoted() {
        let ((pem, key), (other, _)) = (pair(), pair());
        for (tls, named) in [
            (json!({"server_certificate": pem}), "server_private_key"),
            (json!({"crt": pem}), "server_certificate"),
            (
                json!({"server_certificate": other, "server_private_key": key}),
                "not the key",
            ),
            (
                json!({"server_certificate": pem, "server_private_key": key, "mutual_tls_verification_strategy": "maybe"}),
                "require-any",
            ),
        ] {
            let problems = entry(tls).unwrap_err();
            assert!(problems.contains(named), "{problems}");
            assert!(!problems.contains("PRIVATE KEY"), "{problems}");
        }
    }

    #[test]
    fn files_are_found_beside_the_configuration() {
        let (dir, (pem, key)) = (tempfile::tempdir().unwrap(), pair());
        std::fs::write(dir.path().join("crt.pem"), &pem).unwrap();
        std::fs::write(dir.path().join("key.pem"), key).unwrap();
        let file = dir.path().join("agent.yml");
        let yaml = "version: 3\nendpoints:\n  - name: db\n    upstream: {url: 5432}\n    agent_tls_termination:\n      \
                    server_certificate: crt.pem\n      server_private_key: key.pem\n      \
                    mutual_tls_certificate_authorities: [crt.pem]\n";
        std::fs::write(&file, yaml).unwrap();
        let config = AgentConfig::load(&[file], &Overrides::default()).unwrap();
        let tls = config.endpoints[0].options.tls_termination.clone().unwrap();
        assert_eq!(tls.certificate, PemSource::File(dir.path().join("crt.pem")));
        assert_eq!(
            tls.authorities,
            [PemSource::File(dir.path().join("crt.pem"))]
        );
    }
}
