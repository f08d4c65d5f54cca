//! The documents say what is true: every crate is on the map, and every invariant is kept by
//! a test that exists.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Result;
use proc_macro2::{TokenStream, TokenTree};

use super::{Faults, all_rust_files, members::Member, show};
use crate::cargo::root;

/// Maximum number of documents at the root.
const MAX_ROOT_DOCUMENTS: usize = 5;

pub(super) fn check(members: &[Member], faults: &mut Faults) -> Result<()> {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    count(faults)?;
    map(members, &architecture, faults);
    invariants(&architecture, faults)
}

/// At most five documents at the root, and one per binary.
fn count(faults: &mut Faults) -> Result<()> {
    let documents = |dir: &Path| -> Result<usize> {
        Ok(fs::read_dir(dir)?
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == "md"))
            .count())
    };
    let count = documents(root())?;
    if count > MAX_ROOT_DOCUMENTS {
        faults.push(format!(
            "{count} documents at the root, more than {MAX_ROOT_DOCUMENTS}"
        ));
    }
    for entry in fs::read_dir(root().join("bin"))?.flatten() {
        if documents(&entry.path())? > 1 {
            faults.push(format!("{}: more than one document", show(&entry.path())));
        }
    }
    Ok(())
}

/// `ARCHITECTURE.md` names the directory of every member.
fn map(members: &[Member], architecture: &str, faults: &mut Faults) {
    for member in members {
        let directory = show(&member.dir);
        if !architecture.contains(&format!("`{directory}`")) {
            faults.push(format!("ARCHITECTURE.md does not name `{directory}`"));
        }
    }
}

/// Every test that the invariants name exists: `a_test_function`, or "A scenario".
fn invariants(architecture: &str, faults: &mut Faults) -> Result<()> {
    let (_, section) = architecture.split_once("## Invariants").unwrap_or_default();
    let section = section.replace("\n  ", " ");
    let mut tests = BTreeSet::new();
    for file in all_rust_files()? {
        let text = fs::read_to_string(&file)?;
        let tokens: TokenStream = text
            .parse()
            .map_err(|e| anyhow::anyhow!("{}: {e}", show(&file)))?;
        collect_tests(tokens, &mut tests);
    }
    let mut scenarios = String::new();
    for entry in fs::read_dir(root().join("features"))? {
        scenarios.push_str(&fs::read_to_string(entry?.path())?);
    }
    for name in section.split('`').skip(1).step_by(2) {
        let is_function = name.contains('_') && !name.contains(['/', '.', ' ']);
        if is_function && !tests.contains(name) {
            faults.push(format!("ARCHITECTURE.md: no test `{name}`"));
        }
    }
    for name in section.split('"').skip(1).step_by(2) {
        let is_scenario = scenarios
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .any(|(keyword, title)| keyword.starts_with("Scenario") && title == name);
        if !is_scenario {
            faults.push(format!("ARCHITECTURE.md: no scenario \"{name}\""));
        }
    }
    Ok(())
}

/// Collects the names of functions with a `test` attribute, inside macros as well, and the
/// names of trials, which a test runner of the project's own receives as text.
fn collect_tests(tokens: TokenStream, tests: &mut BTreeSet<String>) {
    let mut has_attribute = false;
    let mut after_fn = false;
    let mut after_trial = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let words = words(&group.stream());
                if words.last().is_some_and(|w| w == "test")
                    || words.first().is_some_and(|w| w == "tokio")
                        && words.contains(&"test".to_owned())
                {
                    has_attribute = true;
                }
                if after_trial && let Some(name) = first_text(&group.stream()) {
                    tests.insert(name);
                }
                after_trial = false;
                collect_tests(group.stream(), tests);
            }
            TokenTree::Ident(ident) => {
                let ident = ident.to_string();
                if after_fn {
                    if has_attribute {
                        tests.insert(ident.clone());
                    }
                    (after_fn, has_attribute) = (false, false);
                }
                match ident.as_str() {
                    "fn" => after_fn = true,
                    "trial" => after_trial = true,
                    "struct" | "enum" | "impl" | "mod" | "use" | "const" | "static" | "trait" => {
                        has_attribute = false;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

fn words(tokens: &TokenStream) -> Vec<String> {
    tokens
        .clone()
        .into_iter()
        .filter_map(|token| match token {
            TokenTree::Ident(ident) => Some(ident.to_string()),
            _ => None,
        })
        .collect()
}

fn first_text(tokens: &TokenStream) -> Option<String> {
    let TokenTree::Literal(literal) = tokens.clone().into_iter().next()? else {
        return None;
    };
    let text = literal.to_string();
    Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut tests = BTreeSet::new();
        collect_tests(text.parse().unwrap(), &mut tests);
        tests.into_iter().collect()
    }

    #[test]
    fn only_tests_keep_an_invariant() {
        assert_eq!(found("fn helper() {} #[test] fn a() {}"), ["a"]);
        assert_eq!(
            found("#[tokio::test(start_paused = true)] async fn b() { fn inner() {} }"),
            ["b"]
        );
        assert_eq!(
            found("proptest! { #![cfg(x)] #[test] fn c(x in 0..1) {} }"),
            ["c"]
        );
        assert_eq!(found("#[test] struct S; fn d() {}"), [] as [&str; 0]);
        assert_eq!(found("// fn e()\nlet _ = \"fn f()\";"), [] as [&str; 0]);
    }
}
