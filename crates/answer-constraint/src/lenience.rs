use std::collections::{BTreeMap, BTreeSet};

/// What is not enforced, because the grammar could not be compiled otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lenience {
    /// The schema of the text has `oneOf` with alternatives that can overlap.
    pub text_one_of: bool,
    /// Numbers of functions with such a schema.
    pub one_of: BTreeSet<usize>,
    /// Numbers of functions that may have any arguments, each with a note.
    pub any: BTreeMap<usize, String>,
}
