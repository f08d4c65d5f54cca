//! Reads PKGBUILDs, the recipes of packages, without running them.
//!
//! A PKGBUILD is a bash script (PKGBUILD(5)). Most of them only assign values and define
//! functions, which [`Script::evaluate`] follows. What it does not follow exactly as bash does,
//! it names: such a script must be evaluated by bash in a sandbox, and
//! [`Variables::from_declarations`] reads what bash prints. [`Recipe::new`] checks the values
//! and gives them types.

#![warn(missing_docs)]

mod errors;
mod expand;
mod glob;
mod parameter;
mod recipe;
mod script;
mod source;
mod variables;

pub use errors::{NeedsBash, PkgbuildError};
pub use recipe::{Architecture, Checksum, Choice, Recipe, RecipeSource, Step, Version};
pub use script::Script;
pub use source::{GitReference, Source, SourceKind};
pub use variables::{Value, Variables};
