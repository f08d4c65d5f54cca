//! Finds the types with OpenAPI schemas in the sources.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Group, TokenStream, TokenTree};

/// Returns the files that define a type with a schema, by the name of the type.
pub fn definitions() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut definitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for directory in ["crates", "bin"] {
        for file in rust_files(&root.join(directory)) {
            let text = fs::read_to_string(&file).unwrap();
            let mut names = Vec::new();
            collect(text.parse().unwrap(), &mut names);
            for name in names {
                let path = file.strip_prefix(&root).unwrap().display().to_string();
                definitions.entry(name).or_default().push(path);
            }
        }
    }
    definitions
}

/// The files below the `src` directories of all crates.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.iter().any(|part| part == "src")
        {
            files.push(path);
        }
    }
    files
}

/// Collects the names of types that derive `ToSchema`, and of those that are defined or
/// described by the macros below.
fn collect(tokens: TokenStream, names: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut derived = false;
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                derived |= is_derive(group);
                match macro_name(&tokens[..i]).as_deref() {
                    // One type, whose name follows documentation comments.
                    Some("impl_schema" | "string_schema" | "name") => {
                        names.extend(idents(group).into_iter().next());
                    }
                    // Types, each between its documentation and `=`.
                    Some("schema_types") => names.extend(before_equals_signs(group)),
                    _ => {}
                }
                collect(group.stream(), names);
            }
            TokenTree::Ident(keyword) if *keyword == "struct" || *keyword == "enum" => {
                if let (true, Some(TokenTree::Ident(name))) = (derived, tokens.get(i + 1)) {
                    names.push(name.to_string());
                }
                derived = false;
            }
            TokenTree::Ident(keyword) if *keyword == "ToSchema" => {
                if let [TokenTree::Ident(for_), TokenTree::Ident(name)] =
                    &tokens[i + 1..tokens.len().min(i + 3)]
                    && *for_ == "for"
                {
                    names.push(name.to_string());
                }
            }
            _ => {}
        }
    }
}

fn is_derive(group: &Group) -> bool {
    let mut tokens = group.stream().into_iter();
    matches!(tokens.next(), Some(TokenTree::Ident(name)) if name == "derive")
        && matches!(tokens.next(), Some(TokenTree::Group(traits))
            if traits.to_string().contains("ToSchema"))
}

/// Returns the name of the macro whose arguments follow these tokens.
fn macro_name(before: &[TokenTree]) -> Option<String> {
    match before {
        [.., TokenTree::Ident(name), TokenTree::Punct(mark)] if mark.as_char() == '!' => {
            Some(name.to_string())
        }
        _ => None,
    }
}

fn idents(group: &Group) -> Vec<String> {
    let tokens = group.stream().into_iter();
    tokens
        .filter_map(|token| match token {
            TokenTree::Ident(ident) => Some(ident.to_string()),
            _ => None,
        })
        .collect()
}

fn before_equals_signs(group: &Group) -> Vec<String> {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    tokens
        .windows(2)
        .filter_map(|pair| match pair {
            [TokenTree::Ident(name), TokenTree::Punct(sign)] if sign.as_char() == '=' => {
                Some(name.to_string())
            }
            _ => None,
        })
        .collect()
}
