use std::path::{Path, PathBuf};

use diagnostics::Diagnostic;
use file_transfer::Secret;
use reqwest::Url;

use crate::errors;

/// Endpoints and credentials of the vendors, read from the environment by the binaries.
#[derive(Debug, Clone, Default)]
pub struct VendorSettings {
    /// URL of the hub; default `https://huggingface.co` (`HF_ENDPOINT`).
    pub hub_endpoint: Option<String>,
    /// Token of the hub (`HF_TOKEN`, or the file `token` in `HF_HOME`).
    pub hub_token: Option<Secret>,
    /// Cache of the hub's own tools (`HF_HUB_CACHE`, or `hub` in `HF_HOME`).
    pub hub_cache: Option<PathBuf>,
    /// Whether the hub must not be used (`HF_HUB_OFFLINE`).
    pub hub_offline: bool,
    /// URL of Ollama's registry; default `https://registry.ollama.ai` (`RBEE_OLLAMA_REGISTRY`).
    pub ollama_registry: Option<String>,
}

impl VendorSettings {
    /// Reads the variables that the libraries of Hugging Face read: `HF_ENDPOINT`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`,
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`. `get` returns a variable of the environment, and `read_file` a file, if it exists.
    pub fn from_env(
        get: impl Fn(&str) -> Option<String>,
        read_file: impl Fn(&Path) -> Option<String>,
    ) -> Self {
        let set = |name: &str| {
            let value = get(name)?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let is_on = |name: &str| {
            let value = set(name).unwrap_or_default().to_lowercase();
            ["1", "on", "yes", "true"].contains(&value.as_str())
        };
        let path = |name: &str| set(name).map(PathBuf::from);
        let home = || {
            let cache = || {
                let cache =
                    path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")))?;
                Some(cache.join("huggingface"))
            };
            path("HF_HOME").or_else(cache)
        };
        let token_file = || {
            let file = path("HF_TOKEN_PATH").or_else(|| Some(home()?.join("token")))?;
            Some(read_file(&file)?.trim().to_owned())
        };
        let token = || {
            set("HF_TOKEN")
                .or_else(|| set("HUGGING_FACE_HUB_TOKEN"))
                .or_else(token_file)
                .filter(|token| is_token(token))
        };
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(home()?.join("hub")));
        let sends_token = !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN");
        Self {
            hub_endpoint: set("HF_ENDPOINT"),
            hub_token: sends_token.then(token).flatten().map(Secret::new),
            // A relative path would depend on where the process was started.
            hub_cache: cache.filter(|path| path.is_absolute()),
            hub_offline: is_on("HF_HUB_OFFLINE"),
            ollama_registry: set("RBEE_OLLAMA_REGISTRY"),
        }
    }
}

/// Whether a header can carry the token.
fn is_token(text: &str) -> bool {
    (1..=4096).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Parses the URL of a server. Paths can be joined to the result.
pub(crate) fn endpoint(configured: Option<&str>, default: &str) -> Result<Url, Diagnostic> {
    let text = configured.unwrap_or(default);
    let mut url = Url::parse(text).map_err(|e| errors::invalid_endpoint(text, e))?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err(errors::invalid_endpoint(text, "not an HTTP URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(errors::invalid_endpoint("", "it contains a password"));
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use diagnostics::Code;

    use super::*;

    fn settings(variables: &[(&str, &str)], files: &[(&str, &str)]) -> VendorSettings {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let files: BTreeMap<_, _> = files.iter().copied().collect();
        VendorSettings::from_env(
            |name| variables.get(name).map(|&value| value.to_owned()),
            |path| files.get(path.to_str()?).map(|&text| text.to_owned()),
        )
    }

    #[test]
    fn the_token_is_where_other_tools_look_for_it() {
        let files = [
            ("/p", "from-path\n"),
            ("/h/token", "from-home"),
            ("/x/huggingface/token", "from-xdg"),
            ("/u/.cache/huggingface/token", "from-user"),
            ("/bad/token", "two words"),
        ];
        let all = [
            ("HF_TOKEN", "from-variable"),
            ("HF_TOKEN_PATH", "/p"),
            ("HF_HOME", "/h"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/u"),
        ];
        let expected = [
            "from-variable",
            "from-path",
            "from-home",
            "from-xdg",
            "from-user",
        ];
        for (skipped, token) in expected.iter().enumerate() {
            let found = settings(&all[skipped..], &files).hub_token.unwrap();
            assert_eq!(found.expose(), *token);
        }
        let disabled = [&all[..], &[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]].concat();
        assert_eq!(settings(&disabled, &files).hub_token, None);
        assert_eq!(settings(&[], &files).hub_token, None);
        assert_eq!(settings(&[("HF_HOME", "/bad")], &files).hub_token, None);
        assert_eq!(settings(&[("HF_HOME", "/none")], &files).hub_token, None);
    }

    #[test]
    fn endpoints_and_offline_mode_are_read() {
        let found = settings(
            &[("HF_ENDPOINT", " http://h/ "), ("HF_HUB_OFFLINE", "YES")],
            &[],
        );
        assert_eq!(found.hub_endpoint.as_deref(), Some("http://h/"));
        assert!(found.hub_offline);
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")], &[]).hub_offline);
        assert_eq!(settings(&[("HF_ENDPOINT", "")], &[]).hub_endpoint, None);
    }

    #[test]
    fn the_cache_is_where_other_tools_keep_it() {
        let all = [
            ("HF_HUB_CACHE", "/c"),
            ("HUGGINGFACE_HUB_CACHE", "/old"),
            ("HF_HOME", "/h"),
            ("HOME", "/u"),
        ];
        let expected = ["/c", "/old", "/h/hub", "/u/.cache/huggingface/hub"];
        for (skipped, cache) in expected.iter().enumerate() {
            let found = settings(&all[skipped..], &[]).hub_cache;
            assert_eq!(found.as_deref(), Some(Path::new(cache)));
        }
        assert_eq!(settings(&[("HF_HOME", "relative")], &[]).hub_cache, None);
        assert_eq!(settings(&[], &[]).hub_cache, None);
    }

    #[test]
    fn endpoints_are_urls_of_servers() {
        for (text, url) in [
            ("http://h", "http://h/"),
            ("https://h:1/a/", "https://h:1/a/"),
            ("https://h/a?x#y", "https://h/a/"),
        ] {
            assert_eq!(endpoint(Some(text), "").unwrap().as_str(), url);
        }
        for text in [
            "",
            "h",
            "ftp://h",
            "file:///x",
            "data:x",
            "http://u:secret@h",
        ] {
            let error = endpoint(Some(text), "").unwrap_err();
            assert_eq!(error.code, Code::ConfigInvalid, "{text}");
            assert!(!error.message.contains("secret"), "{error}");
        }
    }
}
