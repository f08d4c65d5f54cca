use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use diagnostics::{Code, Diagnostic, escape};
use hive_contract::{ModelEntry, ModelFormat};
use input_validation::ModelRef;

use crate::builtin::{self, HAIKU, VARIANTS};

/// What a worker needs in order to open a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedModel {
    /// Value of the worker's `--model`: a path, or the mock engine's settings.
    pub argument: String,
    /// How it is stored.
    pub format: ModelFormat,
    /// Weights on disk; 0 for the mock engine.
    pub size_bytes: u64,
}

/// The models of one machine.
#[derive(Debug)]
pub struct ModelCatalog {
    models: PathBuf,
    // What is embedded cannot change while the program runs, so it is inspected once.
    builtin: OnceLock<Vec<ModelEntry>>,
}

impl ModelCatalog {
    /// The catalog that keeps its files under `models`.
    pub fn new(models: PathBuf) -> Self {
        Self {
            models,
            builtin: OnceLock::new(),
        }
    }

    /// The folder that holds the files.
    pub fn folder(&self) -> &Path {
        &self.models
    }

    /// Finds the files of a model; embedded ones are written out first. `MODEL_NOT_FOUND`
    /// when there is no such model or its files cannot be read.
    pub fn resolve(&self, model: &ModelRef) -> Result<ResolvedModel, Diagnostic> {
        match model {
            ModelRef::Builtin { name, variant } => {
                let variant = builtin::find(name, variant.as_deref())?;
                let path = variant.materialise(&self.models)?;
                Ok(ResolvedModel {
                    format: format_of(&path),
                    argument: argument(&path)?,
                    size_bytes: variant.size_bytes(),
                })
            }
            ModelRef::File(path) => local(Path::new(path)),
            ModelRef::Mock(settings) => Ok(ResolvedModel {
                argument: settings.clone(),
                format: ModelFormat::Mock,
                size_bytes: 0,
            }),
        }
    }

    /// The models that this machine has without being told where: the embedded ones, by
    /// reference.
    pub fn list(&self) -> Result<Vec<ModelEntry>, Diagnostic> {
        if let Some(known) = self.builtin.get() {
            return Ok(known.clone());
        }
        let default = ModelRef::Builtin {
            name: HAIKU.to_owned(),
            variant: None,
        };
        let variants = VARIANTS.iter().map(|v| ModelRef::Builtin {
            name: HAIKU.to_owned(),
            variant: Some(v.name.to_owned()),
        });
        let mut entries = std::iter::once(default)
            .chain(variants)
            .map(|model| self.inspect(model))
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort_by(|a, b| a.model.cmp(&b.model));
        Ok(self.builtin.get_or_init(|| entries).clone())
    }

    fn inspect(&self, model: ModelRef) -> Result<ModelEntry, Diagnostic> {
        let resolved = self.resolve(&model)?;
        let header = model_format::inspect(Path::new(&resolved.argument))?;
        Ok(ModelEntry {
            model,
            format: resolved.format,
            size_bytes: resolved.size_bytes,
            architecture: header.architecture,
            quantization: header.quantization,
            context_length: header.context_length,
            parameters: header.parameters,
        })
    }
}

fn format_of(path: &Path) -> ModelFormat {
    if path.is_dir() {
        ModelFormat::Safetensors
    } else {
        ModelFormat::Gguf
    }
}

fn argument(path: &Path) -> Result<String, Diagnostic> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Diagnostic::new(
            Code::ConfigInvalid,
            format!("the path is not UTF-8: {}", escape(&path.to_string_lossy())),
        )
        .hint("set `RBEE_HOME` to a folder whose path is UTF-8")
    })
}

/// A model that the user keeps: one GGUF file, or a folder with config, tokenizer and
/// safetensors.
fn local(path: &Path) -> Result<ResolvedModel, Diagnostic> {
    let not_found = |why: String| {
        Diagnostic::new(
            Code::ModelNotFound,
            format!("no model at {}: {why}", escape(&path.to_string_lossy())),
        )
        .hint("name a `.gguf` file, or a folder with `config.json`, `tokenizer.json` and `*.safetensors`")
    };
    let metadata = fs::metadata(path).map_err(|e| not_found(e.to_string()))?;
    let size_bytes = if metadata.is_dir() {
        for name in ["config.json", "tokenizer.json"] {
            readable_size(&path.join(name)).map_err(|e| not_found(format!("{name}: {e}")))?;
        }
        let mut total = 0;
        for entry in fs::read_dir(path).map_err(|e| not_found(e.to_string()))? {
            let file = entry.map_err(|e| not_found(e.to_string()))?.path();
            if file.extension().is_some_and(|e| e == "safetensors") {
                total += readable_size(&file).map_err(|e| not_found(e.to_string()))?;
            }
        }
        if total == 0 {
            return Err(not_found("the folder holds no *.safetensors".to_owned()));
        }
        total
    } else if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
    {
        readable_size(path).map_err(|e| not_found(e.to_string()))?
    } else {
        return Err(not_found("it is not a .gguf file".to_owned()));
    };
    Ok(ResolvedModel {
        format: format_of(path),
        argument: argument(path)?,
        size_bytes,
    })
}

/// Size of a file that this user can open. Only a regular file is opened: a pipe would be
/// waited for without end.
fn readable_size(path: &Path) -> std::io::Result<u64> {
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    Ok(fs::File::open(path)?.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(text: &str) -> ModelRef {
        text.parse().unwrap()
    }

    fn catalog() -> (tempfile::TempDir, ModelCatalog) {
        let dir = tempfile::tempdir().unwrap();
        let catalog = ModelCatalog::new(dir.path().join("models"));
        (dir, catalog)
    }

    #[test]
    fn the_default_variant_is_f16_and_lies_where_it_should() {
        let (dir, catalog) = catalog();
        let resolved = catalog.resolve(&model("builtin:haiku")).unwrap();
        let path = dir
            .path()
            .join("models/builtin/haiku/f16/rbee-haiku-tiny-f16.gguf");
        assert_eq!(Path::new(&resolved.argument), path);
        assert_eq!(resolved.format, ModelFormat::Gguf);
        assert_eq!(resolved.size_bytes, fs::metadata(&path).unwrap().len());
        assert_eq!(
            catalog.resolve(&model("builtin:haiku@f16")).unwrap(),
            resolved
        );
    }

    #[test]
    fn a_damaged_copy_is_replaced_and_a_good_one_kept() {
        let (_dir, catalog) = catalog();
        let reference = model("builtin:haiku@q8_0");
        let path = PathBuf::from(catalog.resolve(&reference).unwrap().argument);
        let good = fs::read(&path).unwrap();
        let first = fs::metadata(&path).unwrap().modified().unwrap();
        catalog.resolve(&reference).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), first);

        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        fs::write(&path, &flipped).unwrap();
        catalog.resolve(&reference).unwrap();
        assert_eq!(fs::read(&path).unwrap(), good);

        fs::write(&path, &good[..good.len() / 2]).unwrap();
        catalog.resolve(&reference).unwrap();
        assert_eq!(fs::read(&path).unwrap(), good);
        let folder = path.parent().unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    fn safetensors_are_a_folder() {
        let (_dir, catalog) = catalog();
        let resolved = catalog
            .resolve(&model("builtin:haiku@safetensors"))
            .unwrap();
        assert_eq!(resolved.format, ModelFormat::Safetensors);
        assert!(Path::new(&resolved.argument).join("config.json").is_file());
        // The same folder as a file reference of the user's own.
        let own = model(&format!("file:{}", resolved.argument));
        let own = catalog.resolve(&own).unwrap();
        assert_eq!(own.format, ModelFormat::Safetensors);
        assert_eq!(own.argument, resolved.argument);
    }

    #[test]
    fn what_is_not_there_is_told_with_its_name() {
        let (dir, catalog) = catalog();
        let folder = dir.path().join("empty");
        fs::create_dir(&folder).unwrap();
        let text = dir.path().join("notes.txt");
        fs::write(&text, "x").unwrap();
        let pipe = dir.path().join("pipe.gguf");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for (reference, names) in [
            ("builtin:nothing".to_owned(), "builtin:nothing"),
            ("builtin:haiku@q2".to_owned(), "builtin:haiku@q2"),
            ("file:/nowhere/a.gguf".to_owned(), "/nowhere/a.gguf"),
            (format!("file:{}", folder.display()), "config.json"),
            (format!("file:{}", text.display()), "notes.txt"),
            (format!("file:{}", pipe.display()), "not a regular file"),
        ] {
            let error = catalog.resolve(&model(&reference)).unwrap_err();
            assert_eq!(error.code, Code::ModelNotFound, "{reference}");
            assert!(error.message.contains(names), "{}", error.message);
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn a_file_may_be_named_in_capitals() {
        let (dir, catalog) = catalog();
        let path = dir.path().join("MODEL.GGUF");
        fs::write(&path, "x").unwrap();
        let resolved = catalog
            .resolve(&model(&format!("file:{}", path.display())))
            .unwrap();
        assert_eq!(resolved.format, ModelFormat::Gguf);
        assert_eq!(Path::new(&resolved.argument), path);
    }

    #[test]
    fn a_mock_has_settings_and_no_file() {
        let (dir, catalog) = catalog();
        let resolved = catalog.resolve(&model("mock:load_ms=5")).unwrap();
        assert_eq!(resolved.argument, "load_ms=5");
        assert_eq!(resolved.format, ModelFormat::Mock);
        assert!(!dir.path().join("models").exists());
    }

    #[test]
    fn the_list_tells_what_is_embedded() {
        let (_dir, catalog) = catalog();
        let names: Vec<String> = catalog
            .list()
            .unwrap()
            .iter()
            .map(|entry| {
                assert_eq!(entry.architecture, "llama");
                assert!(entry.context_length > 0 && entry.parameters > 0);
                format!("{} {}", entry.model, entry.quantization)
            })
            .collect();
        assert_eq!(names.len(), 4);
        assert_eq!(names[0], "builtin:haiku F16");
        assert!(names.contains(&"builtin:haiku@q8_0 Q8_0".to_owned()));
    }
}
