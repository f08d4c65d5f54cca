//! No cycles between modules. Modules with the same parent, each with everything below it, must
//! not depend on one another in a circle. A module may use its own children and its parents.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Faults,
    source::{Modules, Segments},
};

pub(super) fn check(crate_name: &str, targets: &[Modules], faults: &mut Faults) {
    for modules in targets {
        for cycle in cycles(modules) {
            faults.push(format!(
                "{crate_name}: modules depend on each other: {}",
                cycle.join(" -> ")
            ));
        }
    }
}

/// Dependencies between siblings, by their parent.
type Graphs = BTreeMap<Segments, BTreeMap<String, BTreeSet<String>>>;

fn cycles(modules: &Modules) -> Vec<Vec<String>> {
    let mut graphs = Graphs::new();
    for (path, module) in modules {
        let uses = module.uses.iter().map(|(_, used)| used);
        for used in uses.chain(&module.paths) {
            if let Some(target) = resolve(modules, path, used) {
                add_edge(&mut graphs, path, &target);
            }
        }
    }
    graphs
        .iter()
        .filter_map(|(parent, graph)| find_cycle(parent, graph))
        .collect()
}

/// Adds the dependency between the siblings that contain the two modules.
fn add_edge(graphs: &mut Graphs, from: &[String], to: &[String]) {
    let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    if let (Some(from_sibling), Some(to_sibling)) = (from.get(common), to.get(common)) {
        graphs
            .entry(from[..common].to_vec())
            .or_default()
            .entry(from_sibling.clone())
            .or_default()
            .insert(to_sibling.clone());
    }
}

/// Returns the module that defines what `path` names in the module `from`; `None` if it is
/// in another crate.
fn resolve(modules: &Modules, from: &Segments, path: &[String]) -> Option<Segments> {
    let mut module = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" => from.clone(),
        "super" => parent(from)?,
        first if modules[from].children.iter().any(|child| child == first) => {
            return descend(modules, from.clone(), path, 0);
        }
        _ => return None,
    };
    let mut rest = 1;
    while path.get(rest).is_some_and(|segment| segment == "super") {
        module = parent(&module)?;
        rest += 1;
    }
    descend(modules, module, &path[rest..], 0)
}

fn parent(module: &Segments) -> Option<Segments> {
    let (_, parent) = module.split_last()?;
    Some(parent.to_vec())
}

/// Follows modules and re-exports. `depth` bounds re-exports that lead in a circle.
fn descend(modules: &Modules, module: Segments, path: &[String], depth: usize) -> Option<Segments> {
    let Some((name, rest)) = path.split_first() else {
        return Some(module);
    };
    let here = modules.get(&module)?;
    if here.children.contains(name) {
        let child = [module, vec![name.clone()]].concat();
        return descend(modules, child, rest, depth);
    }
    if here.items.contains(name) || depth > 8 {
        return Some(module);
    }
    for (exported, target) in &here.reexports {
        let target = match exported.as_str() {
            "*" => [target.clone(), vec![name.clone()]].concat(),
            exported if exported == name => target.clone(),
            _ => continue,
        };
        let defined = resolve_from(modules, &module, &target, depth + 1);
        if let Some(defined) = defined
            && (exported != "*" || modules[&defined].items.contains(name))
        {
            return Some(defined);
        }
    }
    Some(module)
}

/// Resolves a re-export's path, which may name a child without `self`.
fn resolve_from(
    modules: &Modules,
    module: &Segments,
    path: &[String],
    depth: usize,
) -> Option<Segments> {
    match path.first()?.as_str() {
        "crate" => descend(modules, Vec::new(), &path[1..], depth),
        "self" => descend(modules, module.clone(), &path[1..], depth),
        "super" => descend(modules, parent(module)?, &path[1..], depth),
        child if modules[module].children.iter().any(|c| c == child) => {
            descend(modules, module.clone(), path, depth)
        }
        _ => None,
    }
}

/// Returns one cycle of the graph, with full module names.
fn find_cycle(
    parent: &[String],
    graph: &BTreeMap<String, BTreeSet<String>>,
) -> Option<Vec<String>> {
    for start in graph.keys() {
        // Breadth first, so that the shortest cycle through `start` is reported.
        let mut paths = vec![vec![start.clone()]];
        let mut seen = BTreeSet::new();
        while !paths.is_empty() {
            let mut longer = Vec::new();
            for path in paths {
                let last = path.last()?;
                for next in graph.get(last).into_iter().flatten() {
                    if next == start {
                        let full = |name: &String| {
                            [parent, std::slice::from_ref(name)].concat().join("::")
                        };
                        return Some(path.iter().chain([next]).map(full).collect());
                    }
                    if seen.insert(next.clone()) {
                        longer.push([path.clone(), vec![next.clone()]].concat());
                    }
                }
            }
            paths = longer;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{super::source::tests::modules, *};

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let cycles = cycles(&modules(files));
        cycles.iter().map(|cycle| cycle.join(" -> ")).collect()
    }

    #[test]
    fn cycles_are_found_through_reexports_paths_and_macros() {
        let lib = ("lib.rs", "mod a; mod b; mod c; pub use b::B; pub use c::*;");
        let b = ("b.rs", "pub struct B; fn f() { vec![super::c::C]; }");
        let c = ("c.rs", "pub struct C; pub fn g() { crate::a::h() }");
        assert_eq!(
            found(&[lib, ("a.rs", "use crate::B;"), b, c]),
            ["a -> b -> c -> a"]
        );
        let a = ("a.rs", "fn h() { crate::C; }");
        assert_eq!(found(&[lib, a, b, c]), ["a -> c -> a"]);
        assert_eq!(found(&[lib, ("a.rs", ""), b, c]), [] as [&str; 0]);
    }

    #[test]
    fn a_module_may_use_its_children_and_its_parents() {
        let files = [
            ("lib.rs", "mod a; pub struct R;"),
            ("a/mod.rs", "mod x; mod y; use x::X; pub struct A;"),
            ("a/x.rs", "use super::A; use crate::R; pub struct X;"),
            ("a/y.rs", "use super::x::X;"),
        ];
        assert_eq!(found(&files), [] as [&str; 0]);
        let mut cyclic = files;
        cyclic[2].1 = "pub struct X; fn f() -> super::y::Y {}";
        assert_eq!(found(&cyclic), ["a::x -> a::y -> a::x"]);
    }

    #[test]
    fn nested_modules_count_for_the_sibling_that_contains_them() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod x;"),
            ("a/x.rs", "use crate::b::B; pub struct X;"),
            ("b.rs", "pub struct B(crate::a::x::X);"),
        ];
        assert_eq!(found(&files), ["a -> b -> a"]);
    }
}
