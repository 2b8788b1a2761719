//! The checked-in OpenAPI document is the one this code describes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::PathBuf;

/// `UPDATE=1 cargo test -p api` writes the document anew.
#[test]
fn the_checked_in_document_is_up_to_date() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json"));
    let now = api::openapi_json();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == now, "docs/openapi.json is out of date; run `UPDATE=1 cargo test -p api`");
}

#[test]
fn every_operation_has_a_schema_for_its_answer() {
    let document: serde_json::Value = serde_json::from_str(&api::openapi_json()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 10);
    for (path, operations) in paths {
        assert!(path.starts_with(api::PREFIX), "{path}");
        for (method, operation) in operations.as_object().unwrap() {
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            assert!(schema.is_object(), "{method} {path} says what it answers");
            let problem = &operation["responses"]["default"]["content"]["application/json"]["schema"];
            assert_eq!(problem["$ref"], "#/components/schemas/Problem", "{method} {path}");
        }
    }
    for name in ["Pool", "Volume", "Host", "Session", "Status", "Problem"] {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}
