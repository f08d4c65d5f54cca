//! Models on the command line: references, and paths of files and directories.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use diagnostics::Diagnostic;
use input_validation::ModelRef;

use crate::errors;

/// Parses a reference, such as `builtin:haiku`, an address, such as `hf.co/org/repo`, or a path,
/// such as `./model.gguf`, with or without `file:`. A relative path becomes absolute; `~/` is the home directory.
///
/// A text that is neither a reference nor looks like a path is a path if it names a file, or a
/// directory that contains `config.json`. Otherwise, it is the short name of a model.
pub(crate) fn parse(text: &str) -> Result<ModelRef, Diagnostic> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(errors::model_is_url(text));
    }
    let invalid = match text.parse() {
        Ok(ModelRef::File(path)) => return from_path(&path),
        Ok(model) => return Ok(model),
        Err(error) => error,
    };
    if let Some(address) = ModelRef::from_address(text) {
        return address;
    }
    match text.strip_prefix("file:") {
        Some(path) => from_path(path),
        None if looks_like_path(text) || is_model(Path::new(text)) => from_path(text),
        None => ModelRef::from_name(text).map_err(|_| errors::with_path_hint(invalid)),
    }
}

fn looks_like_path(text: &str) -> bool {
    let extension = Path::new(text).extension();
    text.starts_with(['/', '~', '.'])
        || extension.is_some_and(|name| name == "gguf" || name == "safetensors")
}

fn is_model(path: &Path) -> bool {
    path.is_file() || path.join("config.json").is_file()
}

fn from_path(text: &str) -> Result<ModelRef, Diagnostic> {
    let unusable = |error: io::Error| errors::unusable_model_path(text, &error);
    let path = target(absolute(text).map_err(unusable)?);
    let path = path.to_str().ok_or_else(|| {
        let reason = io::Error::other("the current directory is not valid UTF-8");
        errors::unusable_model_path(text, &reason)
    })?;
    format!("file:{path}").parse()
}

/// Returns the path that an existing file or directory has without symbolic links, so that one
/// model has one name. The name of a file stays if it says more than that of its target: its
/// format, or which part of a model it is.
fn target(path: PathBuf) -> PathBuf {
    let Ok(target) = path.canonicalize() else {
        return path;
    };
    let name = path.file_name().unwrap_or_default();
    let is_part = name.to_string_lossy().contains("-of-");
    if target.is_dir() || path.extension() == target.extension() && !is_part {
        return target;
    }
    match path.parent().map(Path::canonicalize) {
        Some(Ok(parent)) => parent.join(name),
        _ => path,
    }
}

/// Makes a path absolute and free of `..`.
fn absolute(text: &str) -> io::Result<PathBuf> {
    let path = match text.strip_prefix("~/") {
        Some(rest) => std::env::home_dir()
            .ok_or_else(|| io::Error::other("the home directory is unknown"))?
            .join(rest),
        None => PathBuf::from(text),
    };
    let mut resolved = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        if component == Component::ParentDir {
            // The parent of a symbolic link is that of its target.
            resolved = resolved.canonicalize()?;
            resolved.pop();
        } else {
            resolved.push(component);
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_absolute_paths_do_not_need_to_exist() {
        for (text, model) in [
            ("builtin:haiku", "builtin:haiku"),
            ("mock:a", "mock:a"),
            ("file:/m/a b.gguf", "file:/m/a b.gguf"),
            ("/m/a.gguf", "file:/m/a.gguf"),
            ("/m/./a.gguf", "file:/m/a.gguf"),
            ("hf.co/org/repo/resolve/main/a.gguf", "hf:org/repo:a.gguf"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), model);
        }
    }

    #[test]
    fn relative_paths_become_absolute() {
        let current = std::env::current_dir().unwrap();
        let here = current.display();
        let parent = current.parent().unwrap().display();
        for (text, model) in [
            ("./a.gguf", format!("file:{here}/a.gguf")),
            ("file:./a.gguf", format!("file:{here}/a.gguf")),
            ("file:a.gguf", format!("file:{here}/a.gguf")),
            ("a.gguf", format!("file:{here}/a.gguf")),
            ("m/a.gguf", format!("file:{here}/m/a.gguf")),
            ("../m/a.gguf", format!("file:{parent}/m/a.gguf")),
            ("src/../a.gguf", format!("file:{here}/a.gguf")),
            (".", format!("file:{here}")),
            // Exists.
            ("src/model.rs", format!("file:{here}/src/model.rs")),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), model, "{text}");
        }
    }

    #[test]
    fn tilde_is_the_home_directory() {
        let home = std::env::home_dir().unwrap();
        let model = parse("~/m/a.gguf").unwrap().to_string();
        assert_eq!(model, format!("file:{}/m/a.gguf", home.display()));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "a b", "builtin:", "missing/haiku", "ftp://x"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code, diagnostics::Code::InvalidModelRef, "{text}");
            assert!(error.hint.unwrap().contains("./model.gguf"), "{text}");
        }
        let error = parse("missing/../a.gguf").unwrap_err();
        assert_eq!(
            error.message,
            "cannot use the model path \"missing/../a.gguf\": No such file or directory (os error 2)"
        );
    }

    #[test]
    fn parent_of_a_symbolic_link_is_that_of_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("target/inner")).unwrap();
        std::os::unix::fs::symlink(root.join("target/inner"), root.join("link")).unwrap();
        let text = format!("{}/link/../a.gguf", root.display());
        let model = parse(&text).unwrap().to_string();
        assert_eq!(model, format!("file:{}/target/a.gguf", root.display()));
    }

    #[test]
    fn a_model_and_a_symbolic_link_to_it_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(root.join(target), root.join(name)).unwrap();
        };
        std::fs::create_dir(root.join("real")).unwrap();
        for name in ["a.gguf", "blob", "b-00001-of-00002.gguf"] {
            std::fs::write(root.join("real").join(name), "").unwrap();
        }
        link("real", "link");
        link("real/a.gguf", "b.gguf");
        link("real/blob", "c.gguf");
        link("real/b-00001-of-00002.gguf", "d-00001-of-00002.gguf");
        for (text, model) in [
            ("link", "real"),
            ("link/a.gguf", "real/a.gguf"),
            ("b.gguf", "real/a.gguf"),
            // Only the name of the link says what it is.
            ("c.gguf", "c.gguf"),
            ("d-00001-of-00002.gguf", "d-00001-of-00002.gguf"),
            ("missing.gguf", "missing.gguf"),
        ] {
            for prefix in ["", "file:"] {
                let text = format!("{prefix}{}/{text}", root.display());
                let expected = format!("file:{}/{model}", root.display());
                assert_eq!(parse(&text).unwrap().to_string(), expected, "{text}");
            }
        }
    }

    #[test]
    fn a_url_is_not_a_model() {
        let error = parse("https://example.org/a.gguf").unwrap_err();
        assert_eq!(error.code, diagnostics::Code::InvalidModelRef);
        assert_eq!(
            error.message,
            "a model cannot be a URL: \"https://example.org/a.gguf\""
        );
        assert!(error.hint.unwrap().contains("download"));
    }

    #[test]
    fn a_directory_with_a_configuration_is_a_model() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        // A leading dot would look like a path.
        let name = format!("src/../{name}");
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        let current = std::env::current_dir().unwrap();
        assert_eq!(
            parse(&name).unwrap().to_string(),
            format!("file:{}", absolute(&name).unwrap().display())
        );
        assert!(absolute(&name).unwrap().starts_with(current));
        std::fs::remove_file(dir.path().join("config.json")).unwrap();
        assert!(parse(&name).is_err());
    }
}
