use std::sync::Mutex;

use diagnostics::{Code, Diagnostic, excerpt};
use hive_contract::ModelEntry;
use hive_lifecycle::HiveState;
use input_validation::ModelRef;
use tokio::sync::watch;

/// What can be served, as the hive tells it.
#[derive(Debug)]
pub struct Models {
    hive: Option<watch::Receiver<HiveState>>,
    /// As last told.
    known: Mutex<Vec<ModelEntry>>,
}

impl Models {
    /// Models of the hive; none without one.
    pub fn new(hive: Option<watch::Receiver<HiveState>>) -> Self {
        Self {
            hive,
            known: Mutex::new(Vec::new()),
        }
    }

    /// The models that the hive has; while it does not answer, those it had.
    pub async fn list(&self) -> Vec<ModelEntry> {
        let hive = match self.hive.as_ref().map(|state| state.borrow().clone()) {
            Some(HiveState::Up(hive)) => Some(hive),
            _ => None,
        };
        if let Some(hive) = hive {
            match hive.client.models().await {
                Ok(list) => {
                    if let Ok(mut known) = self.known.lock() {
                        known.clone_from(&list.models);
                    }
                    return list.models;
                }
                Err(error) => tracing::warn!(%error, "the hive does not tell its models"),
            }
        }
        self.known.lock().map_or_else(|_| Vec::new(), |k| k.clone())
    }

    /// What is known of the model without asking the hive.
    pub fn known(&self, model: &ModelRef) -> Option<ModelEntry> {
        let known = self.known.lock().ok()?;
        known.iter().find(|entry| entry.model == *model).cloned()
    }

    /// Checks that the model can be asked for: files and mocks are looked at by the hive,
    /// built-in models must be ones that it has.
    pub async fn check(&self, model: &ModelRef) -> Result<(), Diagnostic> {
        let built_in = matches!(model, ModelRef::Builtin { .. });
        if !built_in || self.known(model).is_some() {
            return Ok(());
        }
        let has = self.list().await;
        // Without any list nothing can be said; the spawn tells.
        if has.is_empty() || has.iter().any(|entry| entry.model == *model) {
            return Ok(());
        }
        Err(not_found(&model.to_string()))
    }
}

/// The model that an OpenAI client names.
pub fn parse(name: &str) -> Result<ModelRef, Diagnostic> {
    name.parse().map_err(|_| not_found(name))
}

/// What a model that is not there is answered with.
pub fn not_found(name: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("there is no model \"{}\"", excerpt(name, 120)),
    )
    .hint("`rbee-keeper model list` and `GET /v1/models` tell what there is, for instance `builtin:haiku`")
    .param("model")
}
