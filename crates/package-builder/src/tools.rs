//! The programs that a build needs.

use std::path::PathBuf;

use pkgbuild::{Recipe, SourceKind};

use crate::{
    Settings, build_user,
    extract::{Format, format_of},
};

/// A program that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) program: &'static str,
    /// Debian package that contains it.
    pub(crate) package: &'static str,
}

/// Where programs are in the sandbox, besides toolchains.
const DIRECTORIES: [&str; 10] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/cuda/bin",
    "/opt/cuda/bin",
    "/opt/rocm/bin",
    "/usr/lib/cuda/bin",
];

/// Names of packages in recipes, the programs for which they are needed, and the packages of
/// Debian that contain these. Other packages of recipes are libraries, which only the build can
/// look for.
const KNOWN: [(&str, &str, &str); 28] = [
    ("autoconf", "autoconf", "autoconf"),
    ("automake", "automake", "automake"),
    ("bison", "bison", "bison"),
    ("cargo", "cargo", "cargo"),
    ("clang", "clang", "clang"),
    ("cmake", "cmake", "cmake"),
    ("cuda", "nvcc", "nvidia-cuda-toolkit"),
    ("curl", "curl", "curl"),
    ("flex", "flex", "flex"),
    ("gcc", "gcc", "gcc"),
    ("git", "git", "git"),
    ("glslang", "glslangValidator", "glslang-tools"),
    ("go", "go", "golang-go"),
    ("hipcc", "hipcc", "hipcc"),
    ("make", "make", "make"),
    ("meson", "meson", "meson"),
    ("nasm", "nasm", "nasm"),
    ("ninja", "ninja", "ninja-build"),
    ("nodejs", "node", "nodejs"),
    ("npm", "npm", "npm"),
    ("patchelf", "patchelf", "patchelf"),
    ("pkgconf", "pkg-config", "pkg-config"),
    ("protobuf", "protoc", "protobuf-compiler"),
    ("python", "python3", "python3"),
    ("rust", "cargo", "cargo"),
    ("shaderc", "glslc", "glslc"),
    ("unzip", "unzip", "unzip"),
    ("wget", "wget", "wget"),
];

/// `PATH` of the sandbox.
pub(crate) fn path(settings: &Settings) -> String {
    let toolchains = settings.toolchains.iter().map(|dir| dir.join("bin"));
    let all: Vec<String> = toolchains
        .map(|dir| dir.display().to_string())
        .chain(DIRECTORIES.map(str::to_owned))
        .collect();
    all.join(":")
}

/// Finds a program where the sandbox finds it.
pub(crate) fn find(settings: &Settings, program: &str) -> Option<PathBuf> {
    let path = path(settings);
    path.split(':')
        .map(|dir| PathBuf::from(dir).join(program))
        .find(|path| path.is_file())
}

/// Programs that every build needs and this machine does not have.
pub(crate) fn missing_for_any(settings: &Settings) -> Vec<Missing> {
    let needed = [
        ("bwrap", "bubblewrap"),
        ("fakeroot", "fakeroot"),
        ("bash", "bash"),
    ];
    let for_root = build_user::differs().then_some(("setpriv", "util-linux"));
    absent(settings, needed.into_iter().chain(for_root))
}

/// All programs that a build needs and this machine does not have.
pub(crate) fn missing(settings: &Settings, recipe: &Recipe) -> Vec<Missing> {
    let mut needed = Vec::new();
    for source in &recipe.sources {
        let name = &source.source.name;
        if matches!(source.source.kind, SourceKind::Git { .. }) {
            needed.push(("git", "git"));
        } else if !recipe.no_extract.contains(name) {
            needed.extend(format_of(name).map(Format::programs).into_iter().flatten());
        }
    }
    let packages = recipe.make_depends.iter().map(|text| {
        let end = text.find(['<', '>', '=']).unwrap_or(text.len());
        &text[..end]
    });
    for package in packages {
        let known = KNOWN.iter().find(|(name, ..)| *name == package);
        needed.extend(known.map(|(_, program, debian)| (*program, *debian)));
    }
    absent(settings, needed)
}

fn absent(
    settings: &Settings,
    needed: impl IntoIterator<Item = (&'static str, &'static str)>,
) -> Vec<Missing> {
    let mut all: Vec<Missing> = Vec::new();
    for (program, package) in needed {
        let is_known = all.iter().any(|missing| missing.program == program);
        if !is_known && find(settings, program).is_none() {
            all.push(Missing { program, package });
        }
    }
    all
}
