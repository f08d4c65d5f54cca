use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};

/// Creates a secret key without a password. Returns it and the public key in Base64.
pub fn new_key() -> Result<(SecretKey, String)> {
    let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair()?;
    Ok((sk, pk.to_base64()))
}

/// Text of a file with a secret key.
pub fn to_file(key: &SecretKey) -> Result<String> {
    Ok(key.to_box(None)?.into_string())
}

/// Reads a file with a secret key without a password. Returns it and the public key in Base64.
pub fn read_key(path: &Path) -> Result<(SecretKey, String)> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let key = SecretKeyBox::from_string(&text)?.into_unencrypted_secret_key()?;
    let public = PublicKey::from_secret_key(&key)?.to_base64();
    Ok((key, public))
}
