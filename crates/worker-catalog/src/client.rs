use std::{
    fs, io,
    path::{Path, PathBuf},
};

use daemon_shell::{blocking, write_atomically};
use diagnostics::Diagnostic;
use input_validation::PackageId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::{
    INDEX, SIGNATURE, errors,
    fetch::Location,
    index::{Index, MAX_INDEX_BYTES},
    key::CatalogKey,
    package::{Package, PackageFile},
};

/// Maximum size of a signature.
const MAX_SIGNATURE_BYTES: u64 = 4 << 10;

/// A catalog, and the newest index that was received from it.
#[derive(Debug)]
pub struct Catalog {
    location: Location,
    key: CatalogKey,
    /// File with the newest index that was received.
    memory: PathBuf,
    /// One at a time compares with the memory and replaces it.
    turn: Mutex<()>,
}

/// An index and its signature, as they were received.
#[derive(Serialize, Deserialize)]
struct Signed {
    index: String,
    signature: String,
}

impl Catalog {
    /// Opens the catalog at `location`, which is signed with `key`. In the directory `memory`, the
    /// newest index of each catalog is kept, so that an older one is noticed.
    ///
    /// Errors: `STATE_UNUSABLE`, `DISK_FULL`.
    pub fn open(location: Location, key: CatalogKey, memory: &Path) -> Result<Self, Diagnostic> {
        fs::create_dir_all(memory).map_err(|cause| {
            Diagnostic::storage("cannot create the directory of the catalogs", &cause)
        })?;
        // A copy of the catalog elsewhere has the same history: only the key counts.
        let name = sha256(key.base64().as_bytes());
        let memory = memory.join(format!("{}.json", &name[..16]));
        Ok(Self {
            location,
            key,
            memory,
            turn: Mutex::default(),
        })
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The key that it is signed with.
    pub fn key(&self) -> &CatalogKey {
        &self.key
    }

    /// Receives the current index.
    ///
    /// Errors: `CATALOG_UNTRUSTED` if it is not signed with the key, or is older than the newest
    /// one that was received; `DOWNLOAD_FAILED`; `VERSION_INCOMPATIBLE` for a newer format.
    pub async fn index(&self) -> Result<Index, Diagnostic> {
        let _turn = self.turn.lock().await;
        let content = self.location.read(INDEX, MAX_INDEX_BYTES).await?;
        let signature = self.location.read(SIGNATURE, MAX_SIGNATURE_BYTES).await?;
        let received = self.signed(content, signature)?;
        let index = self.verify(&received)?;
        let Some((known, newest)) = self.remembered().await? else {
            self.remember(&received).await?;
            return Ok(index);
        };
        if index.sequence < newest.sequence {
            return Err(errors::rollback(
                &self.place(),
                index.sequence,
                newest.sequence,
            ));
        }
        if received.index != known.index {
            if index.sequence == newest.sequence {
                return Err(errors::replaced(&self.place(), index.sequence));
            }
            self.remember(&received).await?;
        }
        Ok(index)
    }

    /// Returns the newest index that was received, without asking for it again.
    ///
    /// Errors: `STATE_UNUSABLE`.
    pub async fn newest_received(&self) -> Result<Option<Index>, Diagnostic> {
        Ok(self.remembered().await?.map(|(_, index)| index))
    }

    /// Receives the file of a package.
    ///
    /// Errors: `CHECKSUM_MISMATCH` if it differs from the index; `DOWNLOAD_FAILED`.
    pub async fn file(&self, id: &PackageId, file: &PackageFile) -> Result<Vec<u8>, Diagnostic> {
        let path = format!("workers/{id}/{}", file.name);
        let content = self.location.read(&path, file.bytes).await?;
        let digest = sha256(&content);
        if digest == file.sha256 {
            Ok(content)
        } else {
            Err(errors::digest(&path, &file.sha256, &digest))
        }
    }

    /// Copies the recipe and the local files of a package into the directory `into`.
    ///
    /// Errors: those of [`Self::file`], and then nothing was written; `STATE_UNUSABLE`,
    /// `DISK_FULL`.
    pub async fn fetch(&self, package: &Package, into: &Path) -> Result<(), Diagnostic> {
        let mut files = Vec::new();
        for file in &package.files {
            files.push((into.join(&file.name), self.file(&package.id, file).await?));
        }
        blocking(move || {
            files
                .iter()
                .try_for_each(|(path, content)| write_atomically(path, content))
        })
        .await
    }

    fn place(&self) -> String {
        self.location.to_string()
    }

    fn signed(&self, content: Vec<u8>, signature: Vec<u8>) -> Result<Signed, Diagnostic> {
        let text = |bytes| {
            String::from_utf8(bytes)
                .map_err(|e| errors::not_signed(&self.place(), e, self.key.base64()))
        };
        Ok(Signed {
            index: text(content)?,
            signature: text(signature)?,
        })
    }

    /// The signature is verified before the content is parsed.
    fn verify(&self, signed: &Signed) -> Result<Index, Diagnostic> {
        let content = signed.index.as_bytes();
        self.key
            .verify(content, &signed.signature)
            .map_err(|cause| errors::not_signed(&self.place(), cause, self.key.base64()))?;
        Index::parse(&self.place(), content)
    }

    /// What was received before, unless it cannot be used.
    async fn remembered(&self) -> Result<Option<(Signed, Index)>, Diagnostic> {
        let path = self.memory.clone();
        let content = blocking(move || match fs::read(path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let what = "cannot read the newest index of the catalog";
                Err(Diagnostic::storage(what, &error))
            }
        });
        let Some(content) = content.await? else {
            return Ok(None);
        };
        let signed = serde_json::from_slice::<Signed>(&content).ok();
        let known = signed.and_then(|signed| {
            let index = self.verify(&signed).ok()?;
            Some((signed, index))
        });
        if known.is_none() {
            tracing::warn!("the newest index of the catalog that was received is damaged");
        }
        Ok(known)
    }

    async fn remember(&self, signed: &Signed) -> Result<(), Diagnostic> {
        let content = serde_json::to_vec(signed).map_err(Diagnostic::internal)?;
        let path = self.memory.clone();
        blocking(move || write_atomically(&path, &content)).await
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
