//! Generated models load, compute plausible logits, and are equal in both formats.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::path::Path;

use engine_candle::{LoadOptions, LoadedModel, load};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};
use model_format::{Gguf, ModelHeader, inspect};
use model_maker::{Architecture, Quantization, Recipe, Shape};
use tempfile::TempDir;

const PROMPT: [u32; 6] = [1, 40, 300, 270, 77, 511];

fn loaded(path: &Path) -> LoadedModel {
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

fn gguf(directory: &TempDir, recipe: &Recipe) -> std::path::PathBuf {
    let path = directory.path().join("model.gguf");
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
fn both_formats_compute_the_same_logits() {
    for architecture in [
        Architecture::Llama,
        Architecture::Mistral,
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Gemma3,
        Architecture::Phi3,
        Architecture::Mixtral,
        Architecture::Qwen3Moe,
    ] {
        let directory = tempfile::tempdir().unwrap();
        let recipe = tiny(architecture, Quantization::F32);
        let of_gguf = logits(&gguf(&directory, &recipe));
        recipe.write_directory(directory.path()).unwrap();
        let of_directory = logits(directory.path());
        let difference = largest_difference(&of_gguf, &of_directory);
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
fn quantized_logits_are_close_to_f32() {
    let directory = tempfile::tempdir().unwrap();
    let exact = logits(&gguf(
        &directory,
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
        let path = gguf(&directory, &tiny(Architecture::Llama, quantization));
        assert_eq!(inspect(&path).unwrap().quantization, quantization.name());
        let difference = largest_difference(&logits(&path), &exact);
        assert!(difference < tolerance, "{quantization:?}: {difference}");
        assert!(difference > 1e-4, "{quantization:?}: {difference}");
    }
}

#[test]
fn headers_match_the_recipe() {
    let directory = tempfile::tempdir().unwrap();
    for architecture in [
        Architecture::Gemma3,
        Architecture::Phi3,
        Architecture::Mixtral,
        Architecture::Qwen3Moe,
    ] {
        for quantization in [Quantization::F16, Quantization::Q4_K_M, Quantization::Q2_K] {
            let recipe = tiny(architecture, quantization);
            let path = gguf(&directory, &recipe);
            let bytes = std::fs::read(&path).unwrap();
            let header = ModelHeader::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap();
            assert_eq!(header.architecture, architecture.gguf_name());
            assert_eq!(header.layers as usize, recipe.sizes.layers);
            assert_eq!(header.vocab_size as usize, recipe.sizes.vocabulary);
        }
        let directory = tempfile::tempdir().unwrap();
        let recipe = tiny(architecture, Quantization::BF16);
        recipe.write_directory(directory.path()).unwrap();
        let header = inspect(directory.path()).unwrap();
        assert_eq!(header.architecture, architecture.model_type());
        assert_eq!(header.quantization, "BF16");
    }
}

#[test]
fn tokenizers_of_both_formats_agree_and_round_trip() {
    let directory = tempfile::tempdir().unwrap();
    let recipe = tiny(Architecture::Llama, Quantization::F16);
    let of_gguf = loaded(&gguf(&directory, &recipe)).codec;
    recipe.write_directory(directory.path()).unwrap();
    let of_directory = loaded(directory.path()).codec;
    let text = "The tea in other hands,\n 1234 tones — né 🐝!";
    let ids = of_gguf.encode(text).unwrap();
    assert_eq!(ids, of_directory.encode(text).unwrap());
    assert_eq!(of_gguf.decode(&ids), text);
    assert!(ids.len() < text.len(), "some tokens are merged");
    assert_eq!(of_gguf.end_tokens(), of_directory.end_tokens());
    assert_eq!(of_gguf.vocab_size(), recipe.sizes.vocabulary);
}

#[test]
fn files_depend_only_on_recipe_and_seed() {
    let directory = tempfile::tempdir().unwrap();
    let mut recipe = tiny(Architecture::Qwen3, Quantization::Q8_0);
    let first = std::fs::read(gguf(&directory, &recipe)).unwrap();
    assert!(first == std::fs::read(gguf(&directory, &recipe)).unwrap());
    recipe.seed = 1;
    assert!(first != std::fs::read(gguf(&directory, &recipe)).unwrap());
}

#[test]
fn rejects_unsupported_recipes() {
    let directory = tempfile::tempdir().unwrap();
    let recipe = tiny(Architecture::Llama, Quantization::Q4_0);
    let error = recipe
        .write_directory(directory.path())
        .unwrap_err()
        .to_string();
    assert_eq!(error, "safetensors supports F32, F16 and BF16, not Q4_0");
    let recipe = Recipe::new(Architecture::Phi3, Shape::Qwen3, Quantization::F16);
    let path = directory.path().join("x.gguf");
    let error = recipe.write_gguf(&path).unwrap_err().to_string();
    assert_eq!(
        error,
        "16 heads of 128 dimensions do not match the hidden size 1024, as the family requires"
    );
    assert!(!path.exists());
}
