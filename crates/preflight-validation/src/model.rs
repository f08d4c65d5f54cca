use input_validation::{Backend, ModelRef};
use model_format::{KvType, MemoryNeeds, ModelHeader};

/// Prompt tokens that are computed at a time, at most.
const STEP_TOKENS: u64 = 512;
/// Bytes per token of the vocabulary that tokenizer and logits take.
const VOCABULARY_BYTES: u64 = 256;
/// Memory of the process itself, in bytes.
const PROCESS_BYTES: u64 = 16 << 20;

/// What is known about a model before it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFacts {
    pub(crate) model: ModelRef,
    pub(crate) needs: Needs,
    /// Size of the files that must be fetched first, in bytes.
    pub(crate) fetch_bytes: u64,
}

/// What a model needs, by what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Needs {
    /// The mock engine needs nothing to speak of.
    Nothing,
    Header(HeaderNeeds),
    /// Size of the files in bytes.
    Files(u64),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeaderNeeds {
    pub memory: MemoryNeeds,
    pub workspace_bytes: u64,
    pub parameters: u64,
    pub quantization: String,
    pub architecture: String,
    /// What an engine must support, on the CPU.
    pub engine: engine_choice::Needs,
}

impl ModelFacts {
    /// Describes a model whose header was read. `fetch_bytes` is the size of the files that are
    /// not on the node.
    pub fn from_header(model: ModelRef, header: &ModelHeader, fetch_bytes: u64) -> Self {
        let needs = HeaderNeeds {
            memory: MemoryNeeds::new(header, KvType::OF_ENGINE),
            workspace_bytes: workspace(header),
            parameters: header.parameters,
            quantization: header.quantization.clone(),
            architecture: header.architecture.clone(),
            engine: engine_choice::Needs::of_model(header, Backend::Cpu),
        };
        Self {
            model,
            needs: Needs::Header(needs),
            fetch_bytes,
        }
    }

    /// Describes a model of which only the size of its files is known.
    pub fn from_size(model: ModelRef, size_bytes: u64, fetch_bytes: u64) -> Self {
        Self {
            model,
            needs: Needs::Files(size_bytes),
            fetch_bytes,
        }
    }

    /// Describes `layers` of the `of` layers of this model: what a worker needs if other machines
    /// compute the others.
    #[must_use]
    pub fn layers(mut self, layers: u32, of: u32) -> Self {
        let share = |bytes: u64| {
            let share = u128::from(bytes) * u128::from(layers);
            let share = share.div_ceil(u128::from(of.max(1)));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        match &mut self.needs {
            Needs::Nothing => {}
            Needs::Files(bytes) => *bytes = share(*bytes),
            Needs::Header(header) => {
                let memory = &mut header.memory;
                memory.weight_bytes = share(memory.weight_bytes);
                memory.kv_bytes_per_token = share(memory.kv_bytes_per_token);
            }
        }
        self
    }

    /// Describes a model of the mock engine, which has no files.
    pub fn mock(model: ModelRef) -> Self {
        Self {
            model,
            needs: Needs::Nothing,
            fetch_bytes: 0,
        }
    }
}

/// Returns an estimate of the memory next to weights and KV cache: activations of one step, the
/// tokenizer, logits and the process.
fn workspace(header: &ModelHeader) -> u64 {
    if header.heads == 0 || header.embedding_length == 0 {
        // Another engine's model, whose sizes are unknown: a fifth, for the KV cache as well.
        return header.weight_bytes / 5 + PROCESS_BYTES;
    }
    let attention = u64::from(header.heads) * u64::from(header.head_dim);
    let width = 4 * u64::from(header.embedding_length)
        + 2 * u64::from(header.feed_forward_length)
        + 3 * attention;
    let activations = STEP_TOKENS * width * size_of::<f32>() as u64;
    let vocabulary = u64::from(header.vocab_size) * VOCABULARY_BYTES;
    activations
        .saturating_add(vocabulary)
        .saturating_add(PROCESS_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model;

    #[test]
    fn a_share_of_the_layers_needs_a_share_of_the_memory() {
        let whole = model(1000, 100, 4096);
        let part = whole.layers(1, 3);
        let Needs::Header(header) = part.needs else {
            panic!("{part:?}");
        };
        assert_eq!(header.memory.weight_bytes, 334);
        assert_eq!(header.memory.kv_bytes_per_token, 34);
        assert_eq!(header.memory.context_length, 4096);
    }
}
