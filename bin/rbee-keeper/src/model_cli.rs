use std::path::PathBuf;

use clap::{Args, Subcommand};
use input_validation::{ModelAlias, ModelRef, NodeName, byte_count};

use crate::{
    model,
    values::{parse, with_hint},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// List the models of all nodes
    List {
        /// List only models of this source: builtin, hf, ollama or file
        #[arg(long, value_name = "SOURCE", value_parser = ["builtin", "hf", "ollama", "file"])]
        vendor: Option<String>,
    },
    /// Show a model, whether or not it is on the node
    Show(ModelArgs),
    /// Fetch a model
    Pull(Pull),
    /// Remove the files of a model; a file of your own is forgotten and stays on disk
    Remove(ModelArgs),
    /// Compare the files of a model with their SHA-256
    Verify(ModelArgs),
    /// Remove the models that were not used for the longest time
    #[command(
        after_help = "Examples:\n  rbee-keeper model prune --max-size 50G --dry-run\n  rbee-keeper model prune --partial"
    )]
    Prune(Prune),
    /// Show what the newest revision of a model changes
    Update {
        #[command(flatten)]
        model: ModelArgs,
        /// Fetch the newest revision
        #[arg(long)]
        apply: bool,
    },
    /// List, set or remove other names of models
    #[command(
        after_help = "Examples:\n  rbee-keeper model alias small hf:org/repo:Q4_K_M\n  rbee-keeper model alias small --remove"
    )]
    Alias(Alias),
    /// Write a copy of the catalog's database to a file on the node
    Backup(Copy),
    /// Replace the catalog's database with a copy
    Restore(Copy),
}

#[derive(Debug, Args)]
pub(crate) struct NodeArg {
    /// Node whose models are meant [default: local]
    #[arg(long, value_name = "NAME", value_parser = parse::<NodeName>)]
    pub(crate) node: Option<NodeName>,
}

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Model: hf:org/repo, ollama:name:tag, an alias, or the path of a file
    #[arg(value_parser = |text: &str| model::parse(text).map_err(with_hint))]
    pub(crate) model: ModelRef,
    #[command(flatten)]
    pub(crate) node: NodeArg,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbee-keeper pull hf:org/repo\n  rbee-keeper pull hf:org/repo:Q4_K_M\n  rbee-keeper pull ollama:smollm2:135m"
)]
pub(crate) struct Pull {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Fetch this revision: a branch, tag or commit [default: the one that was fetched before,
    /// else the newest]
    #[arg(long, value_name = "REVISION", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) revision: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true, args = ["max_size", "partial"])]
pub(crate) struct Prune {
    /// Keep models of at most this size together, for example 50G
    #[arg(long, value_name = "SIZE", value_parser = byte_count)]
    pub(crate) max_size: Option<u64>,
    /// Remove what downloads that did not complete have left
    #[arg(long)]
    pub(crate) partial: bool,
    /// Only show what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) node: NodeArg,
}

#[derive(Debug, Args)]
pub(crate) struct Alias {
    /// The other name; without it, all are listed
    #[arg(value_parser = parse::<ModelAlias>)]
    pub(crate) name: Option<ModelAlias>,
    /// Model that the name stands for
    #[arg(value_parser = |text: &str| model::parse(text).map_err(with_hint))]
    pub(crate) model: Option<ModelRef>,
    /// Remove the name
    #[arg(long, requires = "name", conflicts_with = "model")]
    pub(crate) remove: bool,
    #[command(flatten)]
    pub(crate) node: NodeArg,
}

#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// File of the copy, on the node
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) node: NodeArg,
}
