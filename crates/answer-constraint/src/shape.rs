use serde_json::Value;
use worker_contract::Constraint;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Text that keeps to a constraint.
    Text(Constraint),
    /// Calls of functions.
    Calls(Calls),
    /// One of both.
    Either(Constraint, Calls),
}

/// Calls of functions, at least one, as a model writes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Calls {
    /// Comes before the first.
    pub open: Vec<Piece>,
    /// Comes between two; absent, there is one call only.
    pub divider: Option<Vec<Piece>>,
    /// Comes after the last.
    pub close: Vec<Piece>,
    /// What may be called; not empty.
    pub functions: Vec<Function>,
}

/// A function that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name, for errors.
    pub name: String,
    /// Comes before its arguments.
    pub begin: Vec<Piece>,
    /// JSON schema of its arguments.
    pub arguments: Value,
    /// Comes after its arguments.
    pub end: Vec<Piece>,
}

/// A piece of what is written around calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(String),
    /// This token, which stands for no text.
    Token(u32),
}

impl Shape {
    /// The field of a request that asks for it.
    pub(crate) const fn field(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Either(..) => "constraint",
            Self::Calls(_) => "tools",
        }
    }
}

impl From<&Constraint> for Shape {
    fn from(constraint: &Constraint) -> Self {
        Self::Text(constraint.clone())
    }
}
