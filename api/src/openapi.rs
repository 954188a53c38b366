//! The OpenAPI document of `/1.0`, generated from the code, checked in as `api/openapi.json`, served by every member at
//! `GET /1.0/openapi.json` to everybody: it says nothing of a cluster but what its program can do.
//!
//! ```text
//!   router --(every path and verb)------------------.
//!                                                    >-- a test: the same set, or it fails and names the difference
//!   table  --(one entry a path and verb)------------'
//!     |
//!     '--> document (schemas from the dto types) --> must equal openapi.json; WRITE_GOLDEN=1 rewrites it
//! ```
//!
//! **Adding a route** takes its line in `router`, and one in [`table`](self):
//! `put("/1.0/things/{name}", "Changes a thing.").in_project().takes::<thing::Put>().edits(),`.
//! A new dto type needs `#[cfg_attr(test, derive(schemars::JsonSchema))]`; when its name is taken by a type of another
//! module, `#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ThingPut"))]`. Then
//! `WRITE_GOLDEN=1 cargo test -p basalt-api --lib openapi`.
//!
//! The document is made by a test only, so that neither schemas nor their library are part of the program.

use crate::reply::{self, Reply};

#[cfg(test)]
mod document;
#[cfg(test)]
mod entry;
#[cfg(test)]
mod table;

/// The document, as it is checked in.
const DOCUMENT: &str = include_str!("../openapi.json");

/// `GET /1.0/openapi.json`, as it is, without an envelope.
pub(crate) async fn get() -> Reply {
    Ok(reply::raw("application/json", DOCUMENT))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn router_and_document_have_the_same_routes() {
        let routed: BTreeSet<_> = crate::router::table().known().iter().cloned().collect();
        let documented: BTreeSet<_> = table::entries().into_iter().map(|e| (e.path, e.verb)).collect();
        let undocumented: Vec<_> = routed.difference(&documented).collect();
        let unrouted: Vec<_> = documented.difference(&routed).collect();
        assert!(undocumented.is_empty(), "routes without an entry in api/src/openapi/table.rs: {undocumented:?}");
        assert!(unrouted.is_empty(), "entries of api/src/openapi/table.rs without a route: {unrouted:?}");
        assert_eq!(documented.len(), table::entries().len(), "an entry comes twice");
    }

    #[test]
    fn the_checked_in_document_is_what_the_code_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let mut made = serde_json::to_string_pretty(&document::document()).unwrap();
        made.push('\n');
        if std::env::var_os("WRITE_GOLDEN").is_some() {
            std::fs::write(path, made).unwrap();
        } else {
            assert!(made == DOCUMENT, "api/openapi.json is out of date: run with WRITE_GOLDEN=1 and look at the diff");
        }
    }

    #[test]
    fn no_two_types_share_a_name() {
        let document = document::document();
        let names = document["components"]["schemas"].as_object().unwrap().keys();
        // What is numbered was not named: the second type of that name was found by chance.
        let numbered: Vec<_> = names.filter(|n| n.ends_with(|c: char| c.is_ascii_digit())).collect();
        assert!(numbered.is_empty(), "give these a #[schemars(rename)]: {numbered:?}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &serde_json::Value, found: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(|r| r.as_str()).map(str::to_owned));
                    fields.values().for_each(|v| walk(v, found));
                }
                serde_json::Value::Array(items) => items.iter().for_each(|v| walk(v, found)),
                _ => {}
            }
        }
        let document = document::document();
        let mut found = Vec::new();
        walk(&document, &mut found);
        assert!(found.len() > 100);
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }
}
