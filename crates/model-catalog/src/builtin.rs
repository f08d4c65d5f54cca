use std::{
    fs,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use daemon_shell::write_atomically;
use diagnostics::{Code, Diagnostic};

/// One file inside this program.
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

/// A weight type in which an embedded model exists.
pub(crate) struct Variant {
    /// Its name after the `@`.
    pub name: &'static str,
    files: &'static [EmbeddedFile],
}

/// The name of the one embedded model.
pub(crate) const HAIKU: &str = "haiku";

/// The variants of `builtin:haiku`; the first is the default.
pub(crate) const VARIANTS: &[Variant] = &[
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

/// The embedded model of this name and variant.
pub(crate) fn find(name: &str, variant: Option<&str>) -> Result<&'static Variant, Diagnostic> {
    let found = (name == HAIKU)
        .then(|| match variant {
            None => VARIANTS.first(),
            Some(variant) => VARIANTS.iter().find(|v| v.name == variant),
        })
        .flatten();
    found.ok_or_else(|| {
        let asked = variant.map_or(name.to_owned(), |v| format!("{name}@{v}"));
        let known: Vec<String> = std::iter::once(format!("`builtin:{HAIKU}`"))
            .chain(
                VARIANTS
                    .iter()
                    .map(|v| format!("`builtin:{HAIKU}@{}`", v.name)),
            )
            .collect();
        Diagnostic::new(
            Code::ModelNotFound,
            format!("no model is built in under this name: builtin:{asked}"),
        )
        .hint(format!("the built-in ones are {}", known.join(", ")))
    })
}

impl Variant {
    /// Size of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.content.len() as u64).sum()
    }

    /// Makes sure that the files lie complete under `models` and returns what a worker
    /// opens: the only file, or the folder of several. A file that differs from the
    /// embedded one in a single byte is replaced.
    pub fn materialise(&self, models: &Path) -> Result<PathBuf, Diagnostic> {
        let folder = models.join("builtin").join(HAIKU).join(self.name);
        fs::create_dir_all(&folder).map_err(|e| unusable(&folder, &e))?;
        for file in self.files {
            let path = folder.join(file.name);
            if !is_same(&path, file.content).map_err(|e| unusable(&path, &e))? {
                write_atomically(&path, file.content)?;
            }
        }
        Ok(match self.files {
            [only] => folder.join(only.name),
            _ => folder,
        })
    }
}

/// Whether the file at `path` holds exactly `content`.
fn is_same(path: &Path, content: &[u8]) -> std::io::Result<bool> {
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

fn unusable(path: &Path, error: &std::io::Error) -> Diagnostic {
    let code = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::DiskFull,
        _ => Code::StateUnusable,
    };
    Diagnostic::new(code, format!("cannot use {}: {error}", path.display()))
        .hint("check its owner, its permissions and the room on its disk")
}
