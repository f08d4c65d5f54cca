use std::{collections::BTreeMap, path::Path, sync::Arc};

use cpu_kernels::Threads;
use diagnostics::Diagnostic;
use inference_execution::ModelDescription;
use model_format::{
    GgufFile, KvType, MemoryNeeds, ModelHeader, RecommendedSampling, Safetensors, WeightFormat,
    about_file, family_of_config, gguf_parts, header_from_config, parse_gguf_parts, read_limited,
    recommended_sampling, shard_files, text_tensor_name,
};
use text_codec::Codec;
use worker_contract::SamplingValues;

use crate::{
    architecture::Architecture,
    cpu::CpuBackend,
    device::ComputeDevice,
    engine::{AnyBackend, CandleEngine},
    errors,
    fused_tensors::split_fused_tensors,
    kv::{CpuKv, KvShape, TensorKv},
    mapping::Mapping,
    model::Transformer,
    plan::BLOCK_TOKENS,
    pooling,
    tensors::TensorBackend,
    weights::{RawTensors, Weights, gguf_tensors, safetensors_tensors},
};

/// Bytes of weights loaded between releases of file pages.
const RELEASE_EVERY: u64 = 16 << 20;

/// Options of [`load`].
#[derive(Default)]
pub struct LoadOptions {
    /// Maximum sequence length in tokens. `None`: the context length of the model, limited by the
    /// KV cache. Models with rotary factors for short and long contexts (Phi-3) select them by
    /// this length, not by the length of each sequence.
    pub context_length: Option<u32>,
    /// Size of the KV cache in bytes, allocated on first use, or at once on a GPU. `None`: room for 8 sequences of full
    /// length, limited by the memory ([`MemoryNeeds::default_kv_bytes`]), and for one sequence of
    /// `context_length` at least.
    pub kv_cache_bytes: Option<u64>,
    /// Available memory of the device in bytes, which weights and KV cache must not exceed.
    /// `None`: unknown.
    pub memory_bytes: Option<u64>,
    pub device: ComputeDevice,
    /// Number of compute threads. `None`: the parallelism available to this process.
    pub threads: Option<usize>,
    /// Called during loading with the bytes of weights loaded and the total.
    pub progress: Option<Box<dyn FnMut(u64, u64) + Send>>,
}

pub struct LoadedModel {
    pub engine: CandleEngine,
    /// Tokenizer and chat template.
    pub codec: Codec,
    /// Sentences about what is ignored in the files.
    pub warnings: Vec<String>,
}

/// Loads the model at `path`: a `.gguf` file, or a Hugging Face directory with safetensors files.
///
/// Errors: `MODEL_NOT_FOUND`; `INVALID_MODEL_FILE` for damaged or incomplete files;
/// `UNSUPPORTED_MODEL` and `UNSUPPORTED_QUANTIZATION`, which list what is supported;
/// `INSUFFICIENT_RAM`, or `INSUFFICIENT_VRAM` on a GPU, if the weights and the KV cache exceed the memory, or if the KV cache is too
/// small for one sequence; `CONFIG_INVALID` for a context length that the model does not support.
pub fn load(path: &Path, mut options: LoadOptions) -> Result<LoadedModel, Diagnostic> {
    if path.is_dir() {
        load_directory(path, &mut options)
    } else {
        load_gguf(path, &mut options)
    }
    .map_err(|error| with_path(error, path))
}

/// Adds the path of the model to errors that name no file.
fn with_path(error: Diagnostic, path: &Path) -> Diagnostic {
    if error.message.contains(&*path.to_string_lossy()) {
        error
    } else {
        about_file(error, path)
    }
}

fn load_gguf(path: &Path, options: &mut LoadOptions) -> Result<LoadedModel, Diagnostic> {
    let paths = gguf_parts(path)?;
    let mappings = paths
        .iter()
        .map(|path| Mapping::open(path).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    release_while_loading(options, mappings.clone());
    let files = paths.iter().zip(&mappings).map(|(path, mapping)| GgufFile {
        path,
        head: mapping.bytes(),
        length: mapping.bytes().len() as u64,
    });
    let gguf = parse_gguf_parts(&files.collect::<Vec<_>>())?;
    // Checked first: files of other families lack keys, which would be reported instead.
    Architecture::named(gguf.architecture()?, WeightFormat::Gguf)?;
    gguf.check_types()?;
    let header = ModelHeader::from_gguf(&gguf)?;
    let codec = Codec::from_gguf(&gguf)?;
    codec.check_fits(header.vocab_size as usize)?;
    let pooling = pooling::from_gguf(&gguf, &header.architecture)?;
    let engine = build(&header, gguf_tensors(&gguf)?, options)?.with_pooling(pooling);
    Ok(LoadedModel {
        engine,
        codec,
        warnings: warnings(&header),
    })
}

fn load_directory(directory: &Path, options: &mut LoadOptions) -> Result<LoadedModel, Diagnostic> {
    let config_path = directory.join("config.json");
    let config = read_limited(&config_path)?;
    if let Some(family) = family_of_config(&config) {
        Architecture::named(&family, WeightFormat::Safetensors)?;
    }
    let mut shards = Vec::new();
    for path in shard_files(directory)? {
        let mapping = Arc::new(Mapping::open(&path)?);
        let header = Safetensors::parse_header(mapping.bytes(), mapping.bytes().len() as u64)
            .and_then(|header| header.check_types().map(|()| header))
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
    let mut header =
        header_from_config(&config, &infos).map_err(|e| about_file(e, &config_path))?;
    header.sampling = recommended_sampling(directory);
    let codec = Codec::from_dir(directory)?;
    codec.check_fits(header.vocab_size as usize)?;
    let pooling = pooling::from_directory(directory)?;
    let engine = build(&header, tensors, options)?.with_pooling(pooling);
    Ok(LoadedModel {
        engine,
        codec,
        warnings: warnings(&header),
    })
}

/// Returns sentences about recommended sampling parameters that are ignored.
fn warnings(header: &ModelHeader) -> Vec<String> {
    let RecommendedSampling { values, ignored } = &header.sampling;
    let (_, invalid) = SamplingValues::recommended(values);
    ignored.iter().cloned().chain(invalid).collect()
}

/// Wraps the progress callback so that it also releases file pages that were read: weights are
/// packed into separate memory.
fn release_while_loading(options: &mut LoadOptions, files: Vec<Arc<Mapping>>) {
    let mut report = options.progress.take();
    let mut released = 0;
    options.progress = Some(Box::new(move |done, total| {
        if done >= released + RELEASE_EVERY || done == total {
            released = done;
            for file in &files {
                file.release();
            }
        }
        if let Some(report) = &mut report {
            report(done, total);
        }
    }));
}

/// Builds an engine from the header and the tensors of a model.
pub(crate) fn build(
    header: &ModelHeader,
    tensors: RawTensors<'_>,
    options: &mut LoadOptions,
) -> Result<CandleEngine, Diagnostic> {
    let (context_length, blocks) = plan_memory(header, options)?;
    let device = options.device.clone();
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
    let tensors = split_fused_tensors(tensors, header, architecture)?;
    let weights = Weights::new(tensors, names, device.clone(), threads.clone(), progress);
    let model = Transformer::new(header, context_length, weights)?;
    let kv = kv_shape(header);
    let backend = if device.is_packed() {
        AnyBackend::Cpu(CpuBackend::new(threads, CpuKv::new(kv, blocks)))
    } else {
        let device = device.candle();
        let kv = TensorKv::new(kv, blocks, &device).map_err(|e| errors::kv_cache(&e))?;
        // What is wrong with the device is reported now, not by the first step.
        device.synchronize().map_err(|e| errors::kv_cache(&e))?;
        AnyBackend::Tensors(TensorBackend::new(device, kv))
    };
    let description = ModelDescription {
        architecture: header.architecture.clone(),
        layers: header.layers,
        vocab_size: header.vocab_size,
        context_length,
        quantization: header.quantization.clone(),
        weight_bytes: header.weight_bytes,
        parameters: header.parameters,
        sampling: SamplingValues::recommended(&header.sampling.values).0,
    };
    Ok(CandleEngine::new(description, model, backend))
}

pub(crate) fn kv_shape(header: &ModelHeader) -> KvShape {
    KvShape {
        layers: header.layers,
        heads: header.kv_heads,
        width: header.head_dim,
    }
}

/// Returns the parallelism that CPU affinity and cgroup quota leave to this process.
fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns the maximum sequence length in tokens and the number of blocks of the KV cache.
fn plan_memory(header: &ModelHeader, options: &LoadOptions) -> Result<(u32, u32), Diagnostic> {
    let trained = header.context_length;
    let requested = options.context_length.unwrap_or(trained);
    if requested == 0 || requested > trained {
        return Err(errors::context_length(requested, trained));
    }
    let block = kv_shape(header).block_bytes();
    let sequence_blocks = u64::from(requested.div_ceil(BLOCK_TOKENS));
    let left = options
        .memory_bytes
        .map(|bytes| bytes.saturating_sub(header.weight_bytes));
    let needs = MemoryNeeds::new(header, KvType::OF_ENGINE);
    let mut default_bytes = needs.default_kv_bytes(requested, options.memory_bytes);
    if options.context_length.is_some() {
        default_bytes = default_bytes.max(sequence_blocks.saturating_mul(block));
    }
    let bytes = options.kv_cache_bytes.unwrap_or(default_bytes);
    let blocks = u32::try_from(bytes / block).unwrap_or(u32::MAX / BLOCK_TOKENS);
    let capacity = u64::from(blocks) * u64::from(BLOCK_TOKENS);
    if let (Some(memory), Some(left)) = (options.memory_bytes, left)
        && left < bytes.max(block)
    {
        let needed = header.weight_bytes.saturating_add(bytes.max(block));
        let of_device = options.device.is_gpu();
        let weights = header.weight_bytes;
        return Err(errors::model_memory(needed, weights, memory, of_device));
    }
    let is_enough = match options.context_length {
        Some(requested) => capacity >= u64::from(requested),
        None => blocks > 0,
    };
    if !is_enough {
        let needed = sequence_blocks.saturating_mul(block);
        let of_device = options.device.is_gpu();
        return Err(errors::kv_cache_memory(requested, needed, bytes, of_device));
    }
    let context_length = u32::try_from(capacity.min(u64::from(requested))).unwrap_or(requested);
    Ok((context_length, blocks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny_models::llama_header;
    use diagnostics::Code;

    fn plan(
        context_length: Option<u32>,
        kv_cache_bytes: Option<u64>,
    ) -> Result<(u32, u32), Diagnostic> {
        let options = LoadOptions {
            context_length,
            kv_cache_bytes,
            ..LoadOptions::default()
        };
        plan_memory(&llama_header(), &options)
    }

    #[test]
    fn predicted_memory_is_that_of_the_cache() {
        assert_eq!(model_format::KV_BLOCK_TOKENS, BLOCK_TOKENS);
        for (kv_heads, head_dim) in [(1, 16), (2, 64), (4, 80), (8, 100), (3, 128)] {
            let header = ModelHeader {
                kv_heads,
                head_dim,
                ..llama_header()
            };
            let needs = MemoryNeeds::new(&header, KvType::OF_ENGINE);
            assert_eq!(
                needs.kv_bytes_per_token * u64::from(BLOCK_TOKENS),
                kv_shape(&header).block_bytes(),
                "{kv_heads} heads of {head_dim}"
            );
            // What fits by prediction is what the engine accepts.
            let plan = |memory| {
                let options = LoadOptions {
                    kv_cache_bytes: Some(memory),
                    ..LoadOptions::default()
                };
                plan_memory(&header, &options)
                    .ok()
                    .map(|(tokens, _)| tokens)
            };
            let block = kv_shape(&header).block_bytes();
            for memory in [0, block - 1, block, 2 * block + 1, 1 << 30] {
                assert_eq!(needs.context_in(memory), plan(memory), "{memory}");
            }
        }
    }

    #[test]
    fn default_kv_cache_depends_on_available_memory() {
        let header = ModelHeader {
            context_length: 1 << 20,
            weight_bytes: 1 << 30,
            ..llama_header()
        };
        let blocks = |memory: u64| {
            let options = LoadOptions {
                memory_bytes: Some(memory),
                ..LoadOptions::default()
            };
            plan_memory(&header, &options).map(|(_, blocks)| u64::from(blocks) * 8192)
        };
        // All eight sequences, a quarter of the memory left, 1 GiB, half of the memory left.
        assert_eq!(blocks(64 << 30).unwrap(), 4 << 30);
        assert_eq!(blocks(13 << 30).unwrap(), 3 << 30);
        assert_eq!(blocks(4 << 30).unwrap(), 1 << 30);
        assert_eq!(blocks(2 << 30).unwrap(), 512 << 20);
        let error = blocks(1 << 30).unwrap_err();
        assert_eq!(error.code, Code::InsufficientRam);
        assert!(
            error.message.contains("only 1073741824 are available"),
            "{error}"
        );
        assert!(error.message.contains("needs 1073750016 bytes"), "{error}");
    }

    #[test]
    fn a_requested_context_has_its_room_whatever_share_it_takes() {
        let header = ModelHeader {
            context_length: 1 << 24,
            weight_bytes: 1 << 30,
            ..llama_header()
        };
        // 2.5 GiB of KV cache.
        let tokens = 5 << 20;
        let plan = |memory: u64| {
            let options = LoadOptions {
                context_length: Some(tokens),
                memory_bytes: Some(memory),
                ..LoadOptions::default()
            };
            plan_memory(&header, &options)
        };
        assert_eq!(plan(4 << 30).unwrap(), (tokens, tokens / BLOCK_TOKENS));
        let error = plan(3 << 30).unwrap_err();
        assert_eq!(error.code, Code::InsufficientRam);
        assert!(error.message.contains("needs 3758096384 bytes"), "{error}");
    }

    #[test]
    fn a_device_without_memory_is_named() {
        let error = |text: &str| errors::kv_cache(&candle_core::Error::Msg(text.into())).code;
        assert_eq!(error("CUDA_ERROR_OUT_OF_MEMORY"), Code::InsufficientVram);
        assert_eq!(error("shape mismatch"), Code::Internal);
    }

    #[test]
    fn kv_cache_and_context_limit_each_other() {
        // Two layers of 2 x 32 floats: 512 bytes per token, 8192 per block. The model supports 64
        // tokens.
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
