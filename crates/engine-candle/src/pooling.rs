//! How a model makes vectors of texts, as its files say.

use std::path::Path;

use diagnostics::{Code, Diagnostic};
use inference_execution::Pooling;
use model_format::{Gguf, about_file, read_limited};
use serde::{Deserialize, de::DeserializeOwned};

/// By the numbers of GGUF. What is made for vectors by other means than these two, or sees
/// what comes after a token, cannot be computed here.
pub(crate) fn of_gguf(gguf: &Gguf<'_>, architecture: &str) -> Result<Option<Pooling>, Diagnostic> {
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

/// `config.json`, as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ModelConfig {
    is_causal: Option<bool>,
}

/// One step of a sentence-transformers model, in `modules.json`.
#[derive(Deserialize)]
struct Module {
    r#type: String,
}

/// `1_Pooling/config.json` of sentence-transformers. Several modes at once are joined to one
/// long vector; without any, the mean is taken.
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
        // Divided by another number, a sum has the same direction.
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

/// By the files of sentence-transformers beside a model; one without them gives the state of
/// the last token.
///
/// Errors: `INVALID_MODEL_FILE` for files that are not what they should be.
pub(crate) fn of_folder(folder: &Path) -> Result<Option<Pooling>, Diagnostic> {
    let config: Option<ModelConfig> = json(&folder.join("config.json"))?;
    let modules: Option<Vec<Module>> = json(&folder.join("modules.json"))?;
    // Whatever else is done to a vector is not known here.
    let known = |module: &Module| {
        ["Transformer", "Pooling", "Normalize"]
            .iter()
            .any(|name| module.r#type.rsplit('.').next() == Some(name))
    };
    if config.and_then(|c| c.is_causal) == Some(false)
        || !modules.unwrap_or_default().iter().all(known)
    {
        return Ok(None);
    }
    let pooling: Option<PoolingConfig> = json(&folder.join("1_Pooling/config.json"))?;
    Ok(pooling.map_or(Some(Pooling::Last), |config| config.pooling()))
}

/// A file that may be absent.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Diagnostic> {
    let content = match read_limited(path) {
        Ok(content) => content,
        Err(error) if error.code == Code::ModelNotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let value = serde_json::from_slice(&content).map_err(|error| {
        let error = Diagnostic::new(
            Code::InvalidModelFile,
            format!("not the JSON expected: {error}"),
        )
        .hint("the file is damaged: fetch it again");
        about_file(error, path)
    })?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pooling(files: &[(&str, &str)]) -> Result<Option<Pooling>, Diagnostic> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        of_folder(folder.path())
    }

    #[test]
    fn the_files_of_sentence_transformers_say_how() {
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
    fn what_cannot_be_computed_here_makes_no_vectors() {
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
        let both_ways = [("config.json", r#"{"is_causal": false}"#)];
        assert_eq!(pooling(&both_ways).unwrap(), None);
    }
}
