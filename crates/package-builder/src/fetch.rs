use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use diagnostics::{Diagnostic, escape};
use file_transfer::{Downloader, RemoteFile};
use pkgbuild::{GitReference, Recipe, Source, SourceKind};

use crate::{
    BuildEvent, Phase,
    build::Build,
    build_user,
    errors::{self, Exceeded},
    log::Log,
    sandbox::Access,
    work_folder::WorkFolder,
};

/// Bytes that are copied between two looks at the cancellation.
const COPY: u64 = 64 << 20;

/// Fetches all sources into `src`. Nothing of the recipe has run there before.
pub(crate) fn fetch(
    build: &Build<'_>,
    recipe: &Recipe,
    work: &WorkFolder,
    log: &mut Log<'_>,
) -> Result<(), Diagnostic> {
    for source in &recipe.sources {
        build.check_cancelled()?;
        let checksums = &source.checksums;
        let source = &source.source;
        let target = work.dir("src").join(&source.name);
        match &source.kind {
            SourceKind::Local => local(build, source, &target, work)?,
            SourceKind::Http { url } => {
                log.message(&format!("fetching {}", escape(&source.name)));
                http(build, source, url, &target)?;
            }
            SourceKind::Git { url, .. } => {
                if !checksums.is_empty() {
                    return Err(errors::invalid(format!(
                        "the checksum of the git repository {} cannot be verified; use SKIP, and pin it with #commit=",
                        escape(&source.name)
                    )));
                }
                log.message(&format!("cloning {}", escape(&source.name)));
                git(build, url, &target, work, log)?;
            }
        }
    }
    Ok(())
}

fn local(
    build: &Build<'_>,
    source: &Source,
    target: &Path,
    work: &WorkFolder,
) -> Result<(), Diagnostic> {
    let name = escape(&source.name);
    let Some(dir) = &build.request.local_files else {
        return Err(errors::invalid(format!(
            "the source {name} is a local file, and this PKGBUILD has none"
        )));
    };
    let path = dir.join(&source.name);
    let metadata = fs::symlink_metadata(&path).map_err(|e| errors::storage("read", &path, &e))?;
    if !metadata.is_file() {
        return Err(errors::invalid(format!(
            "the source {name} beside the PKGBUILD is not a regular file"
        )));
    }
    if metadata.len() > build.settings.limits.disk {
        return Err(build.exceeded(Phase::Fetch, Exceeded::Disk));
    }
    for target in [target, &work.dir("start").join(&source.name)] {
        copy(build, &path, target)?;
        build_user::give(target).map_err(|e| errors::storage("copy", &path, &e))?;
    }
    Ok(())
}

/// Copies a file in parts, and ends between two of them when the build is cancelled.
fn copy(build: &Build<'_>, from: &Path, to: &Path) -> Result<(), Diagnostic> {
    let failed = |e| errors::storage("copy", from, &e);
    let mut source = File::open(from).map_err(failed)?;
    let mut target = File::create(to).map_err(failed)?;
    let permissions = source.metadata().map_err(failed)?.permissions();
    target.set_permissions(permissions).map_err(failed)?;
    while io::copy(&mut (&mut source).take(COPY), &mut target).map_err(failed)? > 0 {
        build.check_cancelled()?;
    }
    Ok(())
}

fn http(build: &Build<'_>, source: &Source, url: &str, target: &Path) -> Result<(), Diagnostic> {
    let file = RemoteFile {
        url: url.to_owned(),
        bearer: None,
        size: None,
        // All checksums are verified in the next phase, with one error.
        sha256: None,
    };
    let downloader = Downloader::new(build.settings.transfer.clone())?;
    let too_large = build.cancel.child_token();
    let limit = build.settings.limits.disk;
    let name = escape(&source.name);
    let listener = build.listener;
    let progress = |progress: file_transfer::TransferProgress| {
        if progress.done > limit || progress.total.is_some_and(|total| total > limit) {
            too_large.cancel();
        }
        listener(BuildEvent::Progress {
            source: name.clone(),
            done: progress.done,
            total: progress.total,
        });
    };
    let fetched = build
        .runtime
        .block_on(downloader.fetch(&file, target, &progress, &too_large));
    build.check_cancelled()?;
    if too_large.is_cancelled() {
        return Err(build.exceeded(Phase::Fetch, Exceeded::Disk));
    }
    fetched.map_err(|e| errors::download(&source.name, e))?;
    build_user::give(target).map_err(|e| errors::storage("read", target, &e))
}

fn git(
    build: &Build<'_>,
    url: &str,
    target: &Path,
    work: &WorkFolder,
    log: &mut Log<'_>,
) -> Result<(), Diagnostic> {
    fs::create_dir(target)
        .and_then(|()| build_user::give(target))
        .map_err(|e| errors::storage("create", target, &e))?;
    let mut access = git_access(work, target);
    access.network = true;
    access
        .environment
        .extend(build.settings.fetch_environment.iter().cloned());
    let mut url = url.to_owned();
    if let Some(path) = url.strip_prefix("file://") {
        let path = PathBuf::from(path);
        let path = path
            .canonicalize()
            .map_err(|e| errors::storage("read", &path, &e))?;
        url = format!("file://{}", path.display());
        access.readable.push((path.clone(), path));
    }
    let program = [
        "git",
        "clone",
        "--no-checkout",
        "--no-progress",
        "--",
        &url,
        ".",
    ];
    build.run(Phase::Fetch, work, &access, &program, false, log)?;
    Ok(())
}

/// Checks out what a git source names.
pub(crate) fn check_out(
    build: &Build<'_>,
    source: &Source,
    reference: &GitReference,
    work: &WorkFolder,
    log: &mut Log<'_>,
) -> Result<(), Diagnostic> {
    let access = git_access(work, &work.dir("src").join(&source.name));
    let revision = match reference {
        GitReference::Default => "refs/remotes/origin/HEAD".to_owned(),
        GitReference::Branch(name) => format!("refs/remotes/origin/{name}"),
        GitReference::Tag(name) => format!("refs/tags/{name}"),
        GitReference::Commit(name) => name.clone(),
    };
    let program = [
        "git",
        "checkout",
        "--force",
        "--no-track",
        "-B",
        "makepkg",
        &revision,
        "--",
    ];
    build.run(Phase::Extract, work, &access, &program, false, log)?;
    Ok(())
}

fn git_access(work: &WorkFolder, repository: &Path) -> Access {
    let variables = [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/etc/gitconfig"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "/bin/false"),
    ];
    Access {
        writable: vec![(repository.to_owned(), "/build/repository".into())],
        readable: vec![(work.dir("etc").join("gitconfig"), "/etc/gitconfig".into())],
        environment: variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        directory: "/build/repository".into(),
        ..Access::default()
    }
}
