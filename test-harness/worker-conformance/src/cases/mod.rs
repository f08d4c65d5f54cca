//! The cases, in the order in which they run. The last ones end the worker.

mod optional;
mod output;
mod program;
mod refusals;
mod state;
mod stopping;

use crate::case::Case;

/// Declares a case: name, what it needs, promise, and the async function that checks it.
macro_rules! case {
    ($needs:ident, $name:literal, $check:path, $promise:literal) => {
        $crate::case::Case {
            name: $name,
            promise: $promise,
            needs: $crate::case::Needs::$needs,
            check: |bench| Box::pin($check(bench)),
        }
    };
}
pub(crate) use case;

/// Returns all cases.
pub fn all() -> Vec<Case> {
    let groups = [
        program::CASES,
        state::CASES,
        output::CASES,
        refusals::CASES,
        optional::CASES,
        stopping::CASES,
    ];
    groups.into_iter().flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::case::Needs;

    #[test]
    fn names_are_unique_and_valid_as_beginnings_of_request_ids() {
        let cases = all();
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases.len());
        let is_valid = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(names.iter().all(|name| name.chars().all(is_valid)));
        assert!(cases.iter().any(|case| case.needs == Needs::Command));
    }
}
