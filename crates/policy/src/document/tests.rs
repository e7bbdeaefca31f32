//! Documents: forms, faults, and bombs, each of which must end soon and small.

use std::time::{Duration, Instant};

use super::*;

fn refused(text: &str) -> Error {
    let started = Instant::now();
    let error = read(text).expect_err("a bomb");
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "took {:?}",
        started.elapsed()
    );
    error
}

#[test]
fn plain_values_are_read() {
    let node = read("a: [1, -1, 1.5, true, text, null, {b: c}]").expect("valid");
    let json = read(r#"{"a": [1, -1, 1.5, true, "text", null, {"b": "c"}]}"#).expect("valid");
    assert_eq!(node, json);
    assert_eq!(read("").expect("empty"), Node::Null);
    assert_eq!(
        read("{a: b}").expect("YAML's flow form"),
        Node::Map(vec![("a".into(), Node::Text("b".into()))])
    );
}

#[test]
fn faults_name_line_and_column_in_one_line() {
    let yaml = refused("a:\n  - b\n  c: d\n").message;
    assert!(
        yaml.contains("as YAML") && yaml.contains("line") && !yaml.contains('\n'),
        "{yaml}"
    );
    let json = refused("{\"a\": \n [}").message;
    assert!(
        json.contains("as JSON") && json.contains("line 2"),
        "{json}"
    );
}

#[test]
fn several_documents_are_refused() {
    assert_eq!(refused("a: 1\n---\nb: 2\n").code, Code::PolicyUnparsable);
}

#[test]
fn nesting_bombs_are_refused() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{a: ", "}"), ("- ", "")] {
        let bomb = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(
            matches!(
                refused(&bomb).code,
                Code::PolicyUnparsable | Code::PolicyTooLarge
            ),
            "{open}"
        );
    }
    let indented: String = (0..200)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert!(
        refused(&indented)
            .message
            .contains("YAML, line 17, column 17: lists and maps are nested deeper than 16")
    );
}

#[test]
fn alias_bombs_are_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let row = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{row}]\n"));
    }
    refused(&laughs);
    let flat = format!(
        "a: &a [{}]\nb: [{}]\n",
        "x, ".repeat(1000),
        "*a, ".repeat(1000)
    );
    refused(&flat);
    refused("a: &a { <<: *a }\n");
}

#[test]
fn modest_aliases_work() {
    let node = read("a: &office [10.0.0.0/8]\nb: *office\n").expect("valid");
    let Node::Map(entries) = node else {
        panic!("a map")
    };
    assert_eq!(entries[0].1, entries[1].1);
}

#[test]
fn value_floods_are_refused() {
    let json = format!("{{\"a\": [{}1]}}", "[],".repeat(1_000_000));
    assert_eq!(refused(&json).code, Code::PolicyTooLarge);
    let yaml = format!("a: [{}]", "[],".repeat(1_000_000));
    refused(&yaml);
    let keys: String = (0..100_000).map(|key| format!("k{key}: 1\n")).collect();
    assert_eq!(refused(&keys).code, Code::PolicyUnparsable);
    assert_eq!(
        refused(&"#".repeat(POLICY_BYTES_MAX + 1)).code,
        Code::PolicyTooLarge
    );
}
