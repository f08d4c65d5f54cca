//! Reads the headers of weights by range requests.

use std::{collections::BTreeMap, path::Path};

use diagnostics::Diagnostic;
use file_transfer::RemoteFile;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use model_format::{
    Gguf, GgufFile, ModelHeader, Prefix, Safetensors, SafetensorsTensor, about_file,
    describe_safetensors, header_from_config, parse_gguf_parts, text_tensor_name,
};

use crate::{
    EngineCheck, errors,
    http::{Http, Reply},
};

/// Bytes that are read first: the headers of most models fit.
const FIRST_BYTES: u64 = 1 << 20;
/// Maximum size of a header. The largest vocabularies take some 20 MB.
const MAX_HEADER_BYTES: u64 = 128 << 20;
/// Number of files whose headers are read at the same time.
const PARALLEL_READS: usize = 4;

/// A file whose header is read.
pub(crate) struct Weights {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) remote: RemoteFile,
}

/// Turns a response that is not a success into an error.
pub(crate) type CheckReply<'a> = &'a (dyn Fn(&Reply) -> Result<(), Diagnostic> + Sync);

/// Reads the header of a model in GGUF files, which are the parts of the model in order. Refuses a
/// model that no engine runs.
pub(crate) async fn gguf(
    http: &Http,
    check: CheckReply<'_>,
    parts: Vec<Weights>,
    engines: &EngineCheck,
) -> Result<ModelHeader, Diagnostic> {
    let heads = parts.into_iter().map(|part| async move {
        let head = gguf_head(http, check, &part).await?;
        Ok::<_, Diagnostic>((part, head))
    });
    let heads: Vec<_> = stream::iter(heads)
        .buffered(PARALLEL_READS)
        .try_collect()
        .await?;
    let engines = engines.clone();
    blocking(move || {
        let files: Vec<_> = heads
            .iter()
            .map(|(part, head)| GgufFile {
                path: Path::new(&part.path),
                head,
                length: part.size,
            })
            .collect();
        let gguf = parse_gguf_parts(&files)?;
        let header = ModelHeader::from_gguf(&gguf)?;
        engines.check(&header)?;
        Ok(header)
    })
    .await
}

/// Reads the beginning of a GGUF file that contains its header.
async fn gguf_head(
    http: &Http,
    check: CheckReply<'_>,
    part: &Weights,
) -> Result<Vec<u8>, Diagnostic> {
    let (mut head, mut target) = (Vec::new(), FIRST_BYTES.min(part.size));
    loop {
        let from = head.len() as u64;
        let more = read(http, check, part, from, target).await?;
        head.extend_from_slice(&more);
        let (size, path) = (part.size, part.path.clone());
        let (returned, needed) = blocking(move || {
            let parsed = Gguf::parse_prefix(&head, size).map(|prefix| match prefix {
                Prefix::Complete(_) => None,
                Prefix::Needs(bytes) => Some(bytes),
            });
            let needed = parsed.map_err(|error| about_file(error, Path::new(&path)))?;
            Ok((head, needed))
        })
        .await?;
        head = returned;
        let Some(needed) = needed else {
            return Ok(head);
        };
        if needed > MAX_HEADER_BYTES {
            return Err(errors::header_too_large(
                &part.path,
                needed,
                MAX_HEADER_BYTES,
            ));
        }
        target = needed.max(2 * target).min(MAX_HEADER_BYTES).min(part.size);
    }
}

/// Reads the header of a model in safetensors files. Refuses a model that no engine runs.
pub(crate) async fn safetensors(
    http: &Http,
    check: CheckReply<'_>,
    shards: Vec<Weights>,
    config: Vec<u8>,
    generation_config: Option<Vec<u8>>,
    engines: &EngineCheck,
) -> Result<ModelHeader, Diagnostic> {
    // Before the headers of many files are read.
    let (first, known) = (engines.clone(), config.clone());
    blocking(move || first.check(&header_from_config(&known, &BTreeMap::new())?)).await?;
    let reads = shards
        .into_iter()
        .map(|shard| shard_tensors(http, check, shard));
    let all: Vec<_> = stream::iter(reads)
        .buffered(PARALLEL_READS)
        .try_collect()
        .await?;
    let engines = engines.clone();
    blocking(move || {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in all.into_iter().flatten() {
            tensors.extend(text_tensor_name(&name).map(|name| (name, tensor)));
        }
        let header = describe_safetensors(&config, generation_config.as_deref(), &tensors)?;
        engines.check(&header)?;
        Ok(header)
    })
    .await
}

async fn shard_tensors(
    http: &Http,
    check: CheckReply<'_>,
    shard: Weights,
) -> Result<BTreeMap<String, SafetensorsTensor>, Diagnostic> {
    let about = |error| about_file(error, Path::new(&shard.path));
    let mut head = read(http, check, &shard, 0, FIRST_BYTES.min(shard.size)).await?;
    let length = Safetensors::header_length(&head, shard.size).map_err(about)?;
    if length > head.len() as u64 {
        let more = read(http, check, &shard, head.len() as u64, length).await?;
        head.extend_from_slice(&more);
    }
    let (size, path) = (shard.size, shard.path.clone());
    blocking(move || {
        let parsed = Safetensors::parse_header(&head, size);
        let parsed = parsed.map_err(|error| about_file(error, Path::new(&path)))?;
        Ok(parsed.tensors().clone())
    })
    .await
}

async fn read(
    http: &Http,
    check: CheckReply<'_>,
    file: &Weights,
    from: u64,
    to: u64,
) -> Result<Vec<u8>, Diagnostic> {
    if from >= to {
        return Ok(Vec::new());
    }
    let reply = http.read(&file.remote, from..to).await?;
    check(&reply)?;
    if (reply.body.len() as u64) < to - from {
        return Err(errors::shorter_than_listed(&file.path, file.size));
    }
    Ok(reply.body.into())
}

/// Runs a computation that takes a while on a thread for such.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Diagnostic> + Send + 'static,
) -> Result<T, Diagnostic> {
    let task = tokio::task::spawn_blocking(work).await;
    task.map_err(|error| Diagnostic::internal(format!("reading a header failed: {error}")))?
}
