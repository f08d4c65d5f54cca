use std::{fmt, fs, io, os::unix::fs::OpenOptionsExt as _, path::Path};

use diagnostics::{Code, Diagnostic};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A secret of 32 random bytes, as 64 hexadecimal characters. Its `Debug` form is a
/// fingerprint.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Reads a token from its file: at least 16 characters, no white space inside.
    pub fn load(path: &Path) -> Result<Self, Diagnostic> {
        let text = fs::read_to_string(path).map_err(|e| cannot(path, &e))?;
        let text = text.trim();
        if text.len() < 16 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Diagnostic::new(
                Code::ConfigInvalid,
                format!("{} holds no token", path.display()),
            )
            .hint("a token is one line of at least 16 printable ASCII characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads the token, made first if the file is missing (0600). Of several processes that
    /// do so at once, all get the same.
    pub fn load_or_create(path: &Path) -> Result<Self, Diagnostic> {
        if !path.exists() {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes)
                .map_err(|e| Diagnostic::internal(format!("no random bytes: {e}")))?;
            create_new(path, hex::encode(bytes).as_bytes()).map_err(|e| cannot(path, &e))?;
        }
        Self::load(path)
    }

    /// The secret itself, to be sent.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Six hexadecimal characters that name the token without telling it.
    pub fn fingerprint(&self) -> String {
        hex::encode(&Sha256::digest(self.0.as_bytes())[..3])
    }

    /// Whether `presented` is this token, in constant time.
    pub fn matches(&self, presented: &str) -> bool {
        // Hashing first makes both sides equally long.
        Sha256::digest(self.0.as_bytes())
            .as_slice()
            .ct_eq(Sha256::digest(presented.as_bytes()).as_slice())
            .into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.fingerprint())
    }
}

/// Writes a complete file under a name that does not exist yet; one that does is kept.
fn create_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        match fs::hard_link(&temporary, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    };
    let written = write();
    let _ = fs::remove_file(&temporary);
    written
}

fn cannot(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("cannot read the token in {}: {error}", path.display()),
    )
    .hint("check the path and its permissions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let made = Token::load_or_create(&path).unwrap();
        let read = Token::load_or_create(&path).unwrap();
        assert_eq!(made.expose(), read.expose());
        assert_eq!(made.expose().len(), 64);
        assert!(made.matches(read.expose()));
        assert!(!made.matches(&read.expose()[1..]));
        assert!(!format!("{made:?}").contains(&made.expose()[..8]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_without_a_token_is_refused_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        fs::write(&path, "short").unwrap();
        let error = Token::load(&path).unwrap_err();
        assert!(!error.message.contains("short"));
    }
}
