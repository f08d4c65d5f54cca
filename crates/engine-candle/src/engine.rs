use inference_execution::{
    Batch, Engine, EngineError, KvCache, Logits, ModelDescription, Pooling, States,
};

use crate::{
    backend::Backend,
    cpu::Cpu,
    model::Llama,
    plan::{Limits, Plan},
    tensors::Tensors,
};

/// A model on a device.
pub struct CandleEngine {
    description: ModelDescription,
    model: Llama,
    pub(crate) computing: Computing,
    pooling: Option<Pooling>,
}

/// Where a model computes.
pub(crate) enum Computing {
    Cpu(Cpu),
    Device(Tensors),
}

impl CandleEngine {
    pub(crate) fn new(description: ModelDescription, model: Llama, computing: Computing) -> Self {
        Self {
            description,
            model,
            computing,
            pooling: Some(Pooling::Last),
        }
    }

    /// How it makes vectors of texts; `None` when it does not. Unless told, by the last token.
    pub(crate) fn pooled(mut self, pooling: Option<Pooling>) -> Self {
        self.pooling = pooling;
        self
    }

    fn plan(&mut self, batch: &Batch) -> Result<Plan, EngineError> {
        let limits = Limits {
            vocab_size: self.description.vocab_size,
            context_length: self.description.context_length,
            blocks: self.kv().blocks(),
        };
        Plan::new(batch, limits)
    }
}

impl Engine for CandleEngine {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn step(&mut self, batch: &Batch) -> Result<Logits, EngineError> {
        let plan = self.plan(batch)?;
        let mut logits = Logits {
            vocab_size: self.description.vocab_size as usize,
            values: Vec::new(),
        };
        if plan.tokens.is_empty() {
            return Ok(logits);
        }
        let computed = match &mut self.computing {
            Computing::Cpu(cpu) => self.model.forward(cpu, &plan),
            Computing::Device(tensors) => self.model.forward(tensors, &plan),
        };
        match computed {
            Ok(values) => {
                logits.values = values;
                Ok(logits)
            }
            Err(error) => Err(engine_error(&error)),
        }
    }

    fn pooling(&self) -> Option<Pooling> {
        self.pooling
    }

    fn embed(&mut self, batch: &Batch) -> Result<States, EngineError> {
        let plan = self.plan(batch)?;
        if plan.tokens.is_empty() {
            return Ok(States {
                width: 0,
                values: Vec::new(),
            });
        }
        let pooling = self.pooling.unwrap_or(Pooling::Last);
        let computed = match &mut self.computing {
            Computing::Cpu(cpu) => self.model.embed(cpu, &plan, pooling),
            Computing::Device(tensors) => self.model.embed(tensors, &plan, pooling),
        };
        let values = computed.map_err(|error| engine_error(&error))?;
        Ok(States {
            width: values.len() / plan.spans.len(),
            values,
        })
    }

    fn kv(&mut self) -> &mut dyn KvCache {
        match &mut self.computing {
            Computing::Cpu(cpu) => cpu.kv(),
            Computing::Device(tensors) => tensors.kv(),
        }
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
