//! What is made loads, computes something sensible, and is the same model in both formats.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

use std::path::Path;

use engine_candle::{LoadOptions, Loaded, load};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};
use model_format::{Gguf, ModelHeader, inspect};
use model_maker::{Architecture, Quantization, Recipe, Shape};
use tempfile::TempDir;

const PROMPT: [u32; 6] = [1, 40, 300, 270, 77, 511];

fn loaded(path: &Path) -> Loaded {
    let options = LoadOptions {
        threads: Some(1),
        ..LoadOptions::default()
    };
    load(path, options).unwrap()
}

fn logits(path: &Path) -> Vec<f32> {
    let chunk = Chunk {
        sequence: SequenceId(0),
        tokens: PROMPT.to_vec(),
        position: 0,
        blocks: vec![BlockId(0)],
        wants_logits: true,
    };
    let batch = Batch {
        chunks: vec![chunk],
    };
    loaded(path).engine.step(&batch).unwrap().values
}

fn tiny(architecture: Architecture, quantization: Quantization) -> Recipe {
    Recipe::new(architecture, Shape::Tiny, quantization)
}

fn gguf(folder: &TempDir, recipe: &Recipe) -> std::path::PathBuf {
    let path = folder.path().join("model.gguf");
    recipe.write_gguf(&path).unwrap();
    path
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn both_formats_hold_the_same_model() {
    for architecture in [
        Architecture::Llama,
        Architecture::Mistral,
        Architecture::Qwen2,
        Architecture::Qwen3,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let recipe = tiny(architecture, Quantization::F32);
        let of_gguf = logits(&gguf(&folder, &recipe));
        recipe.write_folder(folder.path()).unwrap();
        let of_folder = logits(folder.path());
        let difference = largest_difference(&of_gguf, &of_folder);
        assert!(difference < 1e-4, "{architecture:?}: {difference}");
        let (sum, squares) = of_gguf
            .iter()
            .fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
        let count = of_gguf.len() as f32;
        let deviation = (squares / count - (sum / count).powi(2)).sqrt();
        assert!((1.0..4.0).contains(&deviation), "{deviation}");
    }
}

#[test]
fn every_type_computes_about_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let exact = logits(&gguf(
        &folder,
        &tiny(Architecture::Llama, Quantization::F32),
    ));
    for (quantization, tolerance) in [
        (Quantization::F16, 0.02),
        (Quantization::BF16, 0.15),
        (Quantization::Q8_0, 0.3),
        (Quantization::Q6_K, 0.6),
        (Quantization::Q5_K_M, 1.5),
        (Quantization::Q4_K_M, 2.5),
        (Quantization::Q4_0, 3.0),
    ] {
        let path = gguf(&folder, &tiny(Architecture::Llama, quantization));
        assert_eq!(inspect(&path).unwrap().quantization, quantization.name());
        let difference = largest_difference(&logits(&path), &exact);
        assert!(difference < tolerance, "{quantization:?}: {difference}");
        assert!(difference > 1e-4, "{quantization:?}: {difference}");
    }
}

/// Families that the engine may not know yet are well-formed files at least.
#[test]
fn every_family_and_type_is_a_valid_file() {
    let folder = tempfile::tempdir().unwrap();
    for architecture in [
        Architecture::Gemma3,
        Architecture::Phi3,
        Architecture::Mixtral,
        Architecture::Qwen3Moe,
    ] {
        for quantization in [Quantization::F16, Quantization::Q4_K_M, Quantization::Q2_K] {
            let recipe = tiny(architecture, quantization);
            let path = gguf(&folder, &recipe);
            let bytes = std::fs::read(&path).unwrap();
            let header = ModelHeader::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap();
            assert_eq!(header.architecture, architecture.gguf_name());
            assert_eq!(header.layers as usize, recipe.sizes.layers);
            assert_eq!(header.vocab_size as usize, recipe.sizes.vocabulary);
        }
        let folder = tempfile::tempdir().unwrap();
        let recipe = tiny(architecture, Quantization::BF16);
        recipe.write_folder(folder.path()).unwrap();
        let header = inspect(folder.path()).unwrap();
        assert_eq!(header.architecture, architecture.model_type());
        assert_eq!(header.quantization, "BF16");
    }
}

#[test]
fn the_tokenizer_is_the_same_in_both_formats_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny(Architecture::Llama, Quantization::F16);
    let of_gguf = loaded(&gguf(&folder, &recipe)).codec;
    recipe.write_folder(folder.path()).unwrap();
    let of_folder = loaded(folder.path()).codec;
    let text = "The tea in other hands,\n 1234 tones — né 🐝!";
    let ids = of_gguf.encode(text).unwrap();
    assert_eq!(ids, of_folder.encode(text).unwrap());
    assert_eq!(of_gguf.decode(&ids), text);
    assert!(ids.len() < text.len(), "some letters are joined");
    assert_eq!(of_gguf.end_tokens(), of_folder.end_tokens());
    assert_eq!(of_gguf.vocab_size(), recipe.sizes.vocabulary);
}

#[test]
fn seeds_differ_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = tiny(Architecture::Qwen3, Quantization::Q8_0);
    let first = std::fs::read(gguf(&folder, &recipe)).unwrap();
    assert!(first == std::fs::read(gguf(&folder, &recipe)).unwrap());
    recipe.seed = 1;
    assert!(first != std::fs::read(gguf(&folder, &recipe)).unwrap());
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny(Architecture::Llama, Quantization::Q4_0);
    let error = recipe.write_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("not Q4_0"), "{error}");
    let recipe = Recipe::new(Architecture::Phi3, Shape::Qwen3, Quantization::F16);
    let path = folder.path().join("x.gguf");
    let error = recipe.write_gguf(&path).unwrap_err().to_string();
    assert!(error.contains("16 heads of 128"), "{error}");
    assert!(!path.exists());
}
