use std::fs;

use diagnostics::Diagnostic;
use minisign_verify::{PublicKey, Signature};

use crate::{errors, fetch::Location};

/// The public key of a catalog, of minisign.
#[derive(Debug, Clone)]
pub struct CatalogKey {
    key: PublicKey,
    base64: String,
}

impl CatalogKey {
    /// Reads a key: the line in Base64, or a file `minisign.pub`, which has it as its last line.
    ///
    /// Errors: `CONFIG_INVALID`.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let base64 = text.trim().lines().last().unwrap_or_default().trim();
        match PublicKey::from_base64(base64) {
            Ok(key) => Ok(Self {
                key,
                base64: base64.to_owned(),
            }),
            Err(cause) => Err(errors::key_invalid(&cause)),
        }
    }

    /// Reads a key of an option: the line in Base64, or the path of a file `minisign.pub`.
    ///
    /// Errors: `CONFIG_INVALID`.
    pub fn named(text: &str) -> Result<Self, Diagnostic> {
        match fs::read_to_string(text) {
            Ok(content) => Self::parse(&content),
            Err(_) => Self::parse(text),
        }
    }

    /// The error of a catalog without a key: nothing of it can be trusted.
    pub fn missing(location: &Location) -> Diagnostic {
        errors::no_key(&location.to_string())
    }

    /// The key in Base64.
    pub fn base64(&self) -> &str {
        &self.base64
    }

    /// Checks the signature of `content`.
    ///
    /// Only signatures of a digest (algorithm `ED`) are accepted. Those of the content itself (`Ed`,
    /// as old versions of minisign made them, and newer ones with `-l`) are refused with
    /// `UnexpectedAlgorithm`: one kind is enough, because the catalog has no older publishers.
    pub(crate) fn verify(
        &self,
        content: &[u8],
        signature: &str,
    ) -> Result<(), minisign_verify::Error> {
        let signature = Signature::decode(signature)?;
        self.key.verify(content, &signature, false)
    }
}
