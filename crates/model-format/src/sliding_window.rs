use diagnostics::Diagnostic;

use crate::{gguf::Gguf, value::Value};

/// Tokens of the window of Gemma 2 when its file does not say it.
const GEMMA2_WINDOW: u32 = 4096;

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
    /// All but each layer of this number: of 6, all but the 6th, the 12th and so on.
    AllButEvery(u32),
    /// One truth value for each layer.
    Listed(Vec<bool>),
    /// A rule that this program does not know, in words.
    Other(String),
}

impl SlidingWindow {
    /// What a GGUF file of `layers` layers says: a window in all layers unless the family
    /// or the file has a pattern.
    pub(crate) fn from_gguf(
        gguf: &Gguf<'_>,
        architecture: &str,
        layers: u32,
    ) -> Result<Option<Self>, Diagnostic> {
        let key = format!("{architecture}.attention.sliding_window");
        let of_family = match architecture {
            "gemma2" => Some(2),
            "gemma3" => Some(6),
            _ => None,
        };
        let pattern = format!("{key}_pattern");
        let windowed = match (of_family, gguf.metadata().get(pattern.as_str())) {
            (None, None) => WindowedLayers::From(0),
            (Some(every), None) => WindowedLayers::AllButEvery(every),
            (Some(_), Some(Value::Array(list))) if list.len() == layers as usize => list
                .iter()
                .map(|value| match value {
                    Value::Bool(windowed) => Some(windowed),
                    _ => None,
                })
                .collect::<Option<_>>()
                .map_or(WindowedLayers::Other(pattern), WindowedLayers::Listed),
            (Some(_), Some(Value::Integer(every))) => u32::try_from(*every)
                .map_or(WindowedLayers::Other(pattern), WindowedLayers::AllButEvery),
            _ => WindowedLayers::Other(pattern),
        };
        let otherwise = (architecture == "gemma2").then_some(GEMMA2_WINDOW);
        Ok(window(gguf.u32(&key)?.or(otherwise), windowed))
    }

    /// Whether a token of that layer sees only the window. The error is a rule that this
    /// program does not know, in words.
    pub fn is_in(&self, layer: u32) -> Result<bool, &str> {
        match &self.layers {
            WindowedLayers::From(first) => Ok(layer >= *first),
            WindowedLayers::AllButEvery(0) => Ok(true),
            WindowedLayers::AllButEvery(every) => Ok(layer % every != every - 1),
            WindowedLayers::Listed(list) => Ok(list.get(layer as usize).copied().unwrap_or(false)),
            WindowedLayers::Other(rule) => Err(rule),
        }
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
