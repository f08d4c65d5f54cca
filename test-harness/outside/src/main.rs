//! Comparisons with programs of others.

fn main() {}
