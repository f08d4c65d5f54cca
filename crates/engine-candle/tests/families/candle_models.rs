//! Computes logits with the models of candle-transformers.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{
    gemma, gemma2, gemma3, llama, mistral, mixtral, phi3, qwen2, qwen3, qwen3_moe,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::tiny_model::TinyModel;

fn weights(model: &TinyModel) -> VarBuilder<'static> {
    let mut tensors: HashMap<String, Tensor> = model
        .tensors
        .iter()
        .map(|(name, values)| {
            let numbers = values.numbers.clone();
            let tensor = Tensor::from_vec(numbers, values.shape.as_slice(), &Device::Cpu);
            (name.clone(), tensor.unwrap())
        })
        .collect();
    // Candle's Mistral does not support tied embeddings.
    let embedding = tensors["model.embed_tokens.weight"].clone();
    tensors.entry("lm_head.weight".into()).or_insert(embedding);
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}

/// Returns the configuration for candle, whose windows do not count the token itself. Some families
/// require a window in every layer.
fn config<T: DeserializeOwned>(model: &TinyModel, window: Option<usize>) -> T {
    let mut config = model.config.clone();
    config["sliding_window"] = match (window, model.family()) {
        (Some(window), _) => json!(window - 1),
        (None, "qwen2" | "mixtral" | "gemma3_text") => json!(1 << 20),
        (None, _) => json!(null),
    };
    config["use_flash_attn"] = json!(false);
    if model.is_gemma() {
        config.as_object_mut().unwrap().remove("hidden_act");
    }
    serde_json::from_value(config).unwrap()
}

/// Returns the logits after the last token, computed without a cache: with one, candle does not
/// apply windows.
pub fn logits(model: &TinyModel, window: Option<usize>, tokens: &[u32]) -> Vec<f32> {
    let input = Tensor::new(tokens, &Device::Cpu).unwrap();
    let input = input.unsqueeze(0).unwrap();
    let weights = weights(model);
    let logits = match model.family() {
        "llama" => {
            let config: llama::LlamaConfig = config(model, window);
            let config = config.into_config(false);
            let mut cache = llama::Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
            let model = llama::Llama::load(weights, &config).unwrap();
            model.forward(&input, 0, &mut cache)
        }
        "mistral" => {
            let mut model = mistral::Model::new(&config(model, window), weights).unwrap();
            model.forward(&input, 0)
        }
        "qwen2" => {
            let mut model = qwen2::ModelForCausalLM::new(&config(model, window), weights).unwrap();
            model.forward(&input, 0)
        }
        "qwen3" => {
            let mut model = qwen3::ModelForCausalLM::new(&config(model, window), weights).unwrap();
            model.forward(&input, 0)
        }
        "mixtral" => {
            let mut model = mixtral::Model::new(&config(model, window), weights).unwrap();
            model.forward(&input, 0)
        }
        "qwen3_moe" => {
            let config = config(model, window);
            let mut model = qwen3_moe::ModelForCausalLM::new(&config, weights).unwrap();
            model.forward(&input, 0)
        }
        "gemma" => {
            let mut model = gemma::Model::new(false, &config(model, window), weights).unwrap();
            model.forward(&input, 0)
        }
        "gemma2" => {
            let mut model = gemma2::Model::new(false, &config(model, window), weights).unwrap();
            model.forward(&input, 0)
        }
        "gemma3_text" => {
            let mut model = gemma3::Model::new(false, &config(model, window), weights).unwrap();
            model.forward(&input, 0)
        }
        "phi3" => {
            let mut model = phi3::Model::new(&config(model, window), weights).unwrap();
            model.forward(&input, 0)
        }
        other => panic!("{other}"),
    };
    logits.unwrap().flatten_all().unwrap().to_vec1().unwrap()
}
