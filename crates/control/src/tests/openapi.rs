//! The committed document is what the code says.

use serde_json::Value;

/// Writes the document anew when `PORTCULLIS_BLESS` is set.
#[test]
fn the_committed_document_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let document = crate::openapi_json();
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::write(path, &document).expect("docs can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let hint = "run `PORTCULLIS_BLESS=1 cargo test -p portcullis-control openapi`";
    assert!(
        committed == document,
        "docs/openapi.json is not what the code says; {hint}"
    );
}

#[test]
fn every_operation_is_described_and_may_fail() {
    let document: Value = serde_json::from_str(&crate::openapi_json()).expect("JSON");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            assert!(
                operation["summary"].is_string() && operation["operationId"].is_string(),
                "{method} {path}"
            );
            assert!(
                operation["responses"]["default"].is_object(),
                "{method} {path}"
            );
            operations += 1;
        }
    }
    assert_eq!(operations, 76);
    let text = document.to_string();
    for piece in text.split("#/components/schemas/").skip(1) {
        let name = piece.split('"').next().expect("a name");
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name} is not defined"
        );
    }
}
