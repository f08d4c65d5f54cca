use std::thread;

/// Stack for the largest accepted grammars: 9000 rules that refer to one another in a chain
/// need between 2 and 64 MiB. Untouched pages take no memory.
const STACK_BYTES: usize = 64 << 20;

/// Returns a builder of threads with enough stack for a [`crate::Matcher`].
pub fn thread_builder(name: &str) -> thread::Builder {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
}
