//! The sizes of context and KV cache.

use diagnostics::Diagnostic;
use model_format::{KvType, MemoryNeeds, ModelHeader};

use crate::{errors, kv::KvShape, options::LoadOptions, plan::BLOCK_TOKENS};

pub(crate) fn kv_shape(header: &ModelHeader) -> KvShape {
    KvShape {
        layers: header.layers,
        heads: header.kv_heads,
        width: header.head_dim,
    }
}

/// Returns the maximum sequence length in tokens and the number of blocks of the KV cache.
pub(crate) fn plan_memory(
    header: &ModelHeader,
    options: &LoadOptions,
) -> Result<(u32, u32), Diagnostic> {
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
