use std::{collections::BTreeMap, path::Path, sync::Arc};

use candle_core::Device;
use cpu_kernels::Threads;
use diagnostics::{Code, Diagnostic};
use inference_execution::ModelDescription;
use model_format::{
    Gguf, ModelHeader, Safetensors, WeightFormat, about_file, family_of_config, header_from_config,
    read_limited, shard_files, text_tensor_name,
};
use text_codec::Codec;

use crate::{
    architecture::Architecture,
    cpu::Cpu,
    engine::{CandleEngine, Computing},
    kv::{BLOCK_TOKENS, CpuKv, KvShape, TensorKv},
    layout::one_matrix_each,
    mapping::Mapping,
    model::Llama,
    pooling,
    tensors::Tensors,
    weights::{RawTensors, Weights, gguf_tensors, safetensors_tensors},
};

/// Sequences of full length that the KV cache has room for when nothing else is asked.
const DEFAULT_SEQUENCES: u64 = 8;
/// Most bytes of KV cache when nothing else is asked and nothing is known of the memory.
const DEFAULT_KV_BYTES: u64 = 1 << 30;

/// Bytes of weights after which the memory of what was read of the files is given back.
const RELEASE_EVERY: u64 = 16 << 20;

/// Where to compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ComputeDevice {
    /// On the processor.
    #[default]
    Cpu,
}

impl ComputeDevice {
    pub(crate) fn candle(self) -> Device {
        match self {
            Self::Cpu => Device::Cpu,
        }
    }
}

/// How to load a model.
#[derive(Default)]
pub struct LoadOptions {
    /// Longest sequence in tokens; absent, what the model was made for and the KV cache
    /// holds. Models with rotary factors for short and for long contexts (Phi-3) take those
    /// for this length, whatever the length of a sequence.
    pub context_length: Option<u32>,
    /// Bytes of the KV cache; absent, room for 8 sequences of full length, or less as
    /// `memory_bytes` says. They are taken from the system only when they are used.
    pub kv_cache_bytes: Option<u64>,
    /// Bytes of memory that can be had. Weights and a KV cache that need more are refused;
    /// by default the cache takes a quarter of what the weights leave, or 1 GiB where that is
    /// not more than half. Absent, nothing is known of it and the cache takes 1 GiB at most.
    pub memory_bytes: Option<u64>,
    /// Where to compute.
    pub device: ComputeDevice,
    /// Threads that compute; absent, as many as this process may use at once.
    pub threads: Option<usize>,
    /// Told the bytes of weights loaded and their total, while loading.
    pub progress: Option<Box<dyn FnMut(u64, u64) + Send>>,
}

/// A model ready to compute.
pub struct Loaded {
    /// The engine.
    pub engine: CandleEngine,
    /// Its tokenizer and chat template.
    pub codec: Codec,
}

/// Loads the model at `path`: a `.gguf` file, or a Hugging Face folder with safetensors.
///
/// Errors: `MODEL_NOT_FOUND`; `INVALID_MODEL_FILE` for a damaged or incomplete one;
/// `UNSUPPORTED_MODEL` and `UNSUPPORTED_QUANTIZATION`, which say what is supported;
/// `INSUFFICIENT_RAM` when the KV cache is too small for one sequence;
/// `CONFIG_INVALID` for a context that the model was not made for.
pub fn load(path: &Path, mut options: LoadOptions) -> Result<Loaded, Diagnostic> {
    if path.is_dir() {
        load_folder(path, &mut options)
    } else {
        load_gguf(path, &mut options)
    }
    .map_err(|error| name_file(error, path))
}

/// Errors about content name the model; those that name a file already stay as they are.
fn name_file(error: Diagnostic, path: &Path) -> Diagnostic {
    if error.message.contains(&*path.to_string_lossy()) {
        error
    } else {
        about_file(error, path)
    }
}

fn load_gguf(path: &Path, options: &mut LoadOptions) -> Result<Loaded, Diagnostic> {
    let mapping = Arc::new(Mapping::open(path)?);
    release_while_loading(options, vec![Arc::clone(&mapping)]);
    let gguf = Gguf::parse(mapping.bytes())?;
    // Files of other families lack keys and tensors that these have.
    Architecture::named(gguf.architecture()?, WeightFormat::Gguf)?;
    let header = ModelHeader::from_gguf(&gguf)?;
    let codec = Codec::from_gguf(&gguf)?;
    codec.check_fits(header.vocab_size as usize)?;
    let pooling = pooling::of_gguf(&gguf, &header.architecture)?;
    let engine = build(&header, gguf_tensors(&gguf)?, options)?.pooled(pooling);
    Ok(Loaded { engine, codec })
}

fn load_folder(folder: &Path, options: &mut LoadOptions) -> Result<Loaded, Diagnostic> {
    let config_path = folder.join("config.json");
    let config = read_limited(&config_path)?;
    if let Some(family) = family_of_config(&config) {
        Architecture::named(&family, WeightFormat::Safetensors)?;
    }
    let mut shards = Vec::new();
    for path in shard_files(folder)? {
        let mapping = Arc::new(Mapping::open(&path)?);
        let header = Safetensors::parse_header(mapping.bytes(), mapping.bytes().len() as u64)
            .map_err(|e| about_file(e, &path))?;
        shards.push((header, mapping));
    }
    let mappings = shards.iter().map(|(_, mapping)| Arc::clone(mapping));
    release_while_loading(options, mappings.collect());
    let mut infos = BTreeMap::new();
    let mut tensors = RawTensors::new();
    for (header, mapping) in &shards {
        for (name, info) in header.tensors() {
            infos.extend(text_tensor_name(name).map(|name| (name, info.clone())));
        }
        let raw = safetensors_tensors(header, mapping.bytes()).into_iter();
        tensors.extend(raw.filter_map(|(name, raw)| Some((text_tensor_name(&name)?, raw))));
    }
    let header = header_from_config(&config, &infos).map_err(|e| about_file(e, &config_path))?;
    let codec = Codec::from_dir(folder)?;
    codec.check_fits(header.vocab_size as usize)?;
    let pooling = pooling::of_folder(folder)?;
    let engine = build(&header, tensors, options)?.pooled(pooling);
    Ok(Loaded { engine, codec })
}

/// Makes what is told of the progress also give back the memory of what was read of the files:
/// the weights are packed in memory of their own.
fn release_while_loading(options: &mut LoadOptions, files: Vec<Arc<Mapping>>) {
    let mut tell = options.progress.take();
    let mut released = 0;
    options.progress = Some(Box::new(move |done, total| {
        if done >= released + RELEASE_EVERY || done == total {
            released = done;
            for file in &files {
                file.release();
            }
        }
        if let Some(tell) = &mut tell {
            tell(done, total);
        }
    }));
}

/// An engine from a header and the tensors that belong to it.
pub(crate) fn build(
    header: &ModelHeader,
    tensors: RawTensors<'_>,
    options: &mut LoadOptions,
) -> Result<CandleEngine, Diagnostic> {
    let (context_length, blocks) = plan_memory(header, options)?;
    let device = options.device.candle();
    let mut silent = |_, _| {};
    let progress: &mut dyn FnMut(u64, u64) = match &mut options.progress {
        Some(progress) => progress.as_mut(),
        None => &mut silent,
    };
    let threads = options.threads.unwrap_or_else(available_threads);
    let threads = Threads::new(threads)?;
    let architecture = Architecture::named(&header.architecture, header.format)?;
    architecture.check(header)?;
    let names = architecture.tensor_names(header.format);
    let tensors = one_matrix_each(tensors, header, architecture)?;
    let weights = Weights::new(tensors, names, device.clone(), threads.clone(), progress);
    let model = Llama::new(header, context_length, weights)?;
    let kv = kv_shape(header);
    let computing = if device.is_cpu() {
        Computing::Cpu(Cpu::new(threads, CpuKv::new(kv, blocks)))
    } else {
        let kv = TensorKv::new(kv, blocks, &device).map_err(Diagnostic::internal)?;
        Computing::Device(Tensors::new(device, kv))
    };
    let description = ModelDescription {
        architecture: header.architecture.clone(),
        layers: header.layers,
        vocab_size: header.vocab_size,
        context_length,
        quantization: header.quantization.clone(),
        weight_bytes: header.weight_bytes,
        parameters: header.parameters,
    };
    Ok(CandleEngine::new(description, model, computing))
}

/// Sizes of the KV cache.
pub(crate) fn kv_shape(header: &ModelHeader) -> KvShape {
    KvShape {
        layers: header.layers,
        heads: header.kv_heads,
        width: header.head_dim,
    }
}

/// What affinity and the quota of the control group leave to this process.
fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The longest sequence in tokens and the blocks of the KV cache.
fn plan_memory(header: &ModelHeader, options: &LoadOptions) -> Result<(u32, u32), Diagnostic> {
    let trained = header.context_length;
    let wanted = options.context_length.unwrap_or(trained);
    if wanted == 0 || wanted > trained {
        return Err(Diagnostic::new(
            Code::ConfigInvalid,
            format!("a context of {wanted} tokens was asked for, the model was made for {trained}"),
        )
        .hint(format!("ask for a context of 1 to {trained} tokens")));
    }
    let block = kv_shape(header).block_bytes();
    let sequence_blocks = u64::from(wanted.div_ceil(BLOCK_TOKENS));
    let left = options
        .memory_bytes
        .map(|bytes| bytes.saturating_sub(header.weight_bytes));
    let most = match left {
        Some(left) => (left / 4).max(DEFAULT_KV_BYTES.min(left / 2)),
        None => DEFAULT_KV_BYTES,
    };
    let default_bytes = (sequence_blocks * DEFAULT_SEQUENCES)
        .saturating_mul(block)
        .min(most);
    let bytes = options.kv_cache_bytes.unwrap_or(default_bytes);
    let blocks = u32::try_from(bytes / block).unwrap_or(u32::MAX / BLOCK_TOKENS);
    let held = u64::from(blocks) * u64::from(BLOCK_TOKENS);
    if let (Some(memory), Some(left)) = (options.memory_bytes, left)
        && left < bytes.max(block)
    {
        let need = header.weight_bytes.saturating_add(bytes.max(block));
        return Err(Diagnostic::new(
            Code::InsufficientRam,
            format!(
                "the model takes {need} bytes of memory, {} for its weights and the rest for \
                 its KV cache, and {memory} can be had",
                header.weight_bytes
            ),
        )
        .hint("free memory, or choose a smaller quantisation or context")
        .detail("need_bytes", need)
        .detail("available_bytes", memory));
    }
    let enough = match options.context_length {
        Some(asked) => held >= u64::from(asked),
        None => blocks > 0,
    };
    if !enough {
        let need = sequence_blocks.saturating_mul(block);
        return Err(Diagnostic::new(
            Code::InsufficientRam,
            format!(
                "one sequence of {wanted} tokens takes {need} bytes of KV cache, which has {bytes}"
            ),
        )
        .hint("ask for a shorter context or a larger KV cache")
        .detail("need_bytes", need)
        .detail("kv_cache_bytes", bytes));
    }
    let context_length = u32::try_from(held.min(u64::from(wanted))).unwrap_or(wanted);
    Ok((context_length, blocks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::self_test::tiny_header;

    fn plan(
        context_length: Option<u32>,
        kv_cache_bytes: Option<u64>,
    ) -> Result<(u32, u32), Diagnostic> {
        let options = LoadOptions {
            context_length,
            kv_cache_bytes,
            ..LoadOptions::default()
        };
        plan_memory(&tiny_header(), &options)
    }

    #[test]
    fn the_default_cache_depends_on_the_memory() {
        let header = ModelHeader {
            context_length: 1 << 20,
            weight_bytes: 1 << 30,
            ..tiny_header()
        };
        let blocks = |memory: u64| {
            let options = LoadOptions {
                memory_bytes: Some(memory),
                ..LoadOptions::default()
            };
            plan_memory(&header, &options).map(|(_, blocks)| u64::from(blocks) * 8192)
        };
        // All eight sequences, a quarter of what is left, 1 GiB, half of what is left.
        assert_eq!(blocks(64 << 30).unwrap(), 4 << 30);
        assert_eq!(blocks(13 << 30).unwrap(), 3 << 30);
        assert_eq!(blocks(4 << 30).unwrap(), 1 << 30);
        assert_eq!(blocks(2 << 30).unwrap(), 512 << 20);
        let error = blocks(1 << 30).unwrap_err();
        assert_eq!(error.code, Code::InsufficientRam);
        assert!(error.message.contains("1073741824 can be had"), "{error}");
        assert!(error.message.contains("1073750016 bytes"), "{error}");
    }

    #[test]
    fn memory_and_context_limit_each_other() {
        // Two layers of 2 x 32 floats: 512 bytes a token, 8192 a block; the model has 64.
        assert_eq!(plan(None, None).unwrap(), (64, 32));
        assert_eq!(plan(Some(20), None).unwrap(), (20, 16));
        assert_eq!(plan(None, Some(3 * 8192 + 5)).unwrap(), (48, 3));
        assert_eq!(plan(Some(48), Some(3 * 8192)).unwrap(), (48, 3));
        let error = plan(Some(49), Some(3 * 8192)).unwrap_err();
        assert_eq!(error.code, Code::InsufficientRam);
        assert!(error.message.contains("32768"), "{error}");
        assert_eq!(
            plan(None, Some(8191)).unwrap_err().code,
            Code::InsufficientRam
        );
        for wrong in [0, 65] {
            assert_eq!(
                plan(Some(wrong), None).unwrap_err().code,
                Code::ConfigInvalid
            );
        }
    }
}
