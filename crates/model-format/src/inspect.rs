use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use diagnostics::{Code, Diagnostic, escape};
use serde::Deserialize;

use crate::{
    about_file, config::header_from_config, family::text_tensor_name, gguf::Gguf,
    header::ModelHeader, safetensors::Safetensors,
};

/// Largest JSON file of a model folder that is read.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// First piece of a GGUF file that is tried as its header.
const FIRST_PIECE_BYTES: u64 = 1 << 20;
/// Largest GGUF header that is read.
const MAX_GGUF_HEADER_BYTES: u64 = 512 << 20;

const INDEX_HINT: &str = "the index is damaged or was made by a faulty converter: fetch it again";

/// What the model at `path` is: a `.gguf` file, or a folder with `config.json` and
/// safetensors. Reads headers only, whatever the size of the weights.
///
/// Errors: `MODEL_NOT_FOUND`, `INVALID_MODEL_FILE`, `UNSUPPORTED_QUANTIZATION`; the message
/// begins with the file.
pub fn inspect(path: &Path) -> Result<ModelHeader, Diagnostic> {
    let metadata = std::fs::metadata(path).map_err(|e| io_error(path, &e))?;
    if metadata.is_dir() {
        inspect_folder(path)
    } else {
        inspect_gguf(path)
    }
}

fn inspect_gguf(path: &Path) -> Result<ModelHeader, Diagnostic> {
    let (mut file, file_length) = open(path)?;
    let mut head = Vec::new();
    let mut wanted = FIRST_PIECE_BYTES;
    loop {
        let missing = wanted - head.len() as u64;
        read_more(&mut file, &mut head, missing, path)?;
        let all = (head.len() as u64) < wanted || wanted >= MAX_GGUF_HEADER_BYTES;
        // A magic that is wrong does not become right with more bytes.
        let hopeless = !head.starts_with(b"GGUF");
        match Gguf::parse_header(&head, file_length) {
            Ok(gguf) => {
                return ModelHeader::from_gguf(&gguf).map_err(|e| about_file(e, path));
            }
            Err(error) if all || hopeless => return Err(about_file(error, path)),
            Err(_) => wanted *= 2,
        }
    }
}

fn inspect_folder(folder: &Path) -> Result<ModelHeader, Diagnostic> {
    let config_path = folder.join("config.json");
    let config = read_limited(&config_path)?;
    let mut tensors = BTreeMap::new();
    for path in shard_files(folder)? {
        let header = read_safetensors_header(&path)?;
        for (name, info) in header.tensors() {
            tensors.extend(text_tensor_name(name).map(|name| (name, info.clone())));
        }
    }
    header_from_config(&config, &tensors).map_err(|e| about_file(e, &config_path))
}

fn read_safetensors_header(path: &Path) -> Result<Safetensors, Diagnostic> {
    let (mut file, file_length) = open(path)?;
    let mut head = Vec::new();
    read_more(&mut file, &mut head, 8, path)?;
    let length = Safetensors::header_length(&head, file_length).map_err(|e| about_file(e, path))?;
    read_more(&mut file, &mut head, length - 8, path)?;
    Safetensors::parse_header(&head, file_length).map_err(|e| about_file(e, path))
}

/// Appends up to `count` bytes of the file.
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

/// The safetensors files of a model folder, in order: those that
/// `model.safetensors.index.json` names, or `model.safetensors`.
pub fn shard_files(folder: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let index_path = folder.join("model.safetensors.index.json");
    if !index_path.exists() {
        let single = folder.join("model.safetensors");
        if single.exists() {
            return Ok(vec![single]);
        }
        return Err(Diagnostic::new(
            Code::ModelNotFound,
            format!(
                "{} holds neither `model.safetensors` nor `model.safetensors.index.json`",
                escape(&folder.display().to_string())
            ),
        )
        .hint(
            "give a GGUF file, or a folder with `config.json`, `tokenizer.json` and safetensors",
        ));
    }
    let json = read_limited(&index_path)?;
    let index: Index = serde_json::from_slice(&json).map_err(|e| {
        let error = Diagnostic::new(
            Code::InvalidModelFile,
            format!("the index is not the JSON expected: {e}"),
        )
        .hint(INDEX_HINT);
        about_file(error, &index_path)
    })?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    // A name with a path in it would reach files outside the model's folder.
    if let Some(bad) = names
        .iter()
        .find(|n| Path::new(n).file_name().is_none_or(|f| f != n.as_str()))
    {
        let error = Diagnostic::new(
            Code::InvalidModelFile,
            format!(
                "the index names `{}`, which is not a file of the folder",
                escape(bad)
            ),
        )
        .hint(INDEX_HINT);
        return Err(about_file(error, &index_path));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// The content of a small file of a model folder; refuses one of more than 64 MiB.
pub fn read_limited(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let (mut file, _) = open(path)?;
    let mut content = Vec::new();
    read_more(&mut file, &mut content, MAX_JSON_BYTES + 1, path)?;
    if content.len() as u64 > MAX_JSON_BYTES {
        let error = Diagnostic::new(
            Code::InvalidModelFile,
            format!("the file has more than {MAX_JSON_BYTES} bytes"),
        );
        return Err(about_file(error, path));
    }
    Ok(content)
}

fn open(path: &Path) -> Result<(File, u64), Diagnostic> {
    // Opening a pipe would block, reading a device might never end.
    let metadata = std::fs::metadata(path).map_err(|e| io_error(path, &e))?;
    if !metadata.is_file() {
        let error = Diagnostic::new(Code::InvalidModelFile, "not a regular file");
        return Err(about_file(error, path));
    }
    let file = File::open(path).map_err(|e| io_error(path, &e))?;
    Ok((file, metadata.len()))
}

fn io_error(path: &Path, error: &std::io::Error) -> Diagnostic {
    let path = escape(&path.display().to_string());
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Diagnostic::new(Code::ModelNotFound, format!("{path} does not exist"))
                .hint("check the path of the model")
        }
        _ => Diagnostic::new(
            Code::StateUnusable,
            format!("{path} cannot be read: {error}"),
        )
        .hint("check the permissions of the file"),
    }
}
