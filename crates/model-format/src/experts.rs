use diagnostics::Diagnostic;

use crate::gguf::Gguf;

/// A feed-forward part of which a router picks some experts for each token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: u32,
    /// Experts that compute a token.
    pub used: u32,
    /// Width inside an expert.
    pub feed_forward_length: u32,
    /// The weights of the experts that compute a token are scaled to sum to one.
    pub normalized: bool,
    /// Every layer of this number has experts; 1 for all layers.
    pub every: u32,
    /// Layers that have none all the same.
    pub dense_layers: Vec<u32>,
}

impl Experts {
    /// What a GGUF file says; none when it has no experts.
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
            // Files of these families do not say it, because all of them do it.
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

    /// What is wrong with these numbers, in words.
    pub(crate) fn fault(&self) -> Option<String> {
        let Self { count, used, .. } = *self;
        let limits = [
            ("experts", count, 1 << 12),
            ("experts for a token", used, count),
            (
                "feed-forward length of an expert",
                self.feed_forward_length,
                1 << 24,
            ),
            (
                "layers from one with experts to the next",
                self.every,
                1 << 12,
            ),
        ];
        let wrong = limits.iter().find(|(_, n, most)| *n == 0 || n > most);
        wrong.map(|(what, found, most)| format!("{what}: {found}, expected 1 to {most}"))
    }
}
