use std::{collections::BTreeMap, path::Path, sync::Arc};

use cpu_kernels::Threads;
use diagnostics::Diagnostic;
use inference_execution::ModelDescription;
use model_format::{
    GgufFile, ModelHeader, RecommendedSampling, Safetensors, WeightFormat, about_file,
    family_of_config, gguf_parts, header_from_config, parse_gguf_parts, read_limited,
    recommended_sampling, shard_files, text_tensor_name,
};
use text_codec::Codec;
use worker_contract::SamplingValues;

use crate::{
    architecture::Architecture,
    cpu::CpuBackend,
    engine::{AnyBackend, CandleEngine},
    errors,
    fused_tensors::split_fused_tensors,
    kv::{CpuKv, TensorKv},
    mapping::Mapping,
    memory::{kv_shape, plan_memory},
    model::Transformer,
    options::LoadOptions,
    pooling,
    tensors::TensorBackend,
    weights::{RawTensors, Weights, gguf_tensors, safetensors_tensors},
};

/// Bytes of weights loaded between releases of file pages.
const RELEASE_EVERY: u64 = 16 << 20;

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

/// Returns the parallelism that CPU affinity and cgroup quota leave to this process.
fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
