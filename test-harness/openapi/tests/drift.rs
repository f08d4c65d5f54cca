//! The documents that are checked in are those that the code says.

use std::{fs, path::Path};

#[test]
fn the_documents_have_not_drifted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi");
    for (name, text) in openapi_documents::documents().unwrap() {
        let kept = fs::read_to_string(folder.join(name)).unwrap();
        assert!(kept == text, "{name} drifted: run `cargo xtask openapi`");
        assert!(text.contains("paths:"), "{name} describes nothing");
    }
}
