use std::path::Path;

/// Returns the context of errors while writing `path`.
pub(crate) fn writing(path: &Path) -> impl FnOnce() -> String {
    move || format!("cannot write {}", path.display())
}
