use serde_json::Value;
use worker_contract::Constraint;

/// Required form of a model's output.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputConstraint {
    /// Text that satisfies a constraint.
    Text(Constraint),
    Calls(Calls),
    Either(Constraint, Calls),
}

/// One or more tool calls in the syntax of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Calls {
    /// Precedes the first call.
    pub open: Vec<Piece>,
    /// Separates calls; `None` allows only one call.
    pub divider: Option<Vec<Piece>>,
    /// Follows the last call.
    pub close: Vec<Piece>,
    /// Functions that may be called; not empty.
    pub functions: Vec<Function>,
}

/// A function that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Name, for error messages.
    pub name: String,
    /// Precedes the arguments.
    pub begin: Vec<Piece>,
    /// JSON schema of the arguments.
    pub arguments: Value,
    /// Follows the arguments.
    pub end: Vec<Piece>,
}

/// Part of the syntax around tool calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Literal text.
    Text(String),
    /// A special token, which has no text.
    Token(u32),
}

impl OutputConstraint {
    /// Request field that the constraint comes from.
    pub(crate) const fn field(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Either(..) => "constraint",
            Self::Calls(_) => "tools",
        }
    }
}

impl From<&Constraint> for OutputConstraint {
    fn from(constraint: &Constraint) -> Self {
        Self::Text(constraint.clone())
    }
}
