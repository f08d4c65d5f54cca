//! Determines from model files how embeddings are pooled.

use std::path::Path;

use diagnostics::{Code, Diagnostic};
use inference_execution::Pooling;
use model_format::{Gguf, about_file, read_limited};
use serde::{Deserialize, de::DeserializeOwned};

use crate::errors;

/// Returns the pooling of a GGUF model; `None` for bidirectional attention and for unsupported
/// pooling types.
pub(crate) fn from_gguf(
    gguf: &Gguf<'_>,
    architecture: &str,
) -> Result<Option<Pooling>, Diagnostic> {
    let causal = gguf.bool(&format!("{architecture}.attention.causal"))?;
    if causal == Some(false) {
        return Ok(None);
    }
    Ok(match gguf.u32(&format!("{architecture}.pooling_type"))? {
        None | Some(0 | 3) => Some(Pooling::Last),
        Some(1) => Some(Pooling::Mean),
        Some(_) => None,
    })
}

/// The relevant part of `config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ModelConfig {
    is_causal: Option<bool>,
}

/// An entry of the sentence-transformers file `modules.json`.
#[derive(Deserialize)]
struct Module {
    r#type: String,
}

/// The sentence-transformers file `1_Pooling/config.json`. The outputs of several modes are
/// concatenated; without any mode, the mean is used.
#[derive(Deserialize)]
#[serde(default)]
struct PoolingConfig {
    pooling_mode_cls_token: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

impl Default for PoolingConfig {
    fn default() -> Self {
        Self {
            pooling_mode_cls_token: false,
            pooling_mode_max_tokens: false,
            pooling_mode_mean_tokens: true,
            pooling_mode_mean_sqrt_len_tokens: false,
            pooling_mode_weightedmean_tokens: false,
            pooling_mode_lasttoken: false,
        }
    }
}

impl PoolingConfig {
    fn pooling(&self) -> Option<Pooling> {
        let others = self.pooling_mode_cls_token
            || self.pooling_mode_max_tokens
            || self.pooling_mode_weightedmean_tokens;
        // The two modes differ only in the length of the vector, not in its direction.
        let mean = self.pooling_mode_mean_tokens || self.pooling_mode_mean_sqrt_len_tokens;
        let both = self.pooling_mode_mean_tokens && self.pooling_mode_mean_sqrt_len_tokens;
        match (mean, self.pooling_mode_lasttoken) {
            _ if others || both => None,
            (true, false) => Some(Pooling::Mean),
            (false, true) => Some(Pooling::Last),
            (true, true) | (false, false) => None,
        }
    }
}

/// Returns the pooling that the sentence-transformers files in a model directory define; without
/// these files, [`Pooling::Last`].
///
/// Errors: `INVALID_MODEL_FILE` for malformed files.
pub(crate) fn from_directory(directory: &Path) -> Result<Option<Pooling>, Diagnostic> {
    let config: Option<ModelConfig> = json(&directory.join("config.json"))?;
    let modules: Option<Vec<Module>> = json(&directory.join("modules.json"))?;
    // Other modules transform embeddings in unsupported ways.
    let is_supported = |module: &Module| {
        ["Transformer", "Pooling", "Normalize"]
            .iter()
            .any(|name| module.r#type.rsplit('.').next() == Some(name))
    };
    if config.and_then(|c| c.is_causal) == Some(false)
        || !modules.unwrap_or_default().iter().all(is_supported)
    {
        return Ok(None);
    }
    let pooling: Option<PoolingConfig> = json(&directory.join("1_Pooling/config.json"))?;
    Ok(pooling.map_or(Some(Pooling::Last), |config| config.pooling()))
}

/// Reads a JSON file that may be absent.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Diagnostic> {
    let content = match read_limited(path) {
        Ok(content) => content,
        Err(error) if error.code == Code::ModelNotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let value = serde_json::from_slice(&content)
        .map_err(|error| about_file(errors::unexpected_json(&error), path))?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pooling(files: &[(&str, &str)]) -> Result<Option<Pooling>, Diagnostic> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("1_Pooling")).unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        from_directory(directory.path())
    }

    #[test]
    fn pooling_follows_the_sentence_transformers_files() {
        let file = "1_Pooling/config.json";
        for (config, expected) in [
            (r#"{"pooling_mode_mean_tokens": true}"#, Some(Pooling::Mean)),
            (
                r#"{"pooling_mode_mean_tokens": false, "pooling_mode_lasttoken": true}"#,
                Some(Pooling::Last),
            ),
            (
                r#"{"pooling_mode_mean_tokens": false, "pooling_mode_mean_sqrt_len_tokens": true}"#,
                Some(Pooling::Mean),
            ),
            (r#"{"word_embedding_dimension": 8}"#, Some(Pooling::Mean)),
            (
                r#"{"pooling_mode_mean_tokens": false, "pooling_mode_cls_token": true}"#,
                None,
            ),
            (r#"{"pooling_mode_lasttoken": true}"#, None),
        ] {
            assert_eq!(pooling(&[(file, config)]).unwrap(), expected, "{config}");
        }
        assert_eq!(pooling(&[]).unwrap(), Some(Pooling::Last));
        let error = pooling(&[(file, "7")]).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile);
        assert!(error.message.contains("1_Pooling"), "{error}");
    }

    #[test]
    fn unsupported_models_have_no_pooling() {
        let modules = |last: &str| {
            format!(
                r#"[{{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}},
                    {{"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.{last}"}}]"#
            )
        };
        let with = |last| pooling(&[("modules.json", &modules(last))]).unwrap();
        assert_eq!(with("Pooling"), Some(Pooling::Last));
        assert_eq!(with("Normalize"), Some(Pooling::Last));
        assert_eq!(with("Dense"), None);
        let bidirectional = [("config.json", r#"{"is_causal": false}"#)];
        assert_eq!(pooling(&bidirectional).unwrap(), None);
    }
}
