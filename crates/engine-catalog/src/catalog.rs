use std::{
    fs, io,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use engine_choice::{Availability, BUILTIN, Declaration, Support, builtin};
use hive_contract::{
    BinaryStatus, CatalogPackageRequest, EngineEntry, EngineProblem, EngineSource, InstalledBinary,
    PART_ENGINE, ProvisionRequest,
};
use input_validation::{Backend, EngineName, WorkerType};
use preflight_validation::Engines;
use worker_catalog::Package;

use crate::{
    engine::{Engine, Run},
    errors, file,
};

/// An engine that a package would provide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it can run; its availability is that of a package.
    pub declaration: Declaration,
    /// What installs it.
    pub request: ProvisionRequest,
}

/// The engines of this machine.
#[derive(Debug, Clone)]
pub struct EngineCatalog {
    dir: PathBuf,
}

/// The engines of a machine at one time.
#[derive(Debug, Clone, Default)]
pub struct MachineEngines {
    /// Those that can be used, in the order in which they are tried.
    pub engines: Vec<Engine>,
    /// Those that packages would provide.
    pub offers: Vec<Offer>,
    /// Those that cannot be used, and why.
    pub unusable: Vec<(String, Diagnostic)>,
}

impl EngineCatalog {
    /// The engines that are described in the files of `dir`.
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Reads the engines as they are now. `installed` are the packages that are installed. Blocks.
    /// A description that is not valid is no error here: the others can be used.
    pub fn engines(&self, installed: &[(InstalledBinary, Package)]) -> MachineEngines {
        let mut found = MachineEngines::default();
        match builtin() {
            Ok(declaration) => found.engines.push(Engine {
                declaration,
                run: Run::BuiltIn,
            }),
            Err(error) => found.unusable.push((BUILTIN.to_owned(), error)),
        }
        match files(&self.dir) {
            Ok(files) => files.iter().for_each(|path| found.add_file(path)),
            Err(error) => {
                let error = errors::unreadable(&self.dir, &error);
                found.unusable.push((String::new(), error));
            }
        }
        let packages = installed
            .iter()
            .filter(|(binary, _)| binary.status == BinaryStatus::Ready);
        let packages = packages.filter_map(|(binary, package)| of_package(binary, package));
        // What the user describes is preferred to a package of the same name.
        let described: Vec<String> = found.names().map(str::to_owned).collect();
        let packages = packages.filter(|engine| !described.contains(&engine.declaration.name));
        found.engines.extend(packages);
        found
    }
}

impl MachineEngines {
    fn add_file(&mut self, path: &Path) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = match stem.parse::<EngineName>() {
            Ok(name) if name.as_str() == BUILTIN => Err(errors::reserved(path, BUILTIN)),
            Ok(name) => Ok(name),
            Err(error) => Err(errors::bad_name(path, &error)),
        };
        match name.and_then(|name| file::read(path, &name)) {
            Ok(engine) => self.engines.push(engine),
            Err(error) => self.unusable.push((stem.into_owned(), error)),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let engines = self.engines.iter();
        engines.map(|engine| engine.declaration.name.as_str())
    }

    /// Finds an engine by its name, and the type of the worker or package that provides it: several
    /// packages may provide an engine of one name.
    pub fn find(&self, name: &str, worker_type: &WorkerType) -> Option<&Engine> {
        let mut engines = self.engines.iter();
        engines.find(|engine| {
            let declaration = &engine.declaration;
            declaration.name == name && declaration.worker_type == *worker_type
        })
    }

    /// Finds what computes parts of models on a backend.
    pub fn find_part(&self, backend: Backend) -> Option<&Engine> {
        let mut parts = self.engines.iter().filter(|engine| engine.is_part());
        parts.find(|engine| engine.declaration.backends.contains(&backend))
    }

    /// Adds the engines of packages that are not installed. Of each, it is known whether the user
    /// has agreed to it.
    pub fn add_offers(&mut self, packages: Vec<(Package, bool)>) {
        for (package, agreed) in packages {
            let availability = Availability::Package {
                id: package.id.to_string(),
                agreed,
            };
            let is_engine = package.engine.is_some();
            let declaration = package.declaration(availability).filter(|_| is_engine);
            if let Some(declaration) = declaration
                && self
                    .find(&declaration.name, &declaration.worker_type)
                    .is_none()
            {
                let request = ProvisionRequest {
                    catalog_package: Some(CatalogPackageRequest {
                        id: package.id,
                        approval: None,
                    }),
                    ..ProvisionRequest::of(package.worker_type)
                };
                self.offers.push(Offer {
                    declaration,
                    request,
                });
            }
        }
    }

    /// What the choice of an engine needs.
    pub fn for_choice(&self) -> Engines {
        let workers = self.engines.iter().filter(|engine| !engine.is_part());
        let own = workers.map(|engine| &engine.declaration);
        let offered = self.offers.iter().map(|offer| &offer.declaration);
        Engines {
            declared: own.chain(offered).cloned().collect(),
            unusable: self.unusable.clone(),
        }
    }

    /// Describes the engines for users.
    pub fn entries(&self) -> Vec<EngineEntry> {
        let usable = self.engines.iter().map(Engine::entry);
        let unusable = self.unusable.iter().map(|(name, error)| EngineEntry {
            name: name.clone(),
            source: EngineSource::Configured,
            kind: None,
            place: None,
            formats: Vec::new(),
            backends: Vec::new(),
            problem: Some(EngineProblem {
                message: error.message.clone(),
                hint: error.hint.clone(),
            }),
        });
        usable.chain(unusable).collect()
    }
}

/// The descriptions in a directory, which need not exist, by their names.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|e| e == "toml") && !is_hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The engine that an installed package provides, if it does.
fn of_package(binary: &InstalledBinary, package: &Package) -> Option<Engine> {
    let program = package.engine.as_ref()?;
    let path = std::iter::once(&binary.binary_path);
    let command = path.chain(&program.arguments).cloned().collect();
    if program.name == PART_ENGINE {
        return Some(Engine {
            declaration: Declaration {
                name: program.name.clone(),
                worker_type: package.worker_type.clone(),
                availability: Availability::Installed,
                formats: [].into(),
                architectures: Support::Any,
                tensor_types: Support::Any,
                backends: vec![Backend::Cpu],
                features: [].into(),
            },
            run: Run::Part {
                command,
                environment: [].into(),
            },
        });
    }
    let kind = program.name.parse().ok()?;
    Some(Engine {
        declaration: package.declaration(Availability::Installed)?,
        run: Run::Command {
            kind,
            command,
            model: None,
            environment: [].into(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_that_is_not_valid_leaves_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let good = "kind = \"llama-cpp\"\ncommand = [\"/bin/sh\", \"{model}\", \"{port}\"]";
        write("b.toml", good);
        write(
            "a.toml",
            "kind = \"vllm\"\nattach = \"http://127.0.0.1:8000\"",
        );
        write("c.toml", "kind = ");
        write("builtin.toml", good);
        write("Bad Name.toml", good);
        write(".hidden.toml", "x");
        write("notes.txt", "x");
        let found = EngineCatalog::new(dir.path().to_owned()).engines(&[]);
        let names: Vec<&str> = found
            .engines
            .iter()
            .map(|engine| engine.declaration.name.as_str())
            .collect();
        assert_eq!(names, ["builtin", "a", "b"]);
        let unusable: Vec<&str> = found
            .unusable
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(unusable, ["Bad Name", "builtin", "c"]);
        assert_eq!(found.entries().len(), 6);
        assert_eq!(found.for_choice().declared.len(), 3);
        let missing = EngineCatalog::new(dir.path().join("missing")).engines(&[]);
        assert_eq!((missing.engines.len(), missing.unusable.len()), (1, 0));
    }

    fn package(id: &str, backend: &str) -> Package {
        serde_json::from_value(serde_json::json!({
            "id": id, "version": "1-1", "description": "d", "worker_type": id,
            "packaging": "binary", "machines": ["any"], "program": "usr/bin/llama-server",
            "engine": {"name": "llama-cpp", "arguments": ["-m", "{model}", "--port", "{port}"],
                "check": ["--version"]},
            "runs": {"formats": ["gguf"], "architectures": "any", "tensor_types": "any",
                "backends": [backend]},
            "files": [],
        }))
        .unwrap()
    }

    fn installed(package: &Package) -> InstalledBinary {
        serde_json::from_value(serde_json::json!({
            "worker_type": package.worker_type, "version": "1-1", "installation": "1-1",
            "features": [], "binary_path": "/bin/true", "size_bytes": 1, "source": "package",
            "origin": "catalog", "build_seconds": 0.0, "status": "ready", "current": true,
            "compatible": true,
        }))
        .unwrap()
    }

    #[test]
    fn packages_provide_engines_and_those_that_are_installed_are_not_offered() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = EngineCatalog::new(dir.path().to_owned());
        let (cpu, cuda) = (package("llama-cpu", "cpu"), package("llama-cuda", "cuda"));
        let mut found = catalog.engines(&[(installed(&cpu), cpu.clone())]);
        found.add_offers(vec![(cpu.clone(), true), (cuda, false)]);
        let own = found.find("llama-cpp", &cpu.worker_type).unwrap();
        assert!(matches!(&own.run, Run::Command { command, .. } if command[0] == "/bin/true"));
        assert_eq!(own.entry().source, EngineSource::Package);
        let offers: Vec<&str> = found
            .offers
            .iter()
            .map(|offer| offer.request.worker_type.as_str())
            .collect();
        assert_eq!(offers, ["llama-cuda"]);
        assert_eq!(found.for_choice().declared.len(), 3);

        // A description of the same name takes its place.
        let text = "kind = \"llama-cpp\"\ncommand = [\"/bin/sh\", \"{model}\", \"{port}\"]";
        fs::write(dir.path().join("llama-cpp.toml"), text).unwrap();
        let described = catalog.engines(&[(installed(&cpu), cpu.clone())]);
        assert_eq!(described.engines.len(), 2);
        assert!(described.find("llama-cpp", &cpu.worker_type).is_none());
    }
}
