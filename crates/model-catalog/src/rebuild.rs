//! Brings the database in line with the directories of models on disk.

use std::collections::{BTreeMap, BTreeSet};

use diagnostics::{Diagnostic, escape};
use state_files::{ModelDir, ModelDirs, ModelRecord, Stored};

use crate::{
    database::{ModelRow, Rows},
    errors,
};

/// What changed, as sentences for users.
pub(crate) fn reconcile(rows: &mut Rows, dirs: &ModelDirs) -> Result<Vec<String>, Diagnostic> {
    let known: BTreeMap<String, ModelRow> = rows
        .all()?
        .into_iter()
        .filter_map(|row| Some((row.directory.clone()?, row)))
        .collect();
    let existing = dirs.existing()?;
    let names: BTreeSet<String> = existing.iter().map(ModelDir::name).collect();
    let mut notices = Vec::new();
    for (directory, row) in &known {
        if !names.contains(directory) {
            rows.forget(&row.model)?;
            notices.push(errors::directory_gone(&row.model, dirs, directory));
        }
    }
    for dir in existing {
        if known.contains_key(&dir.name()) {
            continue;
        }
        match ModelRecord::read(&dir)? {
            Stored::Intact(record) => {
                let newer = match rows.find(&record.model)? {
                    Some(other) => other.added_at < record.added_at,
                    None => true,
                };
                if newer {
                    add(rows, &dir, &record)?;
                    notices.push(format!("found {} on disk", record.model));
                }
            }
            // A download that did not complete.
            Stored::Missing => {}
            Stored::Damaged(why) => notices.push(format!(
                "{} cannot be read and is ignored: {why}",
                escape(&dir.record().to_string_lossy())
            )),
        }
    }
    Ok(notices)
}

/// Adds a model whose files are complete.
pub(crate) fn add(
    rows: &mut Rows,
    dir: &ModelDir,
    record: &ModelRecord,
) -> Result<ModelRow, Diagnostic> {
    let row = ModelRow {
        model: record.model.clone(),
        directory: Some(dir.name()),
        entry: record.entry.clone(),
        revision: record.revision.clone(),
        sha256: record.sha256.clone(),
        size_bytes: record.size_bytes(),
        safetensors: record.entry.is_empty(),
        architecture: record.architecture.clone(),
        quantization: record.quantization.clone(),
        context_length: record.context_length,
        parameters: record.parameters,
        sampling: record.sampling.clone(),
        added_at: record.added_at,
        last_used_at: None,
        problem: None,
        loaded: None,
    };
    rows.save(&row, &record.files, Some(&record.requested))?;
    Ok(row)
}
