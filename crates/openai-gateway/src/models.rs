use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A model as OpenAI's clients list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// What requests name.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// When this queen first knew it, in seconds since 1970.
    pub created: i64,
    /// Always `rbee`.
    pub owned_by: String,
}

impl Model {
    /// The model of this name.
    pub fn new(id: String, created: i64) -> Self {
        Self {
            id,
            object: "model".to_owned(),
            created,
            owned_by: "rbee".to_owned(),
        }
    }
}

/// Answer of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: String,
    /// By name.
    pub data: Vec<Model>,
}

impl ModelList {
    /// A list of models.
    pub fn new(data: Vec<Model>) -> Self {
        Self {
            object: "list".to_owned(),
            data,
        }
    }
}
