use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    architecture::Architecture,
    encode::{encoded_bytes, write_weight},
    errors::writing,
    recipe::Recipe,
    tokenizer::{BEGIN, END, PADDING, SPECIAL, TEMPLATE, Vocabulary},
    weights::{Target, Weight, weights},
};

const ALIGNMENT: u64 = 32;
/// Token types in `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// Encoded metadata of a file.
#[derive(Default)]
struct Metadata {
    count: u64,
    bytes: Vec<u8>,
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Metadata {
    fn value(&mut self, key: &str, kind: u32, payload: &[u8]) {
        self.count += 1;
        self.bytes.extend(string(key));
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(payload);
    }

    fn number(&mut self, key: &str, number: usize) {
        self.value(key, 4, &(number as u32).to_le_bytes());
    }

    fn float(&mut self, key: &str, float: f32) {
        self.value(key, 6, &float.to_le_bytes());
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.value(key, 7, &[u8::from(value)]);
    }

    fn text(&mut self, key: &str, text: &str) {
        self.value(key, 8, &string(text));
    }

    fn array(&mut self, key: &str, kind: u32, items: impl ExactSizeIterator<Item = Vec<u8>>) {
        let mut payload = kind.to_le_bytes().to_vec();
        payload.extend((items.len() as u64).to_le_bytes());
        items.for_each(|item| payload.extend(item));
        self.value(key, 9, &payload);
    }
}

impl Recipe {
    /// Writes the model as a GGUF file, under a temporary name until it is complete.
    pub fn write_gguf(&self, path: &Path) -> Result<()> {
        self.sizes.check(self.architecture)?;
        let weights = weights(self.architecture, &self.sizes);
        self.write_part(path, &weights, self.gguf_metadata())
    }

    /// Writes the model as up to `count` GGUF files `NAME-00001-of-0000N.gguf` next to `path`,
    /// which is `NAME.gguf`. Returns their paths.
    pub fn write_gguf_parts(&self, path: &Path, count: usize) -> Result<Vec<PathBuf>> {
        self.sizes.check(self.architecture)?;
        let weights = weights(self.architecture, &self.sizes);
        let parts: Vec<&[Weight]> = weights.chunks(weights.len().div_ceil(count)).collect();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut paths = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let mut metadata = match number {
                0 => self.gguf_metadata(),
                _ => Metadata::default(),
            };
            metadata.value("split.no", 2, &(number as u16).to_le_bytes());
            metadata.value("split.count", 2, &(parts.len() as u16).to_le_bytes());
            let total = (weights.len() as i32).to_le_bytes();
            metadata.value("split.tensors.count", 5, &total);
            let name = format!("{stem}-{:05}-of-{:05}.gguf", number + 1, parts.len());
            let path = path.with_file_name(name);
            self.write_part(&path, part, metadata)?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// Writes a file with these weights, under a temporary name until it is complete.
    fn write_part(&self, path: &Path, weights: &[Weight], metadata: Metadata) -> Result<()> {
        let partial = path.with_extension("partial");
        self.write_part_to(&partial, weights, metadata)
            .with_context(writing(&partial))?;
        std::fs::rename(&partial, path).with_context(writing(path))
    }

    fn write_part_to(&self, path: &Path, weights: &[Weight], metadata: Metadata) -> Result<()> {
        let mut infos = Vec::new();
        let mut offset = 0_u64;
        for weight in weights {
            let kind = self.quantization.type_of(weight, &self.sizes);
            let shape = weight.gguf_shape();
            infos.extend(string(&weight.gguf));
            infos.extend((shape.len() as u32).to_le_bytes());
            for size in shape.iter().rev() {
                infos.extend((*size as u64).to_le_bytes());
            }
            infos.extend(kind.number().to_le_bytes());
            infos.extend(offset.to_le_bytes());
            offset += encoded_bytes(weight, Target::Gguf, kind).next_multiple_of(ALIGNMENT);
        }
        let mut out = BufWriter::new(File::create(path)?);
        let mut head = b"GGUF".to_vec();
        head.extend(3_u32.to_le_bytes());
        head.extend((weights.len() as u64).to_le_bytes());
        head.extend(metadata.count.to_le_bytes());
        head.extend(metadata.bytes);
        head.extend(infos);
        head.resize(head.len().next_multiple_of(ALIGNMENT as usize), 0);
        out.write_all(&head)?;
        for weight in weights {
            let kind = self.quantization.type_of(weight, &self.sizes);
            write_weight(weight, self.seed, Target::Gguf, kind, &mut out)?;
            let bytes = encoded_bytes(weight, Target::Gguf, kind);
            let padding = bytes.next_multiple_of(ALIGNMENT) - bytes;
            out.write_all(&vec![0; padding as usize])?;
        }
        out.flush()?;
        Ok(())
    }

    fn gguf_metadata(&self) -> Metadata {
        let (sizes, name) = (&self.sizes, self.architecture.gguf_name());
        let mut metadata = Metadata::default();
        metadata.text("general.architecture", name);
        metadata.text("general.type", "model");
        // llama.cpp expects certain tokens if the name contains a family.
        metadata.text("general.name", "random weights");
        if let Some(number) = self.quantization.file_type() {
            metadata.number("general.file_type", number as usize);
            metadata.number("general.quantization_version", 2);
        }
        for (key, number) in [
            ("block_count", sizes.layers),
            ("context_length", sizes.context),
            ("embedding_length", sizes.hidden),
            ("attention.head_count", sizes.heads),
            ("attention.head_count_kv", sizes.kv_heads),
            ("attention.key_length", sizes.head_dim),
            ("attention.value_length", sizes.head_dim),
            ("rope.dimension_count", sizes.head_dim),
            ("vocab_size", sizes.vocabulary),
        ] {
            metadata.number(&format!("{name}.{key}"), number);
        }
        metadata.float(
            &format!("{name}.attention.layer_norm_rms_epsilon"),
            sizes.epsilon,
        );
        metadata.float(&format!("{name}.rope.freq_base"), sizes.rope_theta);
        self.gguf_family_keys(&mut metadata, name);
        tokenizer_metadata(&mut metadata, &Vocabulary::new(sizes.vocabulary));
        metadata
    }

    /// Keys of the family.
    fn gguf_family_keys(&self, metadata: &mut Metadata, name: &str) {
        let (sizes, experts) = (&self.sizes, self.sizes.experts);
        if self.architecture != Architecture::Mixtral {
            metadata.number(&format!("{name}.feed_forward_length"), sizes.inner);
        }
        if self.architecture.has_experts() {
            metadata.number(&format!("{name}.expert_count"), experts.count);
            metadata.number(&format!("{name}.expert_used_count"), experts.used);
            // In GGUF, Llama has the same key for dense layers and experts.
            let key = match self.architecture {
                Architecture::Mixtral => "feed_forward_length",
                _ => "expert_feed_forward_length",
            };
            metadata.number(&format!("{name}.{key}"), experts.inner);
        }
        match self.architecture {
            Architecture::Gemma3 => {
                metadata.number(&format!("{name}.attention.sliding_window"), sizes.window);
            }
            Architecture::Phi3 => {
                metadata.number(&format!("{name}.attention.sliding_window"), 0);
                metadata.number(
                    &format!("{name}.rope.scaling.original_context_length"),
                    sizes.context,
                );
            }
            _ => {}
        }
    }
}

fn tokenizer_metadata(metadata: &mut Metadata, vocabulary: &Vocabulary) {
    let tokens = &vocabulary.tokens;
    metadata.text("tokenizer.ggml.model", "gpt2");
    metadata.text("tokenizer.ggml.pre", "gpt-2");
    metadata.array("tokenizer.ggml.tokens", 8, tokens.iter().map(|t| string(t)));
    let kinds = (0..tokens.len()).map(|id| {
        let kind = if id < SPECIAL.len() { CONTROL } else { NORMAL };
        kind.to_le_bytes().to_vec()
    });
    metadata.array("tokenizer.ggml.token_type", 5, kinds);
    let merges = vocabulary.merges.iter();
    metadata.array(
        "tokenizer.ggml.merges",
        8,
        merges.map(|(left, right)| string(&format!("{left} {right}"))),
    );
    for (key, id) in [("bos", BEGIN), ("eos", END), ("padding", PADDING)] {
        metadata.number(&format!("tokenizer.ggml.{key}_token_id"), id as usize);
    }
    metadata.bool("tokenizer.ggml.add_bos_token", false);
    metadata.text("tokenizer.chat_template", TEMPLATE);
}
