//! Runs a simulated service until it is stopped, for manual tests:
//!
//! ```text
//! sim hub --dir DIR [--port-file FILE] [--token TOKEN] [--gated ORG/REPO]
//!     [--private ORG/REPO] [--faults FILE] [--log FILE]
//! sim ollama --dir DIR [--port-file FILE]
//! ```
//!
//! For `hub`, each folder `ORG/REPO` in the directory is a repository. For `ollama`, each file
//! `NAMESPACE/NAME/TAG.gguf` is a model. The token has access to all repositories. The file with
//! faults is described in `faults.rs`; it can be written at any time. The log gets a line for
//! every response: server, status, bytes of the body, path.
#![allow(clippy::print_stdout, reason = "the address is for the user")]

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use sim::{
    FaultsFile,
    hub::{Access, Hub},
    ollama::Registry,
};

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut words = env::args().skip(1);
    let service = words.next().unwrap_or_default();
    let mut options = BTreeMap::<String, String>::new();
    while let Some(name) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| wrong(&format!("{name} needs a value")))?;
        options.insert(name, value);
    }
    let option = |name: &str| options.get(name).cloned();
    let dir = PathBuf::from(option("--dir").ok_or_else(|| wrong("--dir is required"))?);
    let files = files(&dir, &dir)?;
    let announce = |url: &str| {
        println!("{url}");
        let port = url.rsplit(':').next().unwrap_or_default();
        option("--port-file").map_or(Ok(()), |file| fs::write(file, port))
    };
    match service.as_str() {
        "hub" => {
            let hub = Hub::start().await?;
            if let Some(file) = option("--faults") {
                hub.set_faults(FaultsFile::new(file.into())?);
            }
            if let Some(file) = option("--log") {
                hub.set_log(fs::File::create(file)?);
            }
            let token = option("--token");
            for (repository, files) in repositories(files) {
                hub.commit(&repository, files)?;
                if let Some(token) = &token {
                    hub.grant(token, &repository);
                }
            }
            for (name, access) in [("--gated", Access::Gated), ("--private", Access::Private)] {
                if let Some(repository) = option(name) {
                    hub.set_access(&repository, access);
                }
            }
            announce(&hub.url())?;
            std::future::pending::<()>().await;
        }
        "ollama" => {
            let registry = Registry::start().await?;
            for (path, file) in files {
                let tag = path.strip_suffix(".gguf").and_then(|p| p.rsplit_once('/'));
                if let Some((name, tag)) = tag {
                    registry.put(name, tag, [("model", file)])?;
                }
            }
            announce(&registry.url())?;
            std::future::pending::<()>().await;
        }
        _ => return Err(wrong("use `sim hub` or `sim ollama`")),
    }
    Ok(())
}

fn wrong(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// The files below a directory by their paths relative to `root`.
fn files(dir: &Path, root: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, root)?);
        } else {
            let name = path.strip_prefix(root).map_err(io::Error::other)?;
            found.push((name.to_string_lossy().into_owned(), path));
        }
    }
    Ok(found)
}

fn repositories(files: Vec<(String, PathBuf)>) -> BTreeMap<String, Vec<(String, PathBuf)>> {
    let mut repositories = BTreeMap::<String, Vec<_>>::new();
    for (path, file) in files {
        let parts: Vec<&str> = path.splitn(3, '/').collect();
        if let [owner, name, path] = parts[..] {
            let repository = repositories.entry(format!("{owner}/{name}")).or_default();
            repository.push((path.to_owned(), file));
        }
    }
    repositories
}
