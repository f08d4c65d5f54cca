use candle_core::Result;
use diagnostics::Diagnostic;
use model_format::ModelHeader;

use crate::{
    architecture::Architecture,
    backend::Backend,
    gated::Gated,
    mixture::Mixture,
    tensor_names::{ExpertPart, LayerPart, Part},
    weights::Weights,
};

/// The feed-forward network of a transformer block.
pub(crate) enum FeedForward {
    Gated(Gated),
    Mixture(Mixture),
}

impl FeedForward {
    /// Takes the weights of a layer.
    pub(crate) fn load(
        weights: &mut Weights<'_, '_>,
        header: &ModelHeader,
        architecture: Architecture,
        layer: u32,
    ) -> std::result::Result<Self, Diagnostic> {
        let hidden = header.embedding_length;
        let bias = architecture.biases(header.biases).feed_forward;
        let mut gated = |names: [LayerPart; 3], inner, bias| {
            let [gate, up, down] = names.map(|part| Part::Layer(layer, part));
            Ok::<_, Diagnostic>(Gated {
                gate: weights.linear(gate, inner, hidden, bias)?,
                up: weights.linear(up, inner, hidden, bias)?,
                down: weights.linear(down, hidden, inner, bias)?,
                activation: architecture.activation,
            })
        };
        let Some(experts) = header.experts.as_ref().filter(|e| e.are_in(layer)) else {
            let names = [LayerPart::Gate, LayerPart::Up, LayerPart::Down];
            return gated(names, header.feed_forward_length, bias).map(Self::Gated);
        };
        let inner = experts.feed_forward_length;
        let all = (0..experts.count)
            .map(|index| {
                let names = ExpertPart::ALL.map(|part| LayerPart::Expert(index, part));
                gated(names, inner, false)
            })
            .collect::<std::result::Result<_, _>>()?;
        let router = Part::Layer(layer, LayerPart::Router);
        Ok(Self::Mixture(Mixture {
            router: weights.linear(router, experts.count, hidden, false)?,
            experts: all,
            used: experts.used as usize,
            normalized: experts.normalized,
        }))
    }

    /// Applies the network to `x` of shape `[rows, hidden]`; the result has the same shape.
    pub(crate) fn apply<B: Backend>(
        &self,
        backend: &mut B,
        x: &B::Rows,
        rows: usize,
    ) -> Result<B::Rows> {
        match self {
            Self::Gated(gated) => gated.apply(backend, x),
            Self::Mixture(mixture) => mixture.apply(backend, x, rows),
        }
    }
}
