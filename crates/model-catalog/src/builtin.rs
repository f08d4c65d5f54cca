//! Model source: the model embedded in this binary.

use std::{
    fs,
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use daemon_shell::write_atomically;
use diagnostics::Diagnostic;

use crate::{errors, resolved::ResolvedModel};

struct EmbeddedFile {
    name: &'static str,
    content: &'static [u8],
}

macro_rules! embedded {
    ($($name:literal),*) => {
        &[$(EmbeddedFile {
            name: $name,
            content: include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"), "/../../models/haiku/", $name
            )),
        }),*]
    };
}

/// The embedded model in one weight type.
struct Variant {
    /// Name after the `@`.
    name: &'static str,
    files: &'static [EmbeddedFile],
}

/// Name of the only embedded model.
pub(crate) const HAIKU: &str = "haiku";

/// Variants of `builtin:haiku`; the first is the default.
const VARIANTS: &[Variant] = &[
    Variant {
        name: "f16",
        files: embedded!["rbee-haiku-tiny-f16.gguf"],
    },
    Variant {
        name: "q8_0",
        files: embedded!["rbee-haiku-tiny-q8_0.gguf"],
    },
    Variant {
        name: "safetensors",
        files: embedded![
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ],
    },
];

pub(crate) fn variants() -> impl Iterator<Item = &'static str> {
    VARIANTS.iter().map(|variant| variant.name)
}

/// Writes the files of an embedded model to `directory`, unless they are already there.
///
/// Errors: `MODEL_NOT_FOUND` if there is no such model, `DISK_FULL` and `STATE_UNUSABLE`.
pub(crate) fn resolve(
    name: &str,
    variant: Option<&str>,
    directory: &Path,
) -> Result<ResolvedModel, Diagnostic> {
    let found = match variant {
        _ if name != HAIKU => None,
        None => VARIANTS.first(),
        Some(variant) => VARIANTS.iter().find(|v| v.name == variant),
    };
    let Some(found) = found else {
        let reference = variant.map_or(name.to_owned(), |v| format!("{name}@{v}"));
        let mut known = vec![format!("builtin:{HAIKU}")];
        known.extend(variants().map(|v| format!("builtin:{HAIKU}@{v}")));
        return Err(errors::unknown_builtin(&reference, &known));
    };
    let path = found.write_to(&directory.join("builtin").join(HAIKU))?;
    ResolvedModel::at(&path, found.size_bytes())
}

impl Variant {
    fn size_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.content.len() as u64).sum()
    }

    /// Writes the files to a subdirectory of `directory`, replacing those that differ from the
    /// embedded ones. Returns the only file, or the subdirectory of several.
    fn write_to(&self, directory: &Path) -> Result<PathBuf, Diagnostic> {
        let directory = directory.join(self.name);
        fs::create_dir_all(&directory).map_err(|e| errors::storage(&directory, &e))?;
        for file in self.files {
            let path = directory.join(file.name);
            if !has_content(&path, file.content).map_err(|e| errors::storage(&path, &e))? {
                write_atomically(&path, file.content)?;
            }
        }
        Ok(match self.files {
            [only] => directory.join(only.name),
            _ => directory,
        })
    }
}

/// Whether the file at `path` exists and has exactly this content.
fn has_content(path: &Path, content: &[u8]) -> io::Result<bool> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    if file.metadata()?.len() != content.len() as u64 {
        return Ok(false);
    }
    let mut buffer = vec![0; 256 * 1024];
    for expected in content.chunks(buffer.len()) {
        let read = &mut buffer[..expected.len()];
        match file.read_exact(read) {
            Ok(()) if read == expected => {}
            Ok(()) => return Ok(false),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
