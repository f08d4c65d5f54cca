use diagnostics::Diagnostic;

use crate::{gguf::Gguf, value::Value};

/// Window of Gemma 2, in tokens, if the file does not specify one.
const GEMMA2_WINDOW: u32 = 4096;

/// Sliding-window attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Number of tokens that a token attends to, itself included.
    pub tokens: u32,
    /// Layers with the window; all others have full attention.
    pub layers: WindowedLayers,
}

/// Set of layers with a sliding window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowedLayers {
    /// This layer and all later ones.
    From(u32),
    /// All but every n-th layer: for 6, all but the 6th, the 12th and so on.
    AllButEvery(u32),
    /// One flag per layer.
    Listed(Vec<bool>),
    /// Unknown rule, described for an error message.
    Other(String),
}

impl SlidingWindow {
    /// Creates a window; `None` for no tokens or 0 tokens, which files use for full attention.
    pub(crate) fn new(tokens: Option<u32>, layers: WindowedLayers) -> Option<Self> {
        let tokens = tokens.filter(|tokens| *tokens > 0)?;
        Some(Self { tokens, layers })
    }

    /// Reads the window of a GGUF file: it applies to all layers unless the family or the file
    /// has a pattern.
    pub(crate) fn from_gguf(
        gguf: &Gguf<'_>,
        architecture: &str,
        layers: u32,
    ) -> Result<Option<Self>, Diagnostic> {
        let key = format!("{architecture}.attention.sliding_window");
        let family_interval = match architecture {
            "gemma2" => Some(2),
            "gemma3" => Some(6),
            _ => None,
        };
        let pattern = format!("{key}_pattern");
        let windowed = match (family_interval, gguf.metadata().get(pattern.as_str())) {
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
        let default = (architecture == "gemma2").then_some(GEMMA2_WINDOW);
        Ok(Self::new(gguf.u32(&key)?.or(default), windowed))
    }

    /// Whether the window applies to a layer. The error describes an unknown rule.
    pub fn is_in(&self, layer: u32) -> Result<bool, &str> {
        match &self.layers {
            WindowedLayers::From(first) => Ok(layer >= *first),
            WindowedLayers::AllButEvery(0) => Ok(true),
            WindowedLayers::AllButEvery(every) => Ok(layer % every != every - 1),
            WindowedLayers::Listed(list) => Ok(list.get(layer as usize).copied().unwrap_or(false)),
            WindowedLayers::Other(rule) => Err(rule),
        }
    }

    /// Interprets the `layer_types` of a `config.json`.
    pub(crate) fn layers_of_types(types: &[String], layers: u32) -> WindowedLayers {
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
