//! Text output about the memory of models, as pure functions.

use diagnostics::bytes;
use hive_contract::ModelMemory;
use queen_contract::{ContextFit, DeviceFit};

use super::table::table;

/// Storage types of the KV cache that a table has columns for.
const TYPES: [&str; 3] = ["f32", "f16", "q8_0"];

/// The size of a token in the KV cache in each storage type.
pub(super) fn cache(memory: &ModelMemory) -> String {
    let sizes = memory.kv_cache.iter().map(|size| {
        let used = if size.used { " (used)" } else { "" };
        format!("{} in {}{used}", bytes(size.bytes_per_token), size.kv_type)
    });
    format!("per token {}", sizes.collect::<Vec<_>>().join(", "))
}

/// The devices of all nodes with the longest contexts, and why a model does not fit.
pub(super) fn devices(fit: &[DeviceFit]) -> String {
    if fit.iter().all(|device| device.contexts.is_empty()) {
        return String::new();
    }
    let rows = fit.iter().map(|fit| {
        let [f32, f16, q8] = TYPES.map(|kv_type| tokens(fit, kv_type));
        [
            fit.node.to_string(),
            fit.device.id.to_string(),
            bytes(fit.device.memory_free_bytes),
            bytes(fit.device.memory_total_bytes),
            f32,
            f16,
            q8,
            if fit.has_files { "yes" } else { "no" }.to_owned(),
        ]
    });
    let headings = [
        "NODE", "DEVICE", "FREE", "MEMORY", "F32", "F16", "Q8_0", "FILES",
    ];
    let misfits = fit.iter().filter_map(|fit| {
        let smallest = smallest(fit)?;
        (smallest.context_length.is_none()).then(|| {
            format!(
                "{} {}: does not fit: needs {}, has {}\n",
                fit.node,
                fit.device.id,
                bytes(smallest.minimum_bytes),
                bytes(fit.device.memory_free_bytes),
            )
        })
    });
    let misfits: String = misfits.collect();
    format!(
        "\nThe longest context in tokens, by type of the KV cache:\n{}{misfits}",
        table(headings, rows, ""),
    )
}

fn tokens(fit: &DeviceFit, kv_type: &str) -> String {
    let found = fit.contexts.iter().find(|fit| fit.kv_type == kv_type);
    match found.map(|fit| fit.context_length) {
        Some(Some(tokens)) => tokens.to_string(),
        Some(None) => "-".to_owned(),
        None => String::new(),
    }
}

/// The type of the KV cache that needs the least memory.
fn smallest(fit: &DeviceFit) -> Option<&ContextFit> {
    fit.contexts.iter().min_by_key(|fit| fit.minimum_bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::render::models::report;

    fn fit(node: &str, device: &str, free: u64, contexts: [Option<u32>; 3]) -> Value {
        let contexts: Vec<Value> = TYPES
            .iter()
            .zip(contexts)
            .map(|(kv_type, context_length)| {
                json!({"kv_type": kv_type, "context_length": context_length,
                    "minimum_bytes": 4_200_000_000_u64, "full_bytes": 9_000_000_000_u64})
            })
            .collect();
        let backend = if device == "GPU-0" { "cuda" } else { "cpu" };
        json!({
            "node": node, "has_files": node == "local", "contexts": contexts,
            "device": {"id": device, "backend": backend, "name": "x",
                "memory_total_bytes": 25_769_803_776_u64, "memory_free_bytes": free},
        })
    }

    #[test]
    fn a_model_is_shown_with_the_devices_where_it_fits() {
        let shown = report(
            &serde_json::from_value(json!({
                "model": {"model": "hf:org/repo:Q4_K_M", "format": "gguf",
                    "size_bytes": 4_100_000_000_u64, "architecture": "llama",
                    "quantization": "Q4_K_M", "context_length": 131_072,
                    "parameters": 8_030_000_000_u64},
                "metadata": {},
                "memory": {"layers": 32, "weight_bytes": 4_090_000_000_u64, "kv_cache": [
                    {"kv_type": "f32", "bytes_per_token": 262_144, "used": true},
                    {"kv_type": "f16", "bytes_per_token": 131_072, "used": false},
                    {"kv_type": "q8_0", "bytes_per_token": 69_632, "used": false}]},
                "fit": [
                    fit("local", "CPU-0", 21_474_836_480, [Some(66_304), Some(131_072), Some(131_072)]),
                    fit("workstation-01", "GPU-0", 1_073_741_824, [None, None, None]),
                ],
            }))
            .unwrap(),
        );
        let expected = "\
model         hf:org/repo:Q4_K_M
format        gguf
architecture  llama
parameters    8.0B
quantization  Q4_K_M
size          3.8 GiB
context       131072 tokens
sampling      -
layers        32
weights       3.8 GiB
KV cache      per token 256 KiB in f32 (used), 128 KiB in f16, 68.0 KiB in q8_0

The longest context in tokens, by type of the KV cache:
NODE            DEVICE  FREE      MEMORY    F32    F16     Q8_0    FILES
local           CPU-0   20.0 GiB  24.0 GiB  66304  131072  131072  yes
workstation-01  GPU-0   1.0 GiB   24.0 GiB  -      -       -       no
workstation-01 GPU-0: does not fit: needs 3.9 GiB, has 1.0 GiB
";
        assert_eq!(shown, expected);
        let widest = shown.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{widest:?}");
    }
}
