use diagnostics::Diagnostic;

use crate::errors;

/// The catalog of packages that a hive is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogOptions {
    url: String,
    key: Option<String>,
}

impl CatalogOptions {
    /// Returns the options of a hive for the catalog at `url`. `key` is a public key of minisign, or
    /// the path of a file with it on this machine.
    ///
    /// Errors: `CONFIG_INVALID` for a value that is more than one line.
    pub fn new(url: String, key: Option<String>) -> Result<Self, Diagnostic> {
        let key = key.map(|key| match std::fs::read_to_string(&key) {
            // The key is the last line of a file `minisign.pub`.
            Ok(text) => text.trim().lines().last().unwrap_or_default().to_owned(),
            Err(_) => key,
        });
        let is_line = |text: &str| !text.chars().any(char::is_control);
        if !is_line(&url) || !key.as_deref().is_none_or(is_line) {
            return Err(errors::catalog_invalid());
        }
        Ok(Self { url, key })
    }

    /// Arguments of a hive on this machine.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--catalog={}", self.url)];
        let key = self.key.as_ref();
        arguments.extend(key.map(|key| format!("--catalog-key={key}")));
        arguments
    }

    /// Arguments of a hive on another machine, which cannot read the files of this one.
    pub(crate) fn remote_arguments(&self) -> Vec<String> {
        let is_remote = ["http://", "https://"]
            .iter()
            .any(|scheme| self.url.starts_with(scheme));
        if is_remote {
            self.arguments()
        } else {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_catalog_of_a_server_with_the_text_of_the_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "untrusted comment: x\nRWQkey=\n").unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let options = CatalogOptions::new("https://a.example".into(), Some(path)).unwrap();
        let expected = ["--catalog=https://a.example", "--catalog-key=RWQkey="];
        assert_eq!(options.remote_arguments(), expected);
        assert_eq!(options.arguments(), expected);
        let local = CatalogOptions::new("file:///catalog".into(), None).unwrap();
        assert!(local.remote_arguments().is_empty());
        assert_eq!(local.arguments(), ["--catalog=file:///catalog"]);
        assert!(CatalogOptions::new("https://a\n--x".into(), None).is_err());
    }
}
