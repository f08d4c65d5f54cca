use diagnostics::Diagnostic;

use crate::gguf::Gguf;

/// Mixture of experts: a router selects experts of the feed-forward part for each token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experts {
    /// Number of experts per layer.
    pub count: u32,
    /// Number of experts selected per token.
    pub used: u32,
    /// Intermediate size of an expert.
    pub feed_forward_length: u32,
    /// Whether the router weights of the selected experts are scaled to sum to one.
    pub normalized: bool,
    /// Interval of layers with experts: every n-th layer, 1 for all.
    pub every: u32,
    /// Layers without experts regardless of the interval.
    pub dense_layers: Vec<u32>,
}

impl Experts {
    /// Reads the experts of a GGUF file; `None` if the model has none.
    pub(crate) fn from_gguf(
        gguf: &Gguf<'_>,
        architecture: &str,
        feed_forward_length: u32,
    ) -> Result<Option<Self>, Diagnostic> {
        let key = |name: &str| format!("{architecture}.{name}");
        let count = match (gguf.u32(&key("expert_count"))?, architecture) {
            (None | Some(0), "qwen3moe") => gguf.required(&key("expert_count"), None)?,
            (None | Some(0), _) => return Ok(None),
            (Some(count), _) => count,
        };
        let used_key = key("expert_used_count");
        Ok(Some(Self {
            count,
            used: gguf.required(&used_key, gguf.u32(&used_key)?)?,
            feed_forward_length: gguf
                .u32(&key("expert_feed_forward_length"))?
                .unwrap_or(feed_forward_length),
            // All models of these families normalize, so that their files omit the key.
            normalized: gguf.bool(&key("expert_weights_norm"))?.unwrap_or(true),
            every: 1,
            dense_layers: Vec::new(),
        }))
    }

    /// Whether a layer has experts.
    pub fn are_in(&self, layer: u32) -> bool {
        self.every != 0
            && (u64::from(layer) + 1).is_multiple_of(u64::from(self.every))
            && !self.dense_layers.contains(&layer)
    }

    /// Name, value and maximum of each size; the minimum is 1.
    pub(crate) fn limits(&self) -> [(&'static str, u32, u32); 4] {
        [
            ("experts", self.count, 1 << 12),
            ("experts per token", self.used, self.count),
            (
                "feed-forward length of an expert",
                self.feed_forward_length,
                1 << 24,
            ),
            ("interval of layers with experts", self.every, 1 << 12),
        ]
    }
}
