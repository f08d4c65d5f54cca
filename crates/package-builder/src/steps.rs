use std::{path::PathBuf, thread};

use diagnostics::Diagnostic;
use pkgbuild::{Architecture, Recipe, SourceKind, Step, Version};

use crate::{
    Phase,
    build::{Build, PKGBUILD},
    driver, errors, extract, fetch,
    log::Log,
    sandbox::Access,
    work_folder::WorkFolder,
};

/// Longest version that `pkgver()` may print, in bytes.
const VERSION: usize = 256;

/// A path below the folder of the build, in the sandbox.
pub(crate) fn inside(name: &str) -> PathBuf {
    PathBuf::from("/build").join(name)
}

/// The environment of all functions, and of the PKGBUILD itself.
pub(crate) fn environment(machine: Architecture) -> Vec<(String, String)> {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let flags = "-O2 -pipe -fno-plt -fexceptions -Wformat -Werror=format-security";
    let variables = [
        ("srcdir", "/build/src".to_owned()),
        ("pkgdir", "/build/pkg".to_owned()),
        ("startdir", "/build/start".to_owned()),
        ("CARCH", machine.name().to_owned()),
        ("CHOST", format!("{}-pc-linux-gnu", machine.name())),
        ("MAKEFLAGS", format!("-j{jobs}")),
        ("CFLAGS", flags.to_owned()),
        ("CXXFLAGS", flags.to_owned()),
        ("LDFLAGS", "-Wl,-O1 -Wl,--as-needed".to_owned()),
        ("CARGO_NET_OFFLINE", "true".to_owned()),
        // It fails in a user namespace, and fakeroot ignores only how it fails elsewhere.
        ("FAKEROOTDONTTRYCHOWN", "1".to_owned()),
    ];
    variables
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Extracts archives and checks out repositories.
pub(crate) fn extract(
    build: &Build<'_>,
    recipe: &Recipe,
    work: &WorkFolder,
    log: &mut Log<'_>,
) -> Result<(), Diagnostic> {
    for source in &recipe.sources {
        let source = &source.source;
        if let SourceKind::Git { reference, .. } = &source.kind {
            fetch::check_out(build, source, reference, work, log)?;
            continue;
        }
        let Some(format) = extract::format_of(&source.name) else {
            continue;
        };
        if recipe.no_extract.contains(&source.name) {
            continue;
        }
        log.message(&format!("extracting {}", diagnostics::escape(&source.name)));
        let access = Access {
            writable: vec![(work.dir("src"), inside("src"))],
            directory: inside("src"),
            ..Access::default()
        };
        let run = |command: &[String], captures: bool, log: &mut Log<'_>| {
            let program: Vec<&str> = command.iter().map(String::as_str).collect();
            build.run(Phase::Extract, work, &access, &program, captures, log)
        };
        let members = match format.list_command(&source.name) {
            Some(command) => run(&command, true, log)?,
            None => Vec::new(),
        };
        let mut is_unsafe = extract::leaves_directory(&members);
        if !is_unsafe {
            run(&format.command(&source.name), false, log)?;
            is_unsafe = log.contains(extract::UNSAFE_PATH);
        }
        if is_unsafe {
            let what = format!(
                "{} has members outside of its directory",
                diagnostics::escape(&source.name)
            );
            return Err(build.failed(Phase::Extract, &what, log));
        }
    }
    Ok(())
}

/// Runs the functions of the recipe, and returns the version.
pub(crate) fn run(
    build: &Build<'_>,
    recipe: &Recipe,
    work: &WorkFolder,
    log: &mut Log<'_>,
) -> Result<Version, Diagnostic> {
    let mut version = recipe.version.clone();
    for (step, function) in &recipe.steps {
        let phase = match step {
            Step::Prepare => Phase::Prepare,
            Step::Pkgver => Phase::Pkgver,
            Step::Build => Phase::Build,
            Step::Check => Phase::Check,
            Step::Package => Phase::Package,
        };
        build.begin(phase, log)?;
        log.message(&format!("running {}()", diagnostics::escape(function)));
        let mut access = Access {
            writable: vec![
                (work.dir("src"), inside("src")),
                (work.dir("start"), inside("start")),
            ],
            readable: vec![(work.dir("etc").join(PKGBUILD), inside(PKGBUILD))],
            environment: environment(build.request.machine),
            directory: inside("start"),
            ..Access::default()
        };
        if *step == Step::Package {
            access.writable.push((work.dir("pkg"), inside("pkg")));
        }
        let path = inside(PKGBUILD).display().to_string();
        let chosen = if build.request.package.is_some() {
            recipe.name.as_str()
        } else {
            ""
        };
        let bash = ["bash", "--noprofile", "--norc", "-c", driver::STEP, "bash"];
        let mut program: Vec<&str> = Vec::new();
        if *step == Step::Package {
            program.extend(["fakeroot", "--"]);
        }
        program.extend(bash);
        program.extend([path.as_str(), function, chosen]);
        let captures = *step == Step::Pkgver;
        let output = build.run(phase, work, &access, &program, captures, log)?;
        if captures {
            version = new_version(&version, &output, build, work)?;
        }
    }
    Ok(version)
}

/// Takes the version that `pkgver()` has printed, and writes it into the PKGBUILD, as makepkg(8)
/// does, because other values are made of it.
fn new_version(
    old: &Version,
    output: &[u8],
    build: &Build<'_>,
    work: &WorkFolder,
) -> Result<Version, Diagnostic> {
    let text = String::from_utf8_lossy(&output[..output.len().min(VERSION)]);
    let software = text.trim();
    let version = old
        .with_software(software)
        .map_err(|e| errors::recipe(&e))?;
    let recipe = String::from_utf8_lossy(&build.request.text);
    let lines: Vec<String> = recipe
        .split('\n')
        .map(|line| {
            if line.starts_with("pkgver=") {
                format!("pkgver={software}")
            } else {
                line.to_owned()
            }
        })
        .collect();
    work.write(PKGBUILD, lines.join("\n").as_bytes())?;
    Ok(version)
}
