//! Packages, built from PKGBUILDs in a sandbox.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use daemon_shell::blocking;
use diagnostics::Diagnostic;
use futures_util::{FutureExt as _, future::BoxFuture};
use hive_contract::{PackageRequest, ProvisionRequest};
use hive_jobs::{JobContext, Reporter};
use input_validation::WorkerType;
use package_builder::{
    Approval, BuildEvent, BuildRequest, BuiltPackage, PackageBuilder, PackagedKind,
};
use pkgbuild::Architecture;
use state_files::{Home, StagingDir};
use worker_catalog::Package;

use crate::{
    errors,
    source::{Source, Staged, download_progress},
};

/// Maximum size of the text of a PKGBUILD and of its local files together, in bytes.
const MAX_TEXT: usize = 1 << 20;
/// Maximum number of local files.
const MAX_FILES: usize = 64;

/// Builds a package whose program `usr/bin/TYPE` is the worker.
pub(crate) struct PackageBuild {
    pub(crate) home: Home,
    pub(crate) builder: PackageBuilder,
}

/// The package of a request, checked as far as it can be without building it.
pub(crate) fn checked(request: &ProvisionRequest) -> Result<&PackageRequest, Diagnostic> {
    let package = request.package.as_ref().ok_or_else(|| {
        let hint = "name the PKGBUILD with `--package FILE`, or a package of the catalog";
        errors::required("package", "for a package", hint)
    })?;
    let size = package.files.values().map(String::len).sum::<usize>() + package.pkgbuild.len();
    if size > MAX_TEXT || package.files.len() > MAX_FILES {
        let expected = format!("at most {MAX_FILES} files and {MAX_TEXT} bytes together");
        return Err(errors::invalid("package", expected));
    }
    if let Some(name) = package.files.keys().find(|name| !is_file_name(name)) {
        let expected = format!(
            "names of files without a directory, not `{}`",
            diagnostics::excerpt(name, 60)
        );
        return Err(errors::invalid("package.files", expected));
    }
    approval(package)?;
    Ok(package)
}

/// What the binary of a package is from: the same text gives the same origin.
pub(crate) fn origin(package: &PackageRequest) -> String {
    let digest = Approval::of(package.pkgbuild.as_bytes());
    match &package.name {
        Some(name) => format!("PKGBUILD {digest}, package {name}"),
        None => format!("PKGBUILD {digest}"),
    }
}

fn approval(package: &PackageRequest) -> Result<Option<Approval>, Diagnostic> {
    let text = package.approval.as_deref();
    let parsed = text.map(str::parse).transpose();
    parsed
        .map_err(|_: &str| errors::invalid("package.approval", "a SHA-256: 64 hexadecimal digits"))
}

fn machine() -> Result<Architecture, Diagnostic> {
    let known = [Architecture::X86_64, Architecture::Aarch64];
    let own = known
        .into_iter()
        .find(|known| known.name() == std::env::consts::ARCH);
    own.ok_or_else(errors::no_packages_for_this_machine)
}

fn is_file_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+-@".contains(c);
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.chars().all(is_plain)
}

impl Source for PackageBuild {
    fn stage<'a>(
        &'a self,
        request: &'a ProvisionRequest,
        staging: &'a StagingDir,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Result<Staged, Diagnostic>> {
        self.stage_recipe(request, staging, context).boxed()
    }
}

/// What to build, and what comes of it.
pub(crate) struct Order {
    /// The PKGBUILD.
    pub(crate) text: Vec<u8>,
    pub(crate) approval: Option<Approval>,
    /// Package to build, if the PKGBUILD builds several.
    pub(crate) name: Option<String>,
    pub(crate) allow_unverified: bool,
    /// The program that is started, below the root of the package.
    pub(crate) entry: String,
    pub(crate) origin: String,
    /// Entry of the catalog that it is from.
    pub(crate) package: Option<Box<Package>>,
}

/// Directory with the local files of a recipe.
pub(crate) fn local_files(staging: &StagingDir) -> PathBuf {
    staging.work().join("local")
}

impl PackageBuild {
    async fn stage_recipe(
        &self,
        request: &ProvisionRequest,
        staging: &StagingDir,
        context: &JobContext,
    ) -> Result<Staged, Diagnostic> {
        let package = checked(request)?;
        let (files, dir) = (package.files.clone(), local_files(staging));
        blocking(move || {
            let write = || {
                fs::create_dir(&dir)?;
                let mut files = files.iter();
                files.try_for_each(|(name, text)| fs::write(dir.join(name), text))
            };
            write().map_err(|e| errors::storage(&dir, &e))
        })
        .await?;
        let order = Order {
            text: package.pkgbuild.clone().into_bytes(),
            approval: approval(package)?,
            name: package.name.clone(),
            allow_unverified: package.allow_unverified,
            entry: format!("usr/bin/{}", request.worker_type),
            origin: origin(package),
            package: None,
        };
        self.build(order, &request.worker_type, staging, context)
            .await
    }

    /// Builds what was ordered. Its local files are in [`local_files`].
    pub(crate) async fn build(
        &self,
        order: Order,
        worker_type: &WorkerType,
        staging: &StagingDir,
        context: &JobContext,
    ) -> Result<Staged, Diagnostic> {
        let log = self.home.binary_build_log(worker_type);
        let log_file = log.clone();
        blocking(move || {
            let created = log_file.parent().map_or(Ok(()), fs::create_dir_all);
            created.map_err(|e| errors::storage(&log_file, &e))
        })
        .await?;
        let build = BuildRequest {
            text: order.text,
            local_files: Some(local_files(staging)),
            package: order.name,
            machine: machine()?,
            allows_unverified: order.allow_unverified,
            approval: order.approval,
            work: staging.work().join("package"),
            log,
        };
        let reporter = context.reporter.clone();
        let listener = Arc::new(move |event| report(&reporter, event));
        let built = self.builder.build(build, listener, &context.cancel).await?;
        if !has_program(&built, &order.entry) {
            return Err(errors::package_without_program(&built.name, &order.entry));
        }
        let (files, seconds) = (staging.installation().files(), built.duration.as_secs_f64());
        blocking(move || {
            follow_links(&built).map_err(|e| errors::storage(&built.root, &e))?;
            fs::remove_dir(&files)
                .and_then(|()| fs::rename(&built.root, &files))
                .map_err(|e| errors::storage(&files, &e))
        })
        .await?;
        Ok(Staged {
            entry: order.entry,
            origin: order.origin,
            package: order.package,
            build_seconds: seconds,
        })
    }
}

fn report(reporter: &Reporter, event: BuildEvent) {
    match event {
        BuildEvent::Phase(phase) => reporter.info("package", format!("phase {phase}")),
        BuildEvent::Message(message) | BuildEvent::Line(message) => {
            reporter.info("package", message);
        }
        BuildEvent::Progress {
            source,
            done,
            total,
        } => reporter.progress(download_progress(Some(source), done, total, None)),
    }
}

fn has_program(built: &BuiltPackage, entry: &str) -> bool {
    built.files.iter().any(|file| {
        let is_executable = match &file.kind {
            PackagedKind::File { mode, .. } => mode & 0o100 != 0,
            PackagedKind::Link { .. } => true,
        };
        file.path == entry && is_executable
    })
}

/// Replaces links to files by these files: an installation has none.
fn follow_links(built: &BuiltPackage) -> io::Result<()> {
    for file in &built.files {
        if let PackagedKind::Link { .. } = file.kind {
            let link = built.root.join(&file.path);
            let target = fs::canonicalize(&link)?;
            if !target.starts_with(fs::canonicalize(&built.root)?) || !target.is_file() {
                let path = file.path.as_str();
                return Err(io::Error::other(format!("{path} is a link to a directory")));
            }
            replace(&link, &target)?;
        }
    }
    Ok(())
}

fn replace(link: &Path, target: &Path) -> io::Result<()> {
    fs::remove_file(link)?;
    fs::hard_link(target, link)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn request(change: impl FnOnce(&mut PackageRequest)) -> ProvisionRequest {
        let mut package = PackageRequest {
            pkgbuild: "pkgname=a".into(),
            files: BTreeMap::new(),
            approval: None,
            name: None,
            allow_unverified: false,
        };
        change(&mut package);
        ProvisionRequest {
            package: Some(package),
            ..ProvisionRequest::of("a".parse().unwrap())
        }
    }

    #[test]
    fn a_package_is_checked_before_anything_is_written() {
        assert!(checked(&request(|_| {})).is_ok());
        let param = |request: ProvisionRequest| {
            let error = checked(&request).map(|_| ()).unwrap_err();
            error.param.map(String::from).unwrap()
        };
        assert_eq!(param(ProvisionRequest::of("a".parse().unwrap())), "package");
        let huge = "x".repeat(MAX_TEXT + 1);
        assert_eq!(param(request(|p| p.pkgbuild = huge)), "package");
        assert_eq!(
            param(request(|p| p.approval = Some("ab".into()))),
            "package.approval"
        );
        for name in ["", "../a", "a/b", ".ssh", "a\nb", "/etc/passwd"] {
            let named = request(|p| {
                p.files.insert(name.to_owned(), String::new());
            });
            assert_eq!(param(named), "package.files", "{name}");
        }
    }

    #[test]
    fn the_origin_depends_on_the_text_and_the_package() {
        let origin = |change: fn(&mut PackageRequest)| origin(&request(change).package.unwrap());
        assert_eq!(origin(|_| {}), origin(|p| p.allow_unverified = true));
        assert_ne!(origin(|_| {}), origin(|p| p.pkgbuild.push(' ')));
        assert_ne!(origin(|_| {}), origin(|p| p.name = Some("b".into())));
    }
}
