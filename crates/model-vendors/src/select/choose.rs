use super::{Candidate, Candidates, GgufModel, INDEX, Listing, SAFETENSORS, SINGLE};
use crate::label;

/// Why no model of a repository was selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotSelected {
    /// No file, or no type of weights, has the name.
    NoSuch(String),
    /// Several models match; what selects each of them.
    Ambiguous(Vec<String>),
    /// The named file is not regular.
    Irregular(String),
    /// The named file provides vision only.
    Projector(String),
    /// A part of the model is missing.
    Incomplete { path: String, missing: String },
    /// The repository has no weights in a known format.
    NoWeights,
}

/// Selects a model of a repository: the one that the user names by a file or a type of weights,
/// or the preferred one that fits in `memory_bytes`.
pub(crate) fn choose(
    listing: &Listing,
    candidates: &Candidates,
    named: Option<&str>,
    memory_bytes: Option<u64>,
) -> Result<Candidate, NotSelected> {
    let chosen = match named {
        Some(named) => choose_named(listing, candidates, named)?,
        None => choose_preferred(candidates, memory_bytes)?,
    };
    if let Candidate::Gguf(GgufModel {
        files,
        missing: Some(missing),
        ..
    }) = &chosen
    {
        return Err(NotSelected::Incomplete {
            path: files.first().map_or_else(String::new, |f| f.path.clone()),
            missing: missing.clone(),
        });
    }
    Ok(chosen)
}

fn choose_named(
    listing: &Listing,
    candidates: &Candidates,
    named: &str,
) -> Result<Candidate, NotSelected> {
    let has_file = |model: &&GgufModel| model.files.iter().any(|file| file.path == named);
    if let Some(model) = candidates.gguf.iter().find(has_file) {
        return Ok(Candidate::Gguf(model.clone()));
    }
    let is_shard = || {
        let is_name = named.starts_with("model-") && named.ends_with(".safetensors");
        is_name && listing.files.contains_key(named)
    };
    if named.eq_ignore_ascii_case(SAFETENSORS) || [SINGLE, INDEX].contains(&named) || is_shard() {
        let model = candidates.safetensors.clone();
        return model
            .map(Candidate::Safetensors)
            .ok_or_else(|| NotSelected::NoSuch(named.to_owned()));
    }
    if listing.irregular.iter().any(|path| path == named) {
        return Err(NotSelected::Irregular(named.to_owned()));
    }
    if candidates.projectors.iter().any(|path| path == named) {
        return Err(NotSelected::Projector(named.to_owned()));
    }
    let wanted = label::normalized(named);
    let labelled = |model: &&GgufModel| model.label.as_deref() == Some(wanted.as_str());
    let mut found: Vec<_> = candidates.gguf.iter().filter(labelled).collect();
    let is_file = named.contains('/') || named.to_ascii_lowercase().ends_with(".gguf");
    if found.is_empty() && !is_file {
        let has_word = |model: &&GgufModel| label::has_word(model.path(), named);
        found = candidates.gguf.iter().filter(has_word).collect();
    }
    one_of(candidates, &found).ok_or_else(|| NotSelected::NoSuch(named.to_owned()))?
}

/// `None` if nothing was found.
fn one_of(candidates: &Candidates, found: &[&GgufModel]) -> Option<Result<Candidate, NotSelected>> {
    match found {
        [] => None,
        [model] => Some(Ok(Candidate::Gguf((*model).clone()))),
        several => {
            let selections = several.iter().map(|model| candidates.selection_of(model));
            Some(Err(NotSelected::Ambiguous(selections.collect())))
        }
    }
}

fn choose_preferred(
    candidates: &Candidates,
    memory_bytes: Option<u64>,
) -> Result<Candidate, NotSelected> {
    let complete: Vec<_> = candidates
        .gguf
        .iter()
        .filter(|m| m.missing.is_none())
        .collect();
    let fits = |model: &&GgufModel| memory_bytes.is_none_or(|memory| model.bytes() <= memory);
    let fitting: Vec<_> = complete.iter().copied().filter(fits).collect();
    // If nothing fits, the user sees how much the preferred model needs.
    for models in [&fitting, &complete] {
        if let Some(chosen) = preferred_of(candidates, models) {
            return chosen;
        }
    }
    if let Some(model) = &candidates.safetensors {
        return Ok(Candidate::Safetensors(model.clone()));
    }
    // The header says what is not supported.
    let smallest = candidates.gguf.iter().min_by_key(|model| model.bytes());
    let smallest = smallest.map(|model| Candidate::Gguf(model.clone()));
    smallest.ok_or(NotSelected::NoWeights)
}

fn preferred_of(
    candidates: &Candidates,
    models: &[&GgufModel],
) -> Option<Result<Candidate, NotSelected>> {
    for label in label::PREFERRED {
        let with_label = |model: &&&GgufModel| model.label.as_deref() == Some(label);
        let found: Vec<_> = models.iter().filter(with_label).copied().collect();
        if let Some(chosen) = one_of(candidates, &found) {
            return Some(chosen);
        }
    }
    // The largest of the other types.
    let labelled = models
        .iter()
        .copied()
        .filter(|m| m.label.is_some() && m.is_runnable());
    let is_mixed = |model: &&GgufModel| model.label.as_deref().is_some_and(label::is_mixed);
    let best = labelled.max_by_key(|model| (!is_mixed(model), model.bytes()));
    if let Some(best) = best {
        let same: Vec<_> = models
            .iter()
            .copied()
            .filter(|m| m.label == best.label)
            .collect();
        return one_of(candidates, &same);
    }
    let unlabelled: Vec<_> = models
        .iter()
        .copied()
        .filter(|m| m.label.is_none())
        .collect();
    one_of(candidates, &unlabelled)
}
