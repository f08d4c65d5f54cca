//! One file, one model: the paths of models without links.

use std::{fs, path::Path};

use input_validation::ModelRef;

/// Resolves the links in the path of a model's file. A path that does not exist stays as it is.
/// So does one whose name says more than that of its target: the format of the file, or that it
/// is a part of a split one.
pub(crate) fn resolve(model: ModelRef) -> ModelRef {
    let ModelRef::File(path) = &model else {
        return model;
    };
    resolved(Path::new(path)).unwrap_or(model)
}

fn resolved(path: &Path) -> Option<ModelRef> {
    let target = fs::canonicalize(path).ok()?;
    let has_moved = target.file_name() != path.file_name();
    if has_moved && !target.is_dir() && (target.extension() != path.extension() || is_part(path)) {
        return None;
    }
    format!("file:{}", target.to_str()?).parse().ok()
}

/// Returns true for a part of a split file: `name-00001-of-00003.gguf`.
fn is_part(path: &Path) -> bool {
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let numbers = stem.and_then(|stem| stem.rsplit_once("-of-"));
    numbers.is_some_and(|(before, parts)| {
        let part = before.rsplit('-').next();
        is_number(parts) && part.is_some_and(is_number)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_to_a_file_are_the_model_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        for name in ["a.gguf", "blob", "b-00001-of-00002.gguf"] {
            fs::write(at(name), "").unwrap();
        }
        fs::create_dir(at("model")).unwrap();
        for (target, link) in [
            ("a.gguf", "link.gguf"),
            ("blob", "of-blob.gguf"),
            ("b-00001-of-00002.gguf", "c-00001-of-00002.gguf"),
            ("b-00001-of-00002.gguf", "whole.gguf"),
            ("model", "latest"),
        ] {
            symlink(at(target), at(link)).unwrap();
        }
        let root = root.display();
        for (given, expected) in [
            ("link.gguf", "a.gguf"),
            ("a.gguf", "a.gguf"),
            ("/model/", "model"),
            ("latest", "model"),
            ("latest/..more.gguf", "latest/..more.gguf"),
            ("of-blob.gguf", "of-blob.gguf"),
            ("c-00001-of-00002.gguf", "c-00001-of-00002.gguf"),
            ("whole.gguf", "b-00001-of-00002.gguf"),
        ] {
            let model = format!("file:{root}/{given}").parse().unwrap();
            let resolved = resolve(model).to_string();
            assert_eq!(resolved, format!("file:{root}/{expected}"));
        }
        let mock: ModelRef = "mock:a=1".parse().unwrap();
        assert_eq!(resolve(mock.clone()), mock);
    }
}
