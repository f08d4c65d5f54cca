use inference_execution::{Batch, Engine, EngineError, KvCache, Logits, ModelDescription};

use crate::{
    kv::PagedKv,
    model::Llama,
    plan::{Limits, Plan},
};

/// A model on a device, computing through candle.
pub struct CandleEngine {
    description: ModelDescription,
    model: Llama,
    kv: PagedKv,
}

impl CandleEngine {
    pub(crate) fn new(description: ModelDescription, model: Llama, kv: PagedKv) -> Self {
        Self {
            description,
            model,
            kv,
        }
    }
}

impl Engine for CandleEngine {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn step(&mut self, batch: &Batch) -> Result<Logits, EngineError> {
        let limits = Limits {
            vocab_size: self.description.vocab_size,
            context_length: self.description.context_length,
            blocks: self.kv.blocks(),
        };
        let plan = Plan::new(batch, limits)?;
        let mut logits = Logits {
            vocab_size: self.description.vocab_size as usize,
            values: Vec::new(),
        };
        if plan.tokens.is_empty() {
            return Ok(logits);
        }
        let computed = self
            .model
            .forward(&plan, &self.kv)
            .and_then(|tensor| tensor.map(|t| t.flatten_all()?.to_vec1()).transpose());
        match computed {
            Ok(values) => {
                logits.values = values.unwrap_or_default();
                Ok(logits)
            }
            Err(error) => Err(engine_error(&error)),
        }
    }

    fn kv(&mut self) -> &mut dyn KvCache {
        &mut self.kv
    }
}

/// A fault of the device cannot be told from its loss, so the worker ends.
fn engine_error(error: &candle_core::Error) -> EngineError {
    match error {
        candle_core::Error::Cuda(_) | candle_core::Error::Metal(_) => {
            EngineError::Device(error.to_string())
        }
        _ => EngineError::Step(error.to_string()),
    }
}
