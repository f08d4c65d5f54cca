use candle_core::{DType, Device, Result, Tensor};
use cpu_kernels::KvBlocks;
use inference_execution::{BlockId, EngineError, KvCache};

use crate::{
    errors,
    plan::{BLOCK_TOKENS, Plan, SlotRun, Span},
};

/// The KV cache of all layers, for the CPU kernels.
pub(crate) struct CpuKv {
    layers: Vec<KvBlocks>,
    blocks: u32,
}

/// The KV cache of all layers, in tensors. Slot `block * BLOCK_TOKENS + offset` holds one token.
pub(crate) struct TensorKv {
    layers: Vec<LayerKv>,
    blocks: u32,
}

/// Keys and values of one layer, each of shape `[slots, kv_heads * head_dim]`.
pub(crate) struct LayerKv {
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct KvShape {
    pub(crate) layers: u32,
    pub(crate) heads: u32,
    /// Elements per head.
    pub(crate) width: u32,
}

impl KvShape {
    /// Returns the size in bytes of a block in all layers together.
    pub(crate) fn block_bytes(self) -> u64 {
        let layer = KvBlocks::block_bytes(self.heads as usize, self.width as usize);
        u64::from(self.layers) * layer as u64
    }
}

impl CpuKv {
    pub(crate) fn new(shape: KvShape, blocks: u32) -> Self {
        let [count, heads, width] = [blocks, shape.heads, shape.width].map(|n| n as usize);
        let layers = (0..shape.layers).map(|_| KvBlocks::new(count, heads, width));
        Self {
            layers: layers.collect(),
            blocks,
        }
    }

    pub(crate) fn layer(&self, index: usize) -> &KvBlocks {
        &self.layers[index]
    }

    /// Writes the keys and values of all rows, each of shape `[rows, heads * width]`.
    pub(crate) fn write(&mut self, layer: usize, plan: &Plan, keys: &[f32], values: &[f32]) {
        let width = keys.len() / plan.tokens.len().max(1);
        let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
        let slots = plan.spans.iter().flat_map(Span::slots);
        for ((block, offset), (keys, values)) in slots.zip(rows) {
            self.layers[layer].write(block, offset, keys, values);
        }
    }
}

impl TensorKv {
    pub(crate) fn new(shape: KvShape, blocks: u32, device: &Device) -> Result<Self> {
        let size = (
            blocks as usize * BLOCK_TOKENS as usize,
            shape.heads as usize * shape.width as usize,
        );
        let layers = (0..shape.layers)
            .map(|_| {
                Ok(LayerKv {
                    keys: Tensor::zeros(size, DType::F32, device)?,
                    values: Tensor::zeros(size, DType::F32, device)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { layers, blocks })
    }

    pub(crate) fn layer(&self, index: usize) -> &LayerKv {
        &self.layers[index]
    }
}

impl LayerKv {
    /// Writes rows of keys and values to their slots.
    pub(crate) fn write(&self, keys: &Tensor, values: &Tensor, runs: &[SlotRun]) -> Result<()> {
        for run in runs {
            for (pool, new) in [(&self.keys, keys), (&self.values, values)] {
                pool.slice_set(&new.narrow(0, run.row, run.length)?, 0, run.slot)?;
            }
        }
        Ok(())
    }
}

impl KvCache for CpuKv {
    fn block_tokens(&self) -> u32 {
        BLOCK_TOKENS
    }

    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn copy(&mut self, from: BlockId, to: BlockId) -> std::result::Result<(), EngineError> {
        check_blocks(self.blocks, from, to)?;
        for layer in &mut self.layers {
            layer.copy(from.0 as usize, to.0 as usize);
        }
        Ok(())
    }
}

impl KvCache for TensorKv {
    fn block_tokens(&self) -> u32 {
        BLOCK_TOKENS
    }

    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn copy(&mut self, from: BlockId, to: BlockId) -> std::result::Result<(), EngineError> {
        check_blocks(self.blocks, from, to)?;
        let length = BLOCK_TOKENS as usize;
        let copy = |pool: &Tensor| {
            let content = pool.narrow(0, from.0 as usize * length, length)?.copy()?;
            pool.slice_set(&content, 0, to.0 as usize * length)
        };
        for layer in &self.layers {
            copy(&layer.keys)
                .and_then(|()| copy(&layer.values))
                .map_err(|e| EngineError::Step(e.to_string()))?;
        }
        Ok(())
    }
}

fn check_blocks(blocks: u32, from: BlockId, to: BlockId) -> std::result::Result<(), EngineError> {
    if from.0 < blocks && to.0 < blocks {
        return Ok(());
    }
    Err(errors::missing_block(from, to, blocks))
}
