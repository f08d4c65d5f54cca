use std::{fmt, fs, path::Path};

use diagnostics::Diagnostic;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{errors, new_file::create_new, write_atomically};

/// A secret of 32 random bytes as 64 hexadecimal characters. `Debug` shows its fingerprint.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Reads a token from a file: at least 16 characters without white space.
    pub fn load(path: &Path) -> Result<Self, Diagnostic> {
        let text = fs::read_to_string(path).map_err(|e| errors::token_unreadable(path, &e))?;
        Self::parse(&text).ok_or_else(|| errors::no_token_in(path))
    }

    /// Reads a token from a text: at least 16 printable ASCII characters, with white space
    /// around them.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let valid = text.len() >= 16 && text.bytes().all(|b| b.is_ascii_graphic());
        valid.then(|| Self(text.to_owned()))
    }

    /// Creates a random token.
    pub fn generate() -> Result<Self, Diagnostic> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| errors::no_random_bytes(&e))?;
        Ok(Self(hex::encode(bytes)))
    }

    /// Writes the token to a file with mode 0600, which is replaced.
    pub fn save(&self, path: &Path) -> Result<(), Diagnostic> {
        write_atomically(path, self.0.as_bytes())
    }

    /// Reads a token from a file, which is created with mode 0600 if it is missing. Concurrent
    /// processes get the same token.
    pub fn load_or_create(path: &Path) -> Result<Self, Diagnostic> {
        if !path.exists() {
            create_new(path, Self::generate()?.0.as_bytes())
                .map_err(|e| errors::token_unreadable(path, &e))?;
        }
        Self::load(path)
    }

    /// The secret, for sending it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Six hexadecimal characters that identify the token without revealing it.
    pub fn fingerprint(&self) -> String {
        hex::encode(&Sha256::digest(self.0.as_bytes())[..3])
    }

    /// The key of the token in a map of tokens.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }

    /// Compares in constant time.
    pub fn matches(&self, presented: &str) -> bool {
        // The hashes have the same length.
        let (own, presented) = (self.hash(), TokenHash::of(presented));
        own.0.as_slice().ct_eq(presented.0.as_slice()).into()
    }
}

/// SHA-256 of a token. One of many tokens can be found by it without comparing secrets: nobody can
/// choose a text by the bytes of its hash, so that the time of a search reveals nothing of use.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a text that a caller presents as a token.
    pub fn of(presented: &str) -> Self {
        Self(Sha256::digest(presented.as_bytes()).into())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_created_once_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let created = Token::load_or_create(&path).unwrap();
        let read = Token::load_or_create(&path).unwrap();
        assert_eq!(created.expose(), read.expose());
        assert_eq!(created.expose().len(), 64);
        assert!(created.matches(read.expose()));
        assert!(!created.matches(&read.expose()[1..]));
        assert!(!format!("{created:?}").contains(&created.expose()[..8]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_saved_token_replaces_the_last_one_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        for _ in 0..2 {
            let token = Token::generate().unwrap();
            token.save(&path).unwrap();
            assert!(Token::load(&path).unwrap().matches(token.expose()));
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for bad in ["", "short", "0123456789 abcdef", "0123456789abcdef\u{e9}"] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_error_does_not_contain_the_content_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        fs::write(&path, "short").unwrap();
        let error = Token::load(&path).unwrap_err();
        assert!(!error.message.contains("short"));
    }
}
