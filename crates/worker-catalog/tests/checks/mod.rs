//! Properties that hold for every index, however damaged.

use std::path::Path;

use diagnostics::Code;
use worker_catalog::{Index, RECIPE};

pub const WORDS: &[&str] = &[
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "{}",
    "[]",
    "[[[[",
    "\"..\"",
    "\"a/b\"",
    "\"\\u0000\"",
    "\"any\"",
    "{\"only\":[]}",
    ",",
];

/// Reads an index, and asserts that its packages can be used, or that the error is a proper one.
pub fn index(content: &[u8]) {
    match Index::parse("of a test", content) {
        Ok(index) => {
            for package in &index.packages {
                assert!(package.files.iter().any(|file| file.name == RECIPE));
                let names = package.files.iter().map(|file| file.name.as_str());
                for name in names.chain(package.program.split('/')) {
                    let path = Path::new(name);
                    assert_eq!(path.file_name().and_then(|n| n.to_str()), Some(name));
                    assert!(!name.starts_with('.'), "{name}");
                }
            }
            // What was read is written and read again without loss.
            let again = serde_json::to_vec(&index).unwrap();
            assert_eq!(Index::parse("of a test", &again).unwrap(), index);
        }
        Err(error) => {
            let known = [Code::CatalogUntrusted, Code::VersionIncompatible];
            assert!(known.contains(&error.code), "{error:?}");
            assert!(error.hint.is_some(), "{error:?}");
            let printable = |c: char| c == '\n' || !c.is_control();
            assert!(error.message.chars().all(printable), "{error:?}");
        }
    }
}
