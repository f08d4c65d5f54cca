//! The product code of a crate: its modules, without tests, and the paths that each uses.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{
    Attribute, Expr, ExprLit, Item, ItemMod, ItemUse, Lit, Meta, MetaNameValue, UseTree, Visibility,
};

/// Segments of a path as written: `crate`, `a`, `B`.
pub(super) type Segments = Vec<String>;

/// A module: a file, or an inline `mod`.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Where it is defined.
    pub(super) file: PathBuf,
    /// Names of its direct children.
    pub(super) children: Vec<String>,
    /// `use` declarations: the name that each brings into scope, and the path it names. A
    /// glob import has the name `*`.
    pub(super) uses: Vec<(String, Segments)>,
    /// Those of `uses` that are visible outside the module.
    pub(super) reexports: Vec<(String, Segments)>,
    /// Paths with two or more segments in all other code, macros included.
    pub(super) paths: Vec<Segments>,
    /// Names of the items that it defines.
    pub(super) items: Vec<String>,
}

/// The modules of a target, by their path from the root: `[]`, `["a"]`, `["a", "b"]`.
pub(super) type Modules = BTreeMap<Segments, Module>;

/// Reads the library and the binary of a crate, each if it exists.
pub(super) fn of_crate(dir: &Path) -> Result<Vec<Modules>> {
    let mut targets = Vec::new();
    for root in ["src/lib.rs", "src/main.rs"] {
        let file = dir.join(root);
        if file.exists() {
            let mut modules = Modules::new();
            read_file(&file, &dir.join("src"), Vec::new(), &mut modules)?;
            targets.push(modules);
        }
    }
    Ok(targets)
}

/// Reads the module at `path`, whose child modules are files in `directory`.
fn read_file(file: &Path, directory: &Path, path: Segments, modules: &mut Modules) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let parsed = syn::parse_file(&text).with_context(|| file.display().to_string())?;
    read_items(parsed.items, file, directory, path, modules)
}

fn read_items(
    items: Vec<Item>,
    file: &Path,
    directory: &Path,
    path: Segments,
    modules: &mut Modules,
) -> Result<()> {
    let mut module = Module {
        file: file.to_owned(),
        ..Module::default()
    };
    for item in items {
        match item {
            Item::Mod(child) if !is_test(&child.attrs) => {
                module.children.push(child.ident.to_string());
                read_child(child, file, directory, &path, modules)?;
            }
            Item::Use(item) if !is_test(&item.attrs) => add_uses(&item, &mut module),
            Item::Mod(_) | Item::Use(_) => {}
            item if !is_test(attributes(&item)) => {
                module.items.extend(name(&item));
                collect_paths(item.into_token_stream(), &mut module.paths);
            }
            _ => {}
        }
    }
    modules.insert(path, module);
    Ok(())
}

fn read_child(
    child: ItemMod,
    file: &Path,
    directory: &Path,
    parent: &Segments,
    modules: &mut Modules,
) -> Result<()> {
    let name = child.ident.to_string();
    let path = [parent.clone(), vec![name.clone()]].concat();
    let children = directory.join(&name);
    if let Some((_, items)) = child.content {
        return read_items(items, file, &children, path, modules);
    }
    if let Some(named) = path_attribute(&child.attrs) {
        let file = file.parent().unwrap_or(directory).join(named);
        let children = file.parent().unwrap_or(directory).to_owned();
        return read_file(&file, &children, path, modules);
    }
    let flat = directory.join(format!("{name}.rs"));
    let nested = children.join("mod.rs");
    let file = if flat.exists() { flat } else { nested };
    read_file(&file, &children, path, modules)
}

/// The file of `#[path = "…"]`.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes
        .iter()
        .find_map(|attribute| match &attribute.meta {
            Meta::NameValue(MetaNameValue {
                path,
                value:
                    Expr::Lit(ExprLit {
                        lit: Lit::Str(file),
                        ..
                    }),
                ..
            }) if path.is_ident("path") => Some(file.value()),
            _ => None,
        })
}

fn add_uses(item: &ItemUse, module: &mut Module) {
    let mut uses = Vec::new();
    flatten(&item.tree, &mut Vec::new(), &mut uses);
    if !matches!(item.vis, Visibility::Inherited) {
        module.reexports.extend(uses.clone());
    }
    module.uses.extend(uses);
}

/// Expands `a::{b, c as d, e::*}` to its paths.
fn flatten(tree: &UseTree, prefix: &mut Segments, uses: &mut Vec<(String, Segments)>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, uses);
            prefix.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            let last = prefix.last().cloned().unwrap_or_default();
            uses.push((last, prefix.clone()));
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            uses.push((name.clone(), [prefix.clone(), vec![name]].concat()));
        }
        UseTree::Rename(rename) => {
            let path = [prefix.clone(), vec![rename.ident.to_string()]].concat();
            uses.push((rename.rename.to_string(), path));
        }
        UseTree::Glob(_) => uses.push(("*".to_owned(), prefix.clone())),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, prefix, uses);
            }
        }
    }
}

/// Finds identifiers that `::` joins, in code and in the arguments of macros.
fn collect_paths(tokens: TokenStream, paths: &mut Vec<Segments>) {
    let mut path: Segments = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    finish(&mut path, paths);
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Group(group) => {
                finish(&mut path, paths);
                colons = 0;
                collect_paths(group.stream(), paths);
            }
            _ => {
                finish(&mut path, paths);
                colons = 0;
            }
        }
    }
    finish(&mut path, paths);
}

fn finish(path: &mut Segments, paths: &mut Vec<Segments>) {
    let path = std::mem::take(path);
    if path.len() > 1 {
        paths.push(path);
    }
}

/// Whether an item exists in tests only: `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#[test]`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.meta.to_token_stream().to_string();
        let words: Vec<&str> = text
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .collect();
        let cfg_test = words.first() == Some(&"cfg") && words.contains(&"test");
        let negated = words.contains(&"not") || words.contains(&"any");
        words == ["test"] || (cfg_test && !negated)
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Parses modules from their path and text.
    pub fn modules(files: &[(&str, &str)]) -> Modules {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = directory.path().join("src").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        of_crate(directory.path()).unwrap().remove(0)
    }

    fn path(text: &str) -> Segments {
        text.split("::").map(str::to_owned).collect()
    }

    #[test]
    fn code_after_the_tests_is_read_and_tests_are_not() {
        let modules = modules(&[
            (
                "lib.rs",
                "mod a;
                 #[cfg(test)] mod tests { fn t() { x::in_tests(); } }
                 #[cfg(all(test, unix))] fn u() { x::in_tests(); }
                 fn f() { println!(\"{}\", x::in_macro()); }",
            ),
            (
                "a.rs",
                "pub use b::{self, c as d, e::*}; mod b { fn g() { y::h(); } }",
            ),
        ]);
        assert_eq!(modules[&vec![]].paths, [path("x::in_macro")]);
        let a = &modules[&path("a")];
        assert_eq!(a.children, ["b"]);
        assert_eq!(
            a.reexports,
            [
                ("b".to_owned(), path("b")),
                ("d".to_owned(), path("b::c")),
                ("*".to_owned(), path("b::e")),
            ]
        );
        assert_eq!(modules[&path("a::b")].paths, [path("y::h")]);
    }
}
