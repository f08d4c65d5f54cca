use diagnostics::Diagnostic;

use crate::gguf::Gguf;

/// Attention that looks back only so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Tokens that a token sees, itself included.
    pub tokens: u32,
    /// Where this holds; all other layers see everything.
    pub layers: WindowedLayers,
}

/// Layers with a sliding window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowedLayers {
    /// From this layer on.
    From(u32),
    /// One truth value for each layer.
    Listed(Vec<bool>),
    /// A rule that this program does not know, in words.
    Other(String),
}

impl SlidingWindow {
    /// What a GGUF file says: a window in all layers unless it has a pattern.
    pub(crate) fn from_gguf(
        gguf: &Gguf<'_>,
        architecture: &str,
    ) -> Result<Option<Self>, Diagnostic> {
        let key = format!("{architecture}.attention.sliding_window");
        let pattern = format!("{key}_pattern");
        let layers = if gguf.metadata().contains_key(pattern.as_str()) {
            WindowedLayers::Other(pattern)
        } else {
            WindowedLayers::From(0)
        };
        Ok(window(gguf.u32(&key)?, layers))
    }

    /// What the `layer_types` of a `config.json` mean.
    pub(crate) fn listed(types: &[String], layers: u32) -> WindowedLayers {
        if types.len() != layers as usize {
            return WindowedLayers::Other(format!("`layer_types` of {} layers", types.len()));
        }
        let windowed = |kind: &String| match kind.as_str() {
            "sliding_attention" => Ok(true),
            "full_attention" => Ok(false),
            other => Err(WindowedLayers::Other(format!("the layer type `{other}`"))),
        };
        match types.iter().map(windowed).collect() {
            Ok(list) => WindowedLayers::Listed(list),
            Err(other) => other,
        }
    }
}

/// A window; none of no tokens, which files write for none.
pub(crate) fn window(tokens: Option<u32>, layers: WindowedLayers) -> Option<SlidingWindow> {
    let tokens = tokens.filter(|tokens| *tokens > 0)?;
    Some(SlidingWindow { tokens, layers })
}
