use std::{fs, path::Path};

use anyhow::{Result, anyhow};
use minisign::SecretKey;
use worker_catalog::{FORMAT, INDEX, Index, SIGNATURE};

use crate::Source;

/// Writes the catalog to the directory `out`, and signs it if there is a key.
pub fn write(sources: &[Source], out: &Path, sequence: u64, key: Option<&SecretKey>) -> Result<()> {
    let packages = sources.iter().map(|source| source.package.clone());
    let index = Index {
        format: FORMAT,
        sequence,
        packages: packages.collect(),
    };
    let content = serde_json::to_vec_pretty(&index)?;
    Index::parse("that is written", &content).map_err(|e| anyhow!("{e}"))?;
    for Source { package, files } in sources {
        let directory = out.join("workers").join(package.id.as_str());
        fs::create_dir_all(&directory)?;
        for (name, content) in files {
            fs::write(directory.join(name), content)?;
        }
        let entry = serde_json::to_vec_pretty(package)?;
        fs::write(directory.join("index.json"), entry)?;
    }
    write_index(&content, out, key)
}

/// Writes an index as it is, and signs it if there is a key.
pub fn write_index(content: &[u8], out: &Path, key: Option<&SecretKey>) -> Result<()> {
    fs::create_dir_all(out.join("workers"))?;
    if let Some(key) = key {
        let comment = Some("rbee catalog of packages of workers");
        let signature = minisign::sign(None, key, content, comment, comment)?;
        fs::write(out.join(SIGNATURE), signature.into_string())?;
    }
    fs::write(out.join(INDEX), content)?;
    Ok(())
}
