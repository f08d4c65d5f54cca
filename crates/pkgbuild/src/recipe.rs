use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    Source, Variables,
    errors::{PkgbuildError, invalid},
};

/// Architecture of a machine, by the name that packages use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64`
    X86_64,
    /// `aarch64`
    Aarch64,
}

impl Architecture {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// What the user chose.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Architecture of the machine.
    pub machine: Architecture,
    /// Package to build, if the recipe builds several.
    pub package: Option<String>,
    /// Whether files without a checksum are accepted.
    pub allows_unverified: bool,
}

/// A package to build, with checked values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Name of the package.
    pub name: String,
    /// Its version, before the function `pkgver` is run.
    pub version: Version,
    /// What it is, in one line. Not checked.
    pub description: String,
    /// Its sources for this machine.
    pub sources: Vec<RecipeSource>,
    /// Names of archives that are not extracted.
    pub no_extract: BTreeSet<String>,
    /// Packages that it needs to run, and to be built, as the recipe names them. Not checked.
    pub depends: Vec<String>,
    /// See `depends`.
    pub make_depends: Vec<String>,
    /// The steps that the recipe has, with the names of their functions.
    pub steps: BTreeMap<Step, String>,
}

/// A step of building a package, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Prepares the sources.
    Prepare,
    /// Prints the version.
    Pkgver,
    /// Builds. A package of binaries has none.
    Build,
    /// Tests.
    Check,
    /// Installs into a directory.
    Package,
}

/// Version of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Overrides the comparison of the rest.
    pub epoch: u32,
    /// Version of the software.
    pub software: String,
    /// Version of the recipe.
    pub release: String,
}

impl Version {
    /// The version with the one of the software that the function `pkgver` has printed.
    ///
    /// Errors: [`PkgbuildError::Invalid`].
    pub fn with_software(&self, software: &str) -> Result<Self, PkgbuildError> {
        if software.is_empty() || !is_version(software) {
            return Err(invalid("pkgver", software, "not a version"));
        }
        Ok(Self {
            software: software.to_owned(),
            ..self.clone()
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.epoch > 0 {
            write!(f, "{}:", self.epoch)?;
        }
        write!(f, "{}-{}", self.software, self.release)
    }
}

/// A source with what it must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeSource {
    /// Where it is.
    pub source: Source,
    /// All checksums that are stated, in lower case. None if they are skipped.
    pub checksums: Vec<Checksum>,
}

/// A checksum in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256.
    Sha256(String),
    /// SHA-512.
    Sha512(String),
    /// BLAKE2b with 512 bits.
    Blake2b(String),
}

/// An array of checksums, and the number of their digits.
type Sums = (&'static str, usize, fn(String) -> Checksum);

const SUMS: [Sums; 3] = [
    ("sha256sums", 64, Checksum::Sha256),
    ("sha512sums", 128, Checksum::Sha512),
    ("b2sums", 128, Checksum::Blake2b),
];
/// Entry of an array of checksums for a source that has none.
const SKIP: &str = "SKIP";

impl Recipe {
    /// Checks the variables and functions of a PKGBUILD for one package and machine.
    ///
    /// Errors: the first value that cannot be used; a package for other machines; one that
    /// builds several packages of which none was chosen.
    pub fn new(
        variables: &Variables,
        functions: &BTreeSet<String>,
        choice: &Choice,
    ) -> Result<Self, PkgbuildError> {
        let names = variables.list("pkgname");
        for name in names {
            if !is_package_name(name) {
                return Err(invalid("pkgname", name, "not the name of a package"));
            }
        }
        let name = match (names, &choice.package) {
            ([], _) => return Err(PkgbuildError::Missing("pkgname")),
            ([only], None) => only,
            (several, None) => return Err(PkgbuildError::SplitPackage(several.to_vec())),
            (known, Some(chosen)) => {
                known.iter().find(|name| *name == chosen).ok_or_else(|| {
                    PkgbuildError::NoSuchPackage {
                        chosen: chosen.clone(),
                        known: known.to_vec(),
                    }
                })?
            }
        };
        check_architecture(variables, choice.machine)?;
        Ok(Self {
            name: name.clone(),
            version: version(variables)?,
            description: variables.text("pkgdesc").to_owned(),
            sources: sources(variables, choice)?,
            no_extract: variables.list("noextract").iter().cloned().collect(),
            depends: for_machine(variables, "depends", choice.machine),
            make_depends: for_machine(variables, "makedepends", choice.machine),
            steps: steps(functions, name)?,
        })
    }
}

fn check_architecture(variables: &Variables, machine: Architecture) -> Result<(), PkgbuildError> {
    let supported = variables.list("arch");
    if supported.is_empty() {
        return Err(PkgbuildError::Missing("arch"));
    }
    if let Some(bad) = supported.iter().find(|name| !is_word(name)) {
        return Err(invalid("arch", bad, "not the name of an architecture"));
    }
    if supported
        .iter()
        .any(|name| name == "any" || name == machine.name())
    {
        return Ok(());
    }
    Err(PkgbuildError::UnsupportedArchitecture {
        supported: supported.to_vec(),
        machine: machine.name(),
    })
}

fn version(variables: &Variables) -> Result<Version, PkgbuildError> {
    let required = |name: &'static str| match variables.text(name) {
        "" => Err(PkgbuildError::Missing(name)),
        text => Ok(text.to_owned()),
    };
    let software = required("pkgver")?;
    if !is_version(&software) {
        return Err(invalid("pkgver", &software, "not a version"));
    }
    let release = required("pkgrel")?;
    let numbers = release.split('.').filter(|part| is_number(part)).count();
    if numbers == 0 || numbers > 2 || numbers != release.split('.').count() {
        return Err(invalid("pkgrel", &release, "not a number"));
    }
    let epoch = match variables.text("epoch") {
        "" => 0,
        text => text
            .parse()
            .map_err(|_| invalid("epoch", text, "not a number"))?,
    };
    Ok(Version {
        epoch,
        software,
        release,
    })
}

/// An array, and the one for this machine.
fn for_machine(variables: &Variables, name: &str, machine: Architecture) -> Vec<String> {
    let own = format!("{name}_{}", machine.name());
    let lists = [variables.list(name), variables.list(&own)];
    lists.concat()
}

fn sources(variables: &Variables, choice: &Choice) -> Result<Vec<RecipeSource>, PkgbuildError> {
    let mut all: Vec<RecipeSource> = Vec::new();
    for suffix in [String::new(), format!("_{}", choice.machine.name())] {
        let array = format!("source{suffix}");
        let entries = variables.list(&array);
        let checksums = checksums(variables, &array, &suffix, entries.len())?;
        for (entry, checksums) in entries.iter().zip(checksums) {
            let source = Source::parse(&array, entry)?;
            if checksums.is_empty() && source.is_file() && !choice.allows_unverified {
                let problem =
                    "a file whose checksum is skipped; only git repositories may have none";
                return Err(invalid(&array, entry, problem));
            }
            if all.iter().any(|known| known.source.name == source.name) {
                return Err(invalid(&array, entry, "the second source with this name"));
            }
            all.push(RecipeSource { source, checksums });
        }
    }
    Ok(all)
}

/// The checksums of each source of an array.
fn checksums(
    variables: &Variables,
    sources: &str,
    suffix: &str,
    count: usize,
) -> Result<Vec<Vec<Checksum>>, PkgbuildError> {
    let mut all = vec![Vec::new(); count];
    let mut found = count == 0;
    for (array, digits, checksum) in SUMS {
        let array = format!("{array}{suffix}");
        if variables.get(&array).is_none() {
            continue;
        }
        found = true;
        let sums = variables.list(&array);
        if sums.len() != count {
            return Err(PkgbuildError::ChecksumCount {
                sources: sources.to_owned(),
                expected: count,
                sums: array,
                found: sums.len(),
            });
        }
        for (known, sum) in all.iter_mut().zip(sums) {
            if sum == SKIP {
                continue;
            }
            if sum.len() != digits || !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(invalid(&array, sum, "not a checksum"));
            }
            known.push(checksum(sum.to_ascii_lowercase()));
        }
    }
    if !found {
        return Err(PkgbuildError::NoChecksums(sources.to_owned()));
    }
    Ok(all)
}

fn steps(
    functions: &BTreeSet<String>,
    package: &str,
) -> Result<BTreeMap<Step, String>, PkgbuildError> {
    let optional = [
        (Step::Prepare, "prepare"),
        (Step::Pkgver, "pkgver"),
        (Step::Build, "build"),
        (Step::Check, "check"),
    ];
    let mut steps: BTreeMap<Step, String> = optional
        .into_iter()
        .filter(|(_, name)| functions.contains(*name))
        .map(|(step, name)| (step, name.to_owned()))
        .collect();
    let names = [format!("package_{package}"), "package".to_owned()];
    let Some(name) = names.iter().find(|name| functions.contains(*name)) else {
        return Err(PkgbuildError::NoFunction(names[1].clone()));
    };
    steps.insert(Step::Package, name.clone());
    Ok(steps)
}

/// Rules of PKGBUILD(5).
fn is_package_name(name: &str) -> bool {
    let is_valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "@._+-".contains(c);
    (1..=128).contains(&name.len()) && !name.starts_with(['-', '.']) && name.chars().all(is_valid)
}

fn is_version(text: &str) -> bool {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || "._+~".contains(c);
    text.len() <= 128 && text.chars().all(is_valid) && !text.starts_with('.')
}

fn is_number(text: &str) -> bool {
    (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=32).contains(&text.len()) && text.chars().all(is_valid)
}
