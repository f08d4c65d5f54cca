//! Memory use of a loaded model.
#![cfg(target_os = "linux")]

use std::{fs, path::Path};

use model_maker::{Architecture, Quantization, Recipe, Shape, Sizes};
use worker_contract::{InferRequest, Sampling};

use crate::support::{CANDLE, CPU_0, MOCK, infer, request, start};

/// Parts of the file that loading may keep in memory in addition to the weights: what it reads
/// until it releases memory again, and the largest tensor.
const READ_AHEAD: u64 = 24 << 20;

/// Memory of a worker that loaded a model and served one request, in bytes.
#[derive(Debug, Clone, Copy)]
struct Memory {
    peak: u64,
    resident: u64,
}

async fn memory_with(model: &Path) -> Memory {
    let mut process = start(CANDLE, model.to_str().unwrap(), &CPU_0);
    let client = process.client();
    // Requests while the model loads are logged, and a full pipe would block the worker.
    process.stderr = None;
    let one_token = InferRequest {
        max_tokens: Some(1),
        ..request("one")
    };
    infer(&client, &one_token).await;
    let status = fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let bytes = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kilobytes = line.split_whitespace().nth(1).unwrap();
        kilobytes.parse::<u64>().unwrap() << 10
    };
    Memory {
        peak: bytes("VmHWM:"),
        resident: bytes("VmRSS:"),
    }
}

/// Writes a model with 3.8 million weights per layer, in matrices of at most 1 million.
fn make(layers: usize, quantization: Quantization, path: &Path) {
    let recipe = Recipe::new(Architecture::Llama, Shape::Tiny, quantization);
    let sizes = Sizes {
        layers,
        hidden: 512,
        inner: 2048,
        heads: 8,
        vocabulary: 2048,
        ..recipe.sizes
    };
    Recipe { sizes, ..recipe }.write_gguf(path).unwrap();
}

#[tokio::test]
async fn worker_is_preferred_by_the_oom_killer() {
    let mut process = start(MOCK, "length=1", &CPU_0);
    infer(&process.client(), &request("a")).await;
    let score = format!("/proc/{}/oom_score_adj", process.child.id());
    assert_eq!(fs::read_to_string(score).unwrap(), "500\n");
}

#[tokio::test]
async fn a_split_model_generates_what_the_whole_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("model.gguf");
    let recipe = Recipe::new(Architecture::Llama, Shape::Tiny, Quantization::Q8_0);
    recipe.write_gguf(&whole).unwrap();
    let parts = recipe.write_gguf_parts(&whole, 3).unwrap();
    let greedy = InferRequest {
        sampling: Sampling::greedy(),
        max_tokens: Some(12),
        ..request("greedy")
    };
    let mut outputs = Vec::new();
    for path in [&whole, &parts[0], &parts[2]] {
        let mut process = start(CANDLE, path.to_str().unwrap(), &CPU_0);
        outputs.push(infer(&process.client(), &greedy).await.tokens);
    }
    assert_eq!(outputs[0].len(), 12);
    assert!(outputs.iter().all(|output| *output == outputs[0]));
}

#[tokio::test]
async fn model_takes_little_more_memory_than_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for quantization in [Quantization::Q8_0, Quantization::Q4_K_M, Quantization::F16] {
        let mut measured = Vec::new();
        // The model with a single layer shows how much memory the binary itself takes.
        for layers in [1, 17] {
            make(layers, quantization, &path);
            let file = fs::metadata(&path).unwrap().len();
            measured.push((file, memory_with(&path).await));
        }
        let [(small_file, small), (file, large)] = measured[..] else {
            unreachable!()
        };
        let bytes = file - small_file;
        let resident = large.resident - small.resident;
        let peak = large.peak - small.peak;
        let found = format!("{quantization:?}: {resident}, at most {peak}, for {bytes} of weights");
        println!("{found}");
        assert!(resident * 100 <= bytes * 115, "{found}");
        assert!(peak * 100 <= bytes * 115 + READ_AHEAD * 100, "{found}");
    }
}
