//! The checked-in documents are up to date.

use std::{fs, path::Path};

#[test]
fn checked_in_documents_match_the_code() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi");
    for (name, text) in openapi_documents::documents().unwrap() {
        let checked_in = fs::read_to_string(directory.join(name)).unwrap();
        assert!(
            checked_in == text,
            "{name} is outdated: run `cargo xtask openapi`"
        );
        assert!(text.contains("\npaths:\n"), "{name} has no paths");
    }
}
