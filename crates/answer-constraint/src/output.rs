use serde_json::Value;
use worker_contract::Constraint;

/// Required form of a model's output.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputConstraint {
    /// Text that satisfies a constraint.
    Text(Constraint),
    Calls(Calls),
    Either(Constraint, Calls),
    /// Free text that may contain calls.
    Mixed(Trigger, Calls),
}

/// Where calls begin in free text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// Calls are the entire output, which begins with this character. Text begins otherwise.
    Start(char),
    /// Calls follow this mark, which is not part of [`Calls::open`].
    Mark {
        mark: Piece,
        /// Texts that would begin calls in another way. The text does not contain them.
        excluded: Vec<String>,
    },
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
    /// How the arguments are written.
    pub syntax: Syntax,
    /// Whether the arguments must satisfy the entire schema. Otherwise, what cannot be enforced
    /// is ignored, and named in a note.
    pub strict: bool,
    /// Follows the arguments.
    pub end: Vec<Piece>,
}

/// How arguments are written.
#[derive(Debug, Clone, PartialEq)]
pub enum Syntax {
    /// As a JSON object.
    Json,
    /// Each property by itself.
    Fields(Fields),
}

/// How properties are written that stand by themselves: required ones first, in the order of the
/// schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Fields {
    /// Precedes the name of a property.
    pub open: Vec<Piece>,
    /// Follows the name of a property.
    pub assign: Vec<Piece>,
    /// Follows a value.
    pub close: Vec<Piece>,
    /// Separates two properties.
    pub divider: Vec<Piece>,
    /// Properties that are always strings, and are written as they are up to what follows them.
    /// Others are written as JSON.
    pub plain: Vec<String>,
    /// Stands around plain strings.
    pub quote: Vec<Piece>,
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
            Self::Calls(_) | Self::Mixed(..) => "tools",
        }
    }
}

impl From<&Constraint> for OutputConstraint {
    fn from(constraint: &Constraint) -> Self {
        Self::Text(constraint.clone())
    }
}

impl OutputConstraint {
    pub(crate) fn calls(&self) -> Option<&Calls> {
        match self {
            Self::Text(_) => None,
            Self::Calls(calls) | Self::Either(_, calls) | Self::Mixed(_, calls) => Some(calls),
        }
    }
}
