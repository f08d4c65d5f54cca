//! Locating files: embedded models and files of the user.

use std::fs;

use diagnostics::Code;

use super::*;

fn model(text: &str) -> ModelRef {
    text.parse().unwrap()
}

fn catalog() -> (tempfile::TempDir, ModelCatalog) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = crate::testing::catalog_in(dir.path());
    (dir, catalog)
}

#[test]
fn default_variant_is_f16_in_its_directory() {
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
fn replaces_damaged_copies_and_keeps_intact_ones() {
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
    let directory = path.parent().unwrap();
    assert_eq!(
        fs::read_dir(directory).unwrap().count(),
        1,
        "no temporary files"
    );
}

#[test]
fn safetensors_resolve_to_a_directory() {
    let (_dir, catalog) = catalog();
    let resolved = catalog
        .resolve(&model("builtin:haiku@safetensors"))
        .unwrap();
    assert_eq!(resolved.format, ModelFormat::Safetensors);
    assert!(Path::new(&resolved.argument).join("config.json").is_file());
    let local = model(&format!("file:{}", resolved.argument));
    let local = catalog.resolve(&local).unwrap();
    assert_eq!(local.format, ModelFormat::Safetensors);
    assert_eq!(local.argument, resolved.argument);
    let weights = Path::new(&resolved.argument).join("model.safetensors");
    assert_eq!(local.size_bytes, fs::metadata(weights).unwrap().len());
}

#[test]
fn errors_name_the_missing_model() {
    let (dir, catalog) = catalog();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let unweighted = dir.path().join("unweighted");
    fs::create_dir(&unweighted).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::write(unweighted.join(name), "{}").unwrap();
    }
    let text = dir.path().join("notes.txt");
    fs::write(&text, "x").unwrap();
    let pipe = dir.path().join("pipe.gguf");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());

    for name in ["nothing", "haiku@q2"] {
        let error = catalog
            .resolve(&model(&format!("builtin:{name}")))
            .unwrap_err();
        assert_eq!(error.code, Code::ModelNotFound);
        assert_eq!(
            error.message,
            format!("`{name}` is neither a built-in model nor an alias")
        );
        assert_eq!(
            error.hint.unwrap(),
            "use one of: `builtin:haiku`, `builtin:haiku@f16`, `builtin:haiku@q8_0`, \
             `builtin:haiku@safetensors`, a name that `rbee-keeper model alias` lists, or a \
             reference such as `hf:org/repo` or `ollama:name`"
        );
    }
    let no_file = "No such file or directory (os error 2)";
    for (path, reason) in [
        (Path::new("/nowhere/a.gguf"), no_file),
        (&empty, &format!("config.json: {no_file}")),
        (&unweighted, "the directory contains no *.safetensors"),
        (&text, "not a .gguf file"),
        (&pipe, "not a regular file"),
    ] {
        let reference = format!("file:{}", path.display());
        let error = catalog.resolve(&model(&reference)).unwrap_err();
        assert_eq!(error.code, Code::ModelNotFound, "{reference}");
        assert_eq!(
            error.message,
            format!("no model at {}: {reason}", path.display())
        );
        assert_eq!(
            error.hint.unwrap(),
            "specify a `.gguf` file, or a directory with `config.json`, `tokenizer.json` and \
             `*.safetensors`"
        );
    }
}

#[test]
fn details_have_the_metadata_of_both_formats() {
    let (_dir, catalog) = catalog();
    for reference in ["builtin:haiku@q8_0", "builtin:haiku@safetensors"] {
        let details = catalog.details(model(reference)).unwrap();
        assert_eq!(details.model.parameters, 2_885_888, "{reference}");
        for (key, value) in [
            ("general.architecture", "\"llama\""),
            ("general.parameter_count", "2885888"),
            ("llama.context_length", "512"),
            ("llama.embedding_length", "256"),
            ("llama.block_count", "4"),
            ("llama.attention.head_count_kv", "4"),
            ("llama.rope.freq_base", "10000.0"),
        ] {
            assert_eq!(
                details.metadata[key].to_string(),
                value,
                "{reference} {key}"
            );
        }
        assert!(details.template.unwrap().contains("messages"));
        assert!(!details.metadata.contains_key("tokenizer.chat_template"));
    }
    let safetensors = catalog.details(model("builtin:haiku@safetensors")).unwrap();
    assert_eq!(safetensors.model.sampling.to_string(), "temperature=0.7");
    let mock = catalog.details(model("mock:a")).unwrap();
    assert_eq!(mock.model.format, ModelFormat::Mock);
}

#[test]
fn a_split_model_is_one_model() {
    let (dir, catalog) = catalog();
    let part = |n: usize| dir.path().join(format!("m-{n:05}-of-00002.gguf"));
    fs::write(part(1), "12").unwrap();
    fs::write(part(2), "345").unwrap();
    let resolve = |n| catalog.resolve(&model(&format!("file:{}", part(n).display())));
    for n in [1, 2] {
        assert_eq!(resolve(n).unwrap().size_bytes, 5);
    }
    fs::remove_file(part(1)).unwrap();
    let error = resolve(2).unwrap_err();
    assert_eq!(error.code, Code::ModelNotFound);
    assert!(error.message.contains("m-00001-of-00002.gguf"), "{error}");
}

#[test]
fn extension_is_case_insensitive() {
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
fn mock_resolves_to_its_settings() {
    let (dir, catalog) = catalog();
    let resolved = catalog.resolve(&model("mock:load_ms=5")).unwrap();
    assert_eq!(resolved.argument, "load_ms=5");
    assert_eq!(resolved.format, ModelFormat::Mock);
    assert!(!dir.path().join("models").exists());
}

#[test]
fn lists_embedded_models() {
    let (_dir, catalog) = catalog();
    let names: Vec<String> = catalog
        .list(&[])
        .unwrap()
        .iter()
        .map(|entry| {
            assert_eq!(entry.architecture, "llama");
            assert_eq!((entry.context_length, entry.parameters), (512, 2_885_888));
            format!("{} {}", entry.model, entry.quantization)
        })
        .collect();
    assert_eq!(
        names,
        [
            "builtin:haiku F16",
            "builtin:haiku@f16 F16",
            "builtin:haiku@q8_0 Q8_0",
            "builtin:haiku@safetensors F16",
        ]
    );
}
