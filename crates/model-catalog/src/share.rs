//! The files of fetched models, for other nodes that copy them.

use std::{
    fs::{self, File},
    path::Path,
};

use diagnostics::Diagnostic;
use hive_contract::{ContentQuery, ManifestEntry, ManifestQuery, ModelManifest};
use state_files::ModelFile;

use crate::{ModelCatalog, database::ModelRow, errors};

impl ModelCatalog {
    /// Lists the files of a fetched model.
    ///
    /// Errors: `MODEL_NOT_FOUND` if the model was not fetched, at this revision, or is damaged.
    pub fn manifest(&self, query: &ManifestQuery) -> Result<ModelManifest, Diagnostic> {
        let rows = self.rows();
        let row = rows.find(&query.model)?;
        let row = row
            .filter(|row| row.directory.is_some() && row.problem.is_none())
            .ok_or_else(|| errors::nothing_to_copy(&query.model))?;
        if let Some(revision) = &query.revision
            && *revision != row.revision
        {
            return Err(errors::other_revision(
                &query.model,
                revision,
                &row.revision,
            ));
        }
        let entry = |file: ModelFile| ManifestEntry {
            weights: is_weights(&row, &file.path),
            path: file.path,
            size_bytes: file.size_bytes,
            sha256: file.sha256,
        };
        let files = rows.files(&row.model)?.into_iter().map(entry).collect();
        Ok(ModelManifest {
            model: row.model,
            revision: row.revision,
            entry: row.entry,
            files,
        })
    }

    /// Opens a file of a fetched model, and returns it with its size. The SHA-256 is the one that
    /// the file had when it was fetched.
    ///
    /// Errors: `MODEL_NOT_FOUND` unless the catalog has exactly this file.
    pub fn open_file(&self, query: &ContentQuery) -> Result<(File, u64), Diagnostic> {
        let missing = || errors::no_such_content(query);
        let (directory, known) = {
            let rows = self.rows();
            let row = rows.find(&query.model)?.ok_or_else(missing)?;
            let files = rows.files(&row.model)?.into_iter();
            let mut known = files.filter(|file| file.path == query.path);
            (row.directory.ok_or_else(missing)?, known.next())
        };
        let known = known
            .filter(|file| file.sha256 == query.sha256)
            .ok_or_else(missing)?;
        let files = self.dirs().named(&directory).files();
        let path = files.join(&known.path);
        if !is_below(&path, &files) {
            return Err(missing());
        }
        let file = File::open(&path).map_err(|e| errors::storage(&path, &e))?;
        let metadata = file.metadata().map_err(|e| errors::storage(&path, &e))?;
        if !metadata.is_file() || metadata.len() != known.size_bytes {
            return Err(missing());
        }
        Ok((file, known.size_bytes))
    }
}

fn is_weights(row: &ModelRow, path: &str) -> bool {
    let extension = Path::new(path).extension();
    let has = |name: &str| extension.is_some_and(|e| e.eq_ignore_ascii_case(name));
    match row.entry.as_str() {
        "" => has("safetensors"),
        entry => path == entry || has("gguf"),
    }
}

/// Whether a file is below a directory, and no link that someone put there leads elsewhere.
fn is_below(path: &Path, directory: &Path) -> bool {
    match (fs::canonicalize(path), fs::canonicalize(directory)) {
        (Ok(path), Ok(directory)) => path.starts_with(directory),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::fs::symlink};

    use diagnostics::Code;

    use super::*;
    use crate::testing::{Fixture, model};

    fn manifest_query(name: &str, revision: Option<&str>) -> ManifestQuery {
        ManifestQuery {
            model: model(name),
            revision: revision.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn a_fetched_model_has_a_manifest_and_its_files_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::new(dir.path());
        fixture.pull("hf:org/repo").await.unwrap();
        let query = manifest_query("hf:org/repo", Some("c1"));
        let manifest = fixture.catalog.manifest(&query).unwrap();
        assert_eq!(manifest.model, model("hf:org/repo:Q8_0"));
        assert_eq!(manifest.entry, "sub/model.gguf");
        let weights: Vec<_> = manifest.files.iter().map(|f| f.weights).collect();
        assert_eq!(weights, [false, true]);
        for file in &manifest.files {
            let query = ContentQuery {
                model: manifest.model.clone(),
                path: file.path.clone(),
                sha256: file.sha256.clone(),
            };
            let (mut opened, size) = fixture.catalog.open_file(&query).unwrap();
            let mut content = Vec::new();
            opened.read_to_end(&mut content).unwrap();
            assert_eq!((content.len() as u64, size), (size, file.size_bytes));
        }
    }

    #[tokio::test]
    async fn only_files_of_the_catalog_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::new(dir.path());
        fixture.pull("hf:org/repo").await.unwrap();
        let manifest = fixture
            .catalog
            .manifest(&manifest_query("hf:org/repo", None))
            .unwrap();
        let notes = &manifest.files[0];
        let query = |name: &str, path: &str, sha256: &str| ContentQuery {
            model: model(name),
            path: path.to_owned(),
            sha256: sha256.to_owned(),
        };
        let refused = |query: ContentQuery| {
            let error = fixture.catalog.open_file(&query).unwrap_err();
            assert_eq!(error.code, Code::ModelNotFound, "{query:?}: {error}");
        };
        let record = fixture.catalog.dirs().of(&manifest.model, "c1").record();
        assert!(record.is_file());
        let record = record.file_name().unwrap().to_str().unwrap();
        let above = format!("../{record}");
        for path in [&*above, record, "/etc/passwd", "", "sub", "."] {
            refused(query("hf:org/repo", path, &notes.sha256));
        }
        refused(query("hf:org/repo", &notes.path, &"0".repeat(64)));
        refused(query("hf:org/other", &notes.path, &notes.sha256));
        refused(query("builtin:haiku", &notes.path, &notes.sha256));
        // A link in place of the file leads elsewhere.
        let good = query("hf:org/repo", &notes.path, &notes.sha256);
        let row = fixture.catalog.rows().find(&good.model).unwrap().unwrap();
        let directory = fixture.catalog.dirs().named(&row.directory.unwrap());
        let path = directory.files().join(&notes.path);
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        refused(good.clone());
        // A file of another size is not what was fetched.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "other").unwrap();
        refused(good);
    }

    #[tokio::test]
    async fn what_is_not_fetched_or_is_damaged_is_not_offered() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::new(dir.path());
        let refused = |name: &str, revision: Option<&str>| {
            let query = manifest_query(name, revision);
            let error = fixture.catalog.manifest(&query).unwrap_err();
            assert_eq!(error.code, Code::ModelNotFound);
            error.message
        };
        refused("hf:org/repo", None);
        refused("builtin:haiku", None);
        fixture.pull("hf:org/repo").await.unwrap();
        let message = refused("hf:org/repo", Some("c2"));
        assert!(message.contains("`c1`, not `c2`"), "{message}");
        let canonical = model("hf:org/repo:Q8_0");
        let mut rows = fixture.catalog.rows();
        rows.set_problem(&canonical, Some("damaged")).unwrap();
        drop(rows);
        refused("hf:org/repo", None);
    }
}
