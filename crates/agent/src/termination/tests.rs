//! Files that are read, checked, and read again.

use std::path::Path;

use portcullis_model::Code;

use super::*;

fn write_pair(dir: &Path, name: &str) {
    let issued = rcgen_pair(name);
    std::fs::write(dir.join("crt"), issued.0).unwrap();
    std::fs::write(dir.join("key"), issued.1).unwrap();
}

fn rcgen_pair(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, key.serialize_pem())
}

fn of(dir: &Path) -> TlsTermination {
    TlsTermination::new(
        PemSource::File(dir.join("crt")),
        PemSource::File(dir.join("key")),
    )
}

#[test]
fn what_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = of(dir.path()).check().unwrap_err();
    assert_eq!(missing.code, Code::CertificateInvalid);
    assert!(missing.message.contains("no such file"), "{missing}");
    write_pair(dir.path(), "a.example");
    of(dir.path()).check().unwrap();
    std::fs::write(dir.path().join("key"), rcgen_pair("b.example").1).unwrap();
    let mixed = of(dir.path()).check().unwrap_err();
    assert!(mixed.message.contains("not the key"), "{mixed}");
    assert!(mixed.message.contains("/crt"), "{mixed}");
    let (pem, key) = rcgen_pair("a.example");
    let inline = TlsTermination::new(
        PemSource::parse(pem.clone().into()),
        PemSource::parse(key.into()),
    );
    assert!(!inline.certificate.is_file());
    inline.check().unwrap();
    let with_clients = inline
        .clone()
        .client_authority(PemSource::parse(pem.into()));
    with_clients.check().unwrap();
    let bad = inline.client_authority(PemSource::File(dir.path().join("key")));
    assert_eq!(bad.check().unwrap_err().code, Code::CertificateInvalid);
    assert!(!format!("{bad:?}").contains("PRIVATE"), "no key is shown");
}

/// `true` when the second is another than the first.
fn is_renewed(first: &Terminator, second: &Terminator) -> bool {
    !first.is_same(second)
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_read_again_and_bad_ones_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "a.example");
    let following = Terminating::new(of(dir.path()));
    let first = following.current().unwrap();
    let touch = |seconds| {
        let at = SystemTime::now() + std::time::Duration::from_secs(seconds);
        let file = std::fs::File::options()
            .write(true)
            .open(dir.path().join("crt"));
        file.unwrap().set_modified(at).unwrap();
    };
    write_pair(dir.path(), "b.example");
    touch(10);
    assert!(
        !is_renewed(&first, &following.current().unwrap()),
        "too soon to look"
    );
    tokio::time::advance(defaults::CERTIFICATE_LOOK).await;
    let second = following.current().unwrap();
    assert!(is_renewed(&first, &second));
    std::fs::write(dir.path().join("crt"), "nonsense").unwrap();
    touch(20);
    tokio::time::advance(defaults::CERTIFICATE_LOOK).await;
    assert!(!is_renewed(&second, &following.current().unwrap()));
    std::fs::remove_file(dir.path().join("crt")).unwrap();
    tokio::time::advance(defaults::CERTIFICATE_LOOK).await;
    assert!(!is_renewed(&second, &following.current().unwrap()));
    write_pair(dir.path(), "c.example");
    touch(30);
    tokio::time::advance(defaults::CERTIFICATE_LOOK).await;
    assert!(is_renewed(&second, &following.current().unwrap()));
}
