use inference_execution::{
    Batch, Engine, EngineError, KvCache, Logits, ModelDescription, Pooling, States,
};

use crate::{
    backend::Backend,
    cpu::CpuBackend,
    errors,
    model::Transformer,
    plan::{Limits, Plan},
    tensors::TensorBackend,
};

/// A model on a device.
pub struct CandleEngine {
    description: ModelDescription,
    model: Transformer,
    pub(crate) backend: AnyBackend,
    pooling: Option<Pooling>,
}

/// The backend of a loaded model.
pub(crate) enum AnyBackend {
    Cpu(CpuBackend),
    Tensors(TensorBackend),
}

impl CandleEngine {
    /// Creates an engine that pools embeddings by the last token.
    pub(crate) fn new(
        description: ModelDescription,
        model: Transformer,
        backend: AnyBackend,
    ) -> Self {
        Self {
            description,
            model,
            backend,
            pooling: Some(Pooling::Last),
        }
    }

    /// Sets how embeddings are pooled; `None` if the model cannot produce embeddings.
    pub(crate) fn with_pooling(mut self, pooling: Option<Pooling>) -> Self {
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
        let computed = match &mut self.backend {
            AnyBackend::Cpu(cpu) => self.model.forward(cpu, &plan),
            AnyBackend::Tensors(tensors) => self.model.forward(tensors, &plan),
        };
        logits.values = computed.map_err(|error| errors::step(&error))?;
        Ok(logits)
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
        let computed = match &mut self.backend {
            AnyBackend::Cpu(cpu) => self.model.embed(cpu, &plan, pooling),
            AnyBackend::Tensors(tensors) => self.model.embed(tensors, &plan, pooling),
        };
        let values = computed.map_err(|error| errors::step(&error))?;
        Ok(States {
            width: values.len() / plan.spans.len(),
            values,
        })
    }

    fn kv(&mut self) -> &mut dyn KvCache {
        match &mut self.backend {
            AnyBackend::Cpu(cpu) => cpu.kv(),
            AnyBackend::Tensors(tensors) => tensors.kv(),
        }
    }
}
