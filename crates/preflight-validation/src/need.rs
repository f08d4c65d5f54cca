use hive_contract::PreflightRequest;
use model_format::KV_BLOCK_TOKENS;

use crate::{
    model::{HeaderNeeds, ModelFacts, Needs},
    units::size,
};

/// Memory that a worker needs for what was requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    pub weights: u64,
    pub kv: u64,
    pub workspace: u64,
    /// Length of a sequence in tokens, if it was requested.
    pub context: Option<u32>,
    pub sequences: u32,
}

impl Need {
    /// What a request guarantees: the requested context for each requested slot. Without a
    /// context, the engine adapts it to the memory, and one block of the KV cache must fit.
    pub(crate) fn new(model: &ModelFacts, request: &PreflightRequest) -> Self {
        let mut need = Self {
            weights: 0,
            kv: 0,
            workspace: 0,
            context: request.context_length,
            sequences: request.slots.unwrap_or(1),
        };
        match &model.needs {
            Needs::Nothing => {}
            // A fifth for the KV cache and the workspace, which are unknown.
            Needs::Files(bytes) => {
                need.weights = *bytes;
                need.workspace = bytes / 5;
            }
            Needs::Header(header) => {
                need.weights = header.memory.weight_bytes;
                need.workspace = header.workspace_bytes;
                need.kv = kv(header, request.context_length, need.sequences);
            }
        }
        need
    }

    pub(crate) fn total(&self) -> u64 {
        self.weights
            .saturating_add(self.kv)
            .saturating_add(self.workspace)
    }

    /// What the memory is for.
    pub(crate) fn parts(&self) -> String {
        let (weights, kv) = (size(self.weights), size(self.kv));
        let cache = match (self.context, self.sequences) {
            _ if self.kv == 0 => String::new(),
            (None, _) => format!(", {kv} for the KV cache"),
            (Some(tokens), 1) => format!(", {kv} for a context of {tokens} tokens"),
            (Some(tokens), n) => format!(", {kv} for {n} contexts of {tokens} tokens"),
        };
        let workspace = size(self.workspace);
        format!("{weights} for weights{cache}, {workspace} for work")
    }
}

fn kv(header: &HeaderNeeds, context: Option<u32>, sequences: u32) -> u64 {
    let tokens = context.unwrap_or(KV_BLOCK_TOKENS);
    let one = header.memory.bytes(tokens) - header.memory.weight_bytes;
    one.saturating_mul(u64::from(sequences))
}

/// Returns the size of the KV cache that a worker must allocate so that each of the requested
/// slots has the requested context. `None` if not both were requested, and the engine chooses.
pub fn requested_kv_bytes(model: &ModelFacts, request: &PreflightRequest) -> Option<u64> {
    let (context, slots) = (request.context_length?, request.slots?);
    match &model.needs {
        Needs::Header(header) => Some(kv(header, Some(context), slots)),
        Needs::Nothing | Needs::Files(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model;

    fn request(context_length: Option<u32>, slots: Option<u32>) -> PreflightRequest {
        PreflightRequest {
            context_length,
            slots,
            ..PreflightRequest::default()
        }
    }

    #[test]
    fn context_and_slots_multiply() {
        // 1 KiB per token.
        let model = model(1 << 30, 1 << 10, 4096);
        let kv = |context, slots| Need::new(&model, &request(context, slots)).kv;
        assert_eq!(kv(None, None), 16 << 10);
        assert_eq!(kv(Some(1000), None), 1008 << 10);
        assert_eq!(kv(Some(1024), Some(4)), 4 << 20);
        let need = Need::new(&model, &request(Some(1024), Some(4)));
        assert_eq!(need.total(), (1 << 30) + (4 << 20) + (64 << 20));
        assert_eq!(
            need.parts(),
            "1.0 GiB for weights, 4.0 MiB for 4 contexts of 1024 tokens, 64.0 MiB for work"
        );
        assert_eq!(
            requested_kv_bytes(&model, &request(Some(1024), Some(4))),
            Some(4 << 20)
        );
        assert_eq!(requested_kv_bytes(&model, &request(Some(1024), None)), None);
    }

    #[test]
    fn a_model_without_a_header_needs_a_fifth_more_than_its_files() {
        let model = ModelFacts::from_size("file:/a.gguf".parse().unwrap(), 1000, 0);
        assert_eq!(Need::new(&model, &request(Some(512), None)).total(), 1200);
        let mock = ModelFacts::mock("mock:a=1".parse().unwrap());
        assert_eq!(Need::new(&mock, &request(None, None)).total(), 0);
    }
}
