//! Addresses of models on the web, as users copy them from a browser or from Ollama.

use diagnostics::Diagnostic;

use crate::{ModelRef, errors::invalid_model_address};

const HUB_HOSTS: [&str; 3] = ["hf.co/", "huggingface.co/", "www.huggingface.co/"];
const OLLAMA_HOSTS: [&str; 3] = ["ollama.com/", "www.ollama.com/", "registry.ollama.ai/"];
/// Branch that a repository of the hub has by default.
const DEFAULT_BRANCH: &str = "main";

impl ModelRef {
    /// Reads the address of a model: `hf.co/org/repo:Q4_K_M`,
    /// `https://huggingface.co/org/repo/resolve/main/file.gguf`, `ollama.com/library/name:tag`.
    /// `None` if the text is not an address of the hub or of Ollama's registry.
    pub fn from_address(text: &str) -> Option<Result<Self, Diagnostic>> {
        let address = ["https://", "http://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        let after = |hosts: &[&str]| {
            hosts.iter().find_map(|host| {
                let (start, rest) = address.split_at_checked(host.len())?;
                start.eq_ignore_ascii_case(host).then_some(rest)
            })
        };
        let reference = if let Some(path) = after(&HUB_HOSTS) {
            hub(without_query(path))
        } else {
            let path = without_query(after(&OLLAMA_HOSTS)?);
            let name = path.strip_prefix("library/").unwrap_or(path);
            Some(format!("ollama:{name}"))
        };
        let parsed = reference.and_then(|reference| reference.parse().ok());
        Some(parsed.ok_or_else(|| invalid_model_address(text)))
    }
}

fn without_query(path: &str) -> &str {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    path[..end].trim_end_matches('/')
}

/// Turns the path of a page of the hub into a reference.
fn hub(path: &str) -> Option<String> {
    let mut parts = path.splitn(3, '/');
    let (owner, name) = (parts.next()?, parts.next()?);
    let Some(page) = parts.next() else {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        return Some(format!("hf:{owner}/{name}"));
    };
    let (kind, rest) = page.split_once('/')?;
    let (revision, file) = match (kind, rest.strip_prefix("refs/pr/")) {
        ("tree", Some(number)) => (format!("refs/pr/{number}"), None),
        ("tree", None) => (rest.to_owned(), None),
        ("resolve" | "blob", Some(rest)) => {
            let (number, file) = rest.split_once('/')?;
            (format!("refs/pr/{number}"), Some(file))
        }
        ("resolve" | "blob", None) => {
            let (revision, file) = rest.split_once('/')?;
            (revision.to_owned(), Some(file))
        }
        _ => return None,
    };
    let revision = match revision.as_str() {
        DEFAULT_BRANCH => String::new(),
        // The name of a branch with `/` looks like a folder.
        other if other.contains('/') && !other.starts_with("refs/pr/") => return None,
        other => format!("@{other}"),
    };
    let file = file.map_or(String::new(), |file| format!(":{file}"));
    Some(format!("hf:{owner}/{name}{revision}{file}"))
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn addresses_are_references() {
        for (address, reference) in [
            ("hf.co/org/repo", "hf:org/repo"),
            ("hf.co/org/repo:Q4_K_M", "hf:org/repo:Q4_K_M"),
            ("HF.co/org/repo:latest", "hf:org/repo"),
            ("huggingface.co/org/repo", "hf:org/repo"),
            ("https://huggingface.co/org/repo/", "hf:org/repo"),
            ("https://huggingface.co/org/repo/tree/main", "hf:org/repo"),
            ("https://huggingface.co/org/repo/tree/v1", "hf:org/repo@v1"),
            (
                "https://huggingface.co/org/repo/tree/refs/pr/3",
                "hf:org/repo@refs/pr/3",
            ),
            (
                "https://huggingface.co/org/repo/resolve/main/a/b.gguf?download=true",
                "hf:org/repo:a/b.gguf",
            ),
            (
                "http://huggingface.co/org/repo/blob/v1/b.gguf#x",
                "hf:org/repo@v1:b.gguf",
            ),
            (
                "https://huggingface.co/org/repo/blob/refs/pr/3/b.gguf",
                "hf:org/repo@refs/pr/3:b.gguf",
            ),
            ("ollama.com/library/smollm2", "ollama:smollm2"),
            (
                "https://ollama.com/library/smollm2:135m",
                "ollama:smollm2:135m",
            ),
            (
                "registry.ollama.ai/library/smollm2:latest",
                "ollama:smollm2",
            ),
            ("ollama.com/user/model", "ollama:user/model"),
        ] {
            let model = ModelRef::from_address(address).unwrap().unwrap();
            assert_eq!(model.to_string(), reference, "{address}");
            assert_eq!(ModelRef::from_name(address).unwrap(), model, "{address}");
        }
    }

    #[test]
    fn incomplete_and_unsafe_addresses_are_refused() {
        for address in [
            "hf.co/",
            "hf.co/org",
            "hf.co/org/repo/settings",
            "hf.co/org/repo/discussions/1",
            "hf.co/org/repo/resolve/main",
            "hf.co/org/repo/resolve/main/../x",
            "hf.co/org/repo/tree/main/sub",
            "hf.co/../repo",
            "ollama.com/",
            "ollama.com/library/a:b:c",
        ] {
            let error = ModelRef::from_address(address).unwrap().unwrap_err();
            assert_eq!(error.code, Code::InvalidModelRef, "{address}");
            assert!(ModelRef::from_name(address).is_err(), "{address}");
        }
    }

    #[test]
    fn other_texts_are_not_addresses() {
        for text in [
            "smollm2",
            "hf:org/repo",
            "/m/hf.co/x",
            "https://example.com/a/b",
            "hf.coé",
        ] {
            assert!(ModelRef::from_address(text).is_none(), "{text}");
        }
    }
}
