//! The errors of this crate, each with its hint.

use std::{fmt, io, path::Path};

use diagnostics::{Code, Diagnostic, escape, excerpt};
use input_validation::{BinaryVersion, PackageId, WorkerId, WorkerType};
use worker_catalog::Package;

const CHARS: usize = 400;

pub(crate) fn storage(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::storage(format!("cannot use {}: {error}", show(path)), error)
}

pub(crate) fn show(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

pub(crate) fn cancelled(what: &str) -> Diagnostic {
    Diagnostic::new(Code::Cancelled, format!("{what} was cancelled"))
}

pub(crate) fn does_not_start(what: &str, program: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!("{what} cannot start {}: {error}", show(program)),
    )
    .hint("check that the program is an executable for this machine")
}

pub(crate) fn invalid(param: &str, expected: impl fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("`{param}` must be {expected}"),
    )
    .param(param)
}

pub(crate) fn required(param: &str, why: &str, hint: &str) -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, format!("`{param}` is required {why}"))
        .param(param)
        .hint(hint)
}

pub(crate) fn package_without_program(package: &str, entry: &str) -> Diagnostic {
    Diagnostic::new(
        Code::PackageInvalid,
        format!(
            "the package {} has no program {entry}",
            excerpt(package, 100)
        ),
    )
    .hint("its `package()` must install the worker there; check the name of the worker type")
}

pub(crate) fn bad_toolchain(dir: &Path, why: &dyn fmt::Display) -> Diagnostic {
    let message = format!("builds cannot use the toolchain {}: {why}", show(dir));
    Diagnostic::new(Code::ConfigInvalid, message)
        .hint("set `--toolchain` to the directory that contains the `bin` of the toolchain only")
}

pub(crate) fn no_catalog() -> Diagnostic {
    Diagnostic::new(Code::NotFound, "this node has no catalog of packages")
        .hint("start its hive with `--catalog URL --catalog-key KEY`")
}

pub(crate) fn package_of_another_type(
    id: &PackageId,
    provides: &WorkerType,
    wanted: &WorkerType,
) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("the package {id} provides {provides}, not {wanted}"),
    )
    .param("catalog_package")
    .hint(format!(
        "use `rbee-keeper worker-binary provision {provides} --package {id}`"
    ))
}

pub(crate) fn package_for_other_machines(package: &Package) -> Diagnostic {
    let machines: Vec<String> = package.machines.iter().map(|name| escape(name)).collect();
    let (id, own) = (&package.id, std::env::consts::ARCH);
    Diagnostic::new(
        Code::PackageInvalid,
        format!(
            "the package {id} is for {}, and this machine is {own}",
            machines.join(", ")
        ),
    )
    .hint("choose a package for this machine with `rbee-keeper worker-binary catalog`")
}

pub(crate) fn package_not_approved(package: &Package, digest: &str) -> Diagnostic {
    let (id, version) = (&package.id, &package.version);
    Diagnostic::new(
        Code::PackageNotApproved,
        format!(
            "nobody has agreed to run the package {id} {version}, whose PKGBUILD has the SHA-256 \
             {digest}"
        ),
    )
    .hint(format!(
        "read it with `rbee-keeper worker-binary catalog {id}`; then repeat the command with \
         `--approve {digest}` for this text, or with `--approve` for all versions of {id} that the \
         key of the catalog signs"
    ))
    .detail("sha256", digest)
}

pub(crate) fn no_packages_for_this_machine() -> Diagnostic {
    let own = std::env::consts::ARCH;
    Diagnostic::new(
        Code::PackageInvalid,
        format!("packages are for x86_64 and aarch64, and this machine is {own}"),
    )
    .hint("build the worker from a repository with `--repository URL`")
}

/// EH-020b. `others` are further missing tools.
pub(crate) fn no_cuda_toolkit(what: &str, others: &[String]) -> Diagnostic {
    let also = if others.is_empty() {
        String::new()
    } else {
        format!(", nor {}", others.join(", "))
    };
    Diagnostic::new(
        Code::CudaToolkitMissing,
        format!("{what} needs the CUDA toolkit, and this machine has no nvcc{also}"),
    )
    .hint(
        "install the CUDA toolkit, so that `nvcc --version` works for the user of the hive, or \
         use `--backend cpu`",
    )
}

pub(crate) fn no_toolchain(what: &str, missing: &[String]) -> Diagnostic {
    Diagnostic::new(
        Code::BuildToolsMissing,
        format!(
            "{what} cannot start: this machine has no {}",
            missing.join(", no ")
        ),
    )
    .hint(
        "install what is missing for the user of the hive (cargo from https://rustup.rs, git and \
         a C compiler from the system's packages), or provision a download",
    )
    .detail("missing", missing.to_vec())
}

/// EH-020a. `lines` are the compiler's.
pub(crate) fn build_failed(what: &str, how: &str, lines: &[String], log: &Path) -> Diagnostic {
    let mut message = format!("{what} {how}");
    for line in lines {
        message.push_str("\n  ");
        message.push_str(line);
    }
    Diagnostic::new(Code::BuildFailed, message)
        .hint(format!("the whole output is in {}", show(log)))
        .detail("log", show(log))
        .detail("errors", lines.to_vec())
}

pub(crate) fn no_such_program(
    worker_type: &WorkerType,
    origin: &str,
    known: &[String],
) -> Diagnostic {
    Diagnostic::new(
        Code::BuildFailed,
        format!("{} has no program {worker_type}", escape(origin)),
    )
    .hint(format!(
        "choose another repository or branch, or one of its programs: {}",
        if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        }
    ))
}

/// EH-020c.
pub(crate) fn not_verified(
    worker_type: &WorkerType,
    why: impl fmt::Display,
    printed: &str,
) -> Diagnostic {
    let mut message = format!("the binary of {worker_type} {why}");
    for line in printed
        .lines()
        .rev()
        .take(5)
        .collect::<Vec<_>>()
        .iter()
        .rev()
    {
        message.push_str("\n  ");
        message.push_str(&excerpt(line.trim_end(), CHARS));
    }
    Diagnostic::new(Code::BinaryVerificationFailed, message).hint(format!(
        "build it from a clean checkout with `rbee-keeper worker-binary provision {worker_type} \
         --force-rebuild`; the version that was used before stays in use"
    ))
}

pub(crate) fn damaged(worker_type: &WorkerType, path: &Path) -> Diagnostic {
    Diagnostic::new(
        Code::BinaryVerificationFailed,
        format!("{} is not the file that was installed", show(path)),
    )
    .hint(format!(
        "go back with `rbee-keeper worker-binary rollback {worker_type}`, or obtain it again with \
         `rbee-keeper worker-binary provision {worker_type} --force-rebuild`"
    ))
}

pub(crate) fn bad_signature(file: &Path, error: &dyn fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::BinaryVerificationFailed,
        format!("the signature of {} is refused: {error}", show(file)),
    )
    .hint("check that the file, its `.minisig` and the hive's key (`--worker-key`) belong together")
}

pub(crate) fn not_found(worker_type: &WorkerType, release_dir: &Path) -> Diagnostic {
    Diagnostic::new(
        Code::WorkerBinaryNotFound,
        format!(
            "no executable {worker_type} at {}",
            show(&release_dir.join(worker_type.as_str()))
        ),
    )
    .hint(format!(
        "build it with `rbee-keeper worker-binary provision {worker_type} --repository URL`, or \
         start the hive with `--worker-dir DIR`, where DIR contains it, or with \
         `--worker-repository URL` to build what is missing"
    ))
}

pub(crate) fn not_installed(
    worker_type: &WorkerType,
    installation: Option<&BinaryVersion>,
) -> Diagnostic {
    let which = installation.map_or(String::new(), |id| format!("version {id} of "));
    Diagnostic::new(
        Code::NotFound,
        format!("{which}{worker_type} is not installed on this node"),
    )
    .hint("list what is with `rbee-keeper worker-binary list`")
}

pub(crate) fn no_source(worker_type: &WorkerType) -> Diagnostic {
    Diagnostic::new(
        Code::WorkerBinaryNotFound,
        format!(
            "{worker_type} is not installed, and the request names no source to obtain it from"
        ),
    )
    .hint(format!(
        "name one: `rbee-keeper worker-binary provision {worker_type} --repository URL`, or \
         `--url URL --sha256 HASH`; `rbee-hive --worker-repository URL` sets one for all"
    ))
}

pub(crate) fn no_previous(worker_type: &WorkerType) -> Diagnostic {
    Diagnostic::new(
        Code::NotFound,
        format!("{worker_type} has no version before the current one"),
    )
    .hint("list what is installed with `rbee-keeper worker-binary list`")
}

pub(crate) fn in_use(worker_type: &WorkerType, users: &[WorkerId]) -> Diagnostic {
    let names: Vec<String> = users.iter().map(ToString::to_string).collect();
    let by = if names.is_empty() {
        "a worker that is starting".to_owned()
    } else {
        names.join(", ")
    };
    Diagnostic::new(
        Code::WorkerBinaryInUse,
        format!("{worker_type} is in use by {by}"),
    )
    .hint("stop the workers first with `rbee-keeper worker stop ID`")
}

pub(crate) fn release_is_not_removed(worker_type: &WorkerType) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("{worker_type} of the hive's own release is not removed"),
    )
    .param("installation")
    .hint("only versions that were provisioned can be removed")
}

pub(crate) fn wrong_version(
    worker_type: &WorkerType,
    wanted: &BinaryVersion,
    found: &BinaryVersion,
) -> Diagnostic {
    Diagnostic::new(
        Code::VersionIncompatible,
        format!("{worker_type} has version {found}, not {wanted}"),
    )
    .hint("name the branch or tag of the version with `--branch`, or leave out `--version`")
}
