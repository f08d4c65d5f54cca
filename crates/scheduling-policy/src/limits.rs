//! The limits of scripts.

/// Size of a script, in bytes.
pub const SCRIPT_BYTES: usize = 64 * 1024;
/// Operations of a script in one decision, over all candidates.
pub const OPERATIONS: u64 = 50_000;
/// Calls inside calls.
pub const CALL_LEVELS: usize = 12;
/// Depth of an expression.
pub const EXPRESSION_DEPTH: usize = 32;
/// Length of a string, in bytes.
pub const STRING_BYTES: usize = 1024;
/// Elements of an array, with those of the arrays in it.
pub const ARRAY_ELEMENTS: usize = 100;
/// Entries of an object map, with those of the maps in it.
pub const MAP_ENTRIES: usize = 50;
/// Variables at a time.
pub const VARIABLES: usize = 50;
/// Functions of a script.
pub const FUNCTIONS: usize = 100;
/// Characters of a reason that are kept.
pub const REASON_CHARS: usize = 200;
