use candle_core::{DType, Device, Result, Tensor};
use inference_execution::{BlockId, EngineError, KvCache};

use crate::plan::SlotRun;

/// Tokens in a block.
pub(crate) const BLOCK_TOKENS: u32 = 16;

/// Keys and values of every layer in blocks; slot `block * BLOCK_TOKENS + offset` holds one
/// token.
pub struct PagedKv {
    layers: Vec<LayerKv>,
    blocks: u32,
}

/// Keys and values of one layer, `[slots, kv_heads * head_dim]` each.
pub(crate) struct LayerKv {
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
}

/// Bytes that a block takes in all layers together.
pub(crate) fn block_bytes(layers: u32, width: u32) -> u64 {
    let floats = 2 * u64::from(layers) * u64::from(width) * u64::from(BLOCK_TOKENS);
    floats * size_of::<f32>() as u64
}

impl PagedKv {
    /// Room for `blocks` blocks of tokens with `width` numbers for a key.
    pub(crate) fn new(layers: u32, width: u32, blocks: u32, device: &Device) -> Result<Self> {
        let shape = (blocks as usize * BLOCK_TOKENS as usize, width as usize);
        let layers = (0..layers)
            .map(|_| {
                Ok(LayerKv {
                    keys: Tensor::zeros(shape, DType::F32, device)?,
                    values: Tensor::zeros(shape, DType::F32, device)?,
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

impl KvCache for PagedKv {
    fn block_tokens(&self) -> u32 {
        BLOCK_TOKENS
    }

    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn copy(&mut self, from: BlockId, to: BlockId) -> std::result::Result<(), EngineError> {
        if from.0 >= self.blocks || to.0 >= self.blocks {
            return Err(EngineError::Step(format!(
                "copy of block {} to {}, there are {}",
                from.0, to.0, self.blocks
            )));
        }
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
