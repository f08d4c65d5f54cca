use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use serde::Deserialize;

use crate::{
    config::header_from_config,
    errors::{self, about_file, io_error},
    family::text_tensor_name,
    gguf::{Gguf, Prefix},
    header::ModelHeader,
    metadata::{ModelMetadata, document},
    recommended::RecommendedSampling,
    safetensors::Safetensors,
    split::{GgufFile, gguf_parts, parse_gguf_parts},
};

/// Maximum size of a JSON file in a model directory.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// Initial number of bytes read to parse a GGUF header.
const INITIAL_BYTES: u64 = 1 << 20;
/// Maximum size of a GGUF header.
const MAX_GGUF_HEADER_BYTES: u64 = 512 << 20;

/// Describes the model at `path`: a `.gguf` file, or a directory with `config.json` and
/// safetensors files. Reads headers only.
///
/// Errors: `MODEL_NOT_FOUND`, `INVALID_MODEL_FILE`, `UNSUPPORTED_QUANTIZATION`; the message
/// starts with the path of the file.
pub fn inspect(path: &Path) -> Result<ModelHeader, Diagnostic> {
    let metadata = std::fs::metadata(path).map_err(|e| io_error(path, &e))?;
    if metadata.is_dir() {
        inspect_directory(path)
    } else {
        read_gguf(path, ModelHeader::from_gguf)
    }
}

/// Describes the model at `path` as [`inspect`] does, and returns its metadata.
pub fn describe(path: &Path) -> Result<(ModelHeader, ModelMetadata), Diagnostic> {
    let metadata = std::fs::metadata(path).map_err(|e| io_error(path, &e))?;
    if !metadata.is_dir() {
        return read_gguf(path, |gguf| {
            let header = ModelHeader::from_gguf(gguf)?;
            let metadata = ModelMetadata::from_gguf(gguf, &header);
            Ok((header, metadata))
        });
    }
    let header = inspect_directory(path)?;
    let mut metadata = ModelMetadata::from_header(&header);
    let read = |name: &str| read_limited(&path.join(name)).ok();
    let configured = || {
        let config: serde_json::Value =
            serde_json::from_slice(&read("tokenizer_config.json")?).ok()?;
        document(config.get("chat_template")?.as_str()?.as_bytes())
    };
    metadata.template = read("chat_template.jinja")
        .and_then(|template| document(&template))
        .or_else(configured);
    metadata.license = read("LICENSE").and_then(|license| document(&license));
    Ok((header, metadata))
}

fn read_gguf<T>(
    path: &Path,
    read: impl FnOnce(&Gguf<'_>) -> Result<T, Diagnostic>,
) -> Result<T, Diagnostic> {
    let paths = gguf_parts(path)?;
    let heads = paths
        .iter()
        .map(|path| read_gguf_header(path))
        .collect::<Result<Vec<_>, _>>()?;
    let files: Vec<GgufFile<'_>> = paths
        .iter()
        .zip(&heads)
        .map(|(path, (head, length))| GgufFile {
            path,
            head,
            length: *length,
        })
        .collect();
    let gguf = parse_gguf_parts(&files)?;
    read(&gguf).map_err(|e| about_file(e, path))
}

/// Returns the beginning of a file that contains its header, and the size of the file.
fn read_gguf_header(path: &Path) -> Result<(Vec<u8>, u64), Diagnostic> {
    let (mut file, file_length) = open(path)?;
    let mut head = Vec::new();
    let mut target = INITIAL_BYTES;
    loop {
        let missing = target.saturating_sub(head.len() as u64);
        read_more(&mut file, &mut head, missing, path)?;
        // The file may have become shorter.
        let read = head.len() as u64;
        let file_length = if read < target { read } else { file_length };
        match Gguf::parse_prefix(&head, file_length) {
            Ok(Prefix::Complete(_)) => return Ok((head, file_length)),
            Ok(Prefix::Needs(bytes)) if bytes <= MAX_GGUF_HEADER_BYTES => {
                target = bytes.max(2 * target).min(MAX_GGUF_HEADER_BYTES);
            }
            Ok(Prefix::Needs(bytes)) => {
                return Err(about_file(
                    errors::gguf_header_too_long(bytes, MAX_GGUF_HEADER_BYTES),
                    path,
                ));
            }
            Err(error) => return Err(about_file(error, path)),
        }
    }
}

fn inspect_directory(directory: &Path) -> Result<ModelHeader, Diagnostic> {
    let config_path = directory.join("config.json");
    let config = read_limited(&config_path)?;
    let mut tensors = BTreeMap::new();
    for path in shard_files(directory)? {
        let header = read_safetensors_header(&path)?;
        for (name, info) in header.tensors() {
            tensors.extend(text_tensor_name(name).map(|name| (name, info.clone())));
        }
    }
    let mut header =
        header_from_config(&config, &tensors).map_err(|e| about_file(e, &config_path))?;
    header.sampling = recommended_sampling(directory);
    Ok(header)
}

fn read_safetensors_header(path: &Path) -> Result<Safetensors, Diagnostic> {
    let (mut file, file_length) = open(path)?;
    let mut head = Vec::new();
    read_more(&mut file, &mut head, 8, path)?;
    let length = Safetensors::header_length(&head, file_length).map_err(|e| about_file(e, path))?;
    read_more(&mut file, &mut head, length - 8, path)?;
    Safetensors::parse_header(&head, file_length).map_err(|e| about_file(e, path))
}

/// Appends up to `count` bytes of the file to `into`.
fn read_more(
    file: &mut File,
    into: &mut Vec<u8>,
    count: u64,
    path: &Path,
) -> Result<(), Diagnostic> {
    match file.take(count).read_to_end(into) {
        Ok(_) => Ok(()),
        Err(error) => Err(io_error(path, &error)),
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Returns the safetensors files of a model directory, sorted: those named by
/// `model.safetensors.index.json`, or `model.safetensors`.
pub fn shard_files(directory: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let index_path = directory.join("model.safetensors.index.json");
    if !index_path.exists() {
        let single = directory.join("model.safetensors");
        if single.exists() {
            return Ok(vec![single]);
        }
        return Err(errors::no_safetensors(directory));
    }
    let names =
        index_shards(&read_limited(&index_path)?).map_err(|e| about_file(e, &index_path))?;
    Ok(names.iter().map(|name| directory.join(name)).collect())
}

/// Returns the names of the safetensors files that a `model.safetensors.index.json` lists, sorted.
///
/// Errors: `INVALID_MODEL_FILE` if it is damaged, or names a file of another directory.
pub fn index_shards(json: &[u8]) -> Result<BTreeSet<String>, Diagnostic> {
    let index: Index = serde_json::from_slice(json).map_err(|e| errors::index_json(&e))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    // A name that contains a path would refer to a file outside the directory.
    if let Some(bad) = names
        .iter()
        .find(|n| Path::new(n).file_name().is_none_or(|f| f != n.as_str()))
    {
        return Err(errors::file_outside_directory(bad));
    }
    Ok(names)
}

/// Reads the sampling parameters that `generation_config.json` of a model directory recommends,
/// if there is one.
pub fn recommended_sampling(directory: &Path) -> RecommendedSampling {
    let path = directory.join("generation_config.json");
    if !path.exists() {
        return RecommendedSampling::default();
    }
    match read_limited(&path) {
        Ok(json) => RecommendedSampling::from_config(&json),
        Err(error) => RecommendedSampling {
            values: Vec::new(),
            ignored: vec![error.message],
        },
    }
}

/// Reads a small file of a model directory; rejects files larger than 64 MiB.
pub fn read_limited(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let (mut file, _) = open(path)?;
    let mut content = Vec::new();
    read_more(&mut file, &mut content, MAX_JSON_BYTES + 1, path)?;
    if content.len() as u64 > MAX_JSON_BYTES {
        return Err(errors::file_too_large(path, MAX_JSON_BYTES));
    }
    Ok(content)
}

fn open(path: &Path) -> Result<(File, u64), Diagnostic> {
    // Opening a pipe blocks, and reading a device may never end.
    let metadata = std::fs::metadata(path).map_err(|e| io_error(path, &e))?;
    if !metadata.is_file() {
        return Err(errors::not_a_regular_file(path));
    }
    let file = File::open(path).map_err(|e| io_error(path, &e))?;
    Ok((file, metadata.len()))
}
