use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    cargo::{cargo, metadata, target_dir},
    tally::Tally,
};

/// A program that runs the tests of a library, of a binary, or of a file in `tests/`.
struct TestProgram {
    name: String,
    rank: Rank,
    executable: PathBuf,
    package_dir: PathBuf,
}

/// Programs that take long start first, so that all processors are busy until the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Features,
    Integration,
    Unit,
}

/// The programs and the tests of the workspace. One command builds them all: with several, cargo
/// would compile most dependencies again with other features.
pub struct Build {
    /// Where the programs are.
    pub bin_dir: PathBuf,
    /// Library of the kernels that is linked into the programs.
    pub kernels: PathBuf,
    tests: Vec<TestProgram>,
}

impl Build {
    /// Builds everything. `None` if that fails; the errors are printed.
    pub fn run() -> Result<Option<Self>> {
        let build = cargo()
            .args(["build", "--workspace", "--bins", "--tests"])
            .args(["--message-format", "json-render-diagnostics"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo build")?;
        if !build.status.success() {
            return Ok(None);
        }
        let lines = build.stdout.split(|byte| *byte == b'\n');
        let messages: Vec<Value> = lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        let mut tests: Vec<TestProgram> = messages
            .iter()
            .filter_map(TestProgram::from_message)
            .collect();
        tests.sort_by_key(|program| program.rank);
        let kernels = messages.iter().find_map(library_of_kernels);
        Ok(Some(Self {
            bin_dir: target_dir()?.join("debug"),
            kernels: kernels.context("cargo reports no library of the kernels")?,
            tests,
        }))
    }

    /// Runs several test programs at a time. Each program's output is printed when it has ended.
    pub fn run_tests(&self) -> Result<Tally> {
        let mut commands: Vec<(String, Command)> = self
            .tests
            .iter()
            .map(|program| (program.name.clone(), program.command(&self.bin_dir)))
            .collect();
        commands.extend(examples()?);
        // One more than processors: most programs wait for other processes half of the time.
        let at_a_time = thread::available_parallelism().map_or(2, |n| n.get() + 1);
        run_commands(commands, at_a_time)
    }
}

fn library_of_kernels(message: &Value) -> Option<PathBuf> {
    if message["target"]["name"] != "cpu_kernels" || message["profile"]["test"] == true {
        return None;
    }
    let files = message["filenames"].as_array().into_iter().flatten();
    let mut files = files.filter_map(|file| file.as_str().map(Path::new));
    let library = files.find(|file| file.extension().is_some_and(|e| e == "rlib"));
    library.map(Path::to_owned)
}

/// The examples in the documentation of libraries. cargo starts rustdoc for each library, so those
/// without examples are left out.
fn examples() -> Result<Option<(String, Command)>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let with_examples = packages.filter(|package| {
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let sources = Path::new(manifest).with_file_name("src");
        sources.join("lib.rs").is_file() && has_example(&sources)
    });
    let mut examples = cargo();
    examples.args(["test", "--quiet", "--doc"]);
    let mut any = false;
    for package in with_examples {
        any = true;
        let name = package["name"].as_str().unwrap_or_default();
        examples.args(["--package", name]);
    }
    Ok(any.then(|| ("examples of the documentation".to_owned(), examples)))
}

/// Whether a comment of the documentation in this directory begins a block of code.
fn has_example(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            return has_example(&path);
        }
        has_code_block(&fs::read_to_string(&path).unwrap_or_default())
    })
}

/// Whether a block of code in the documentation is compiled: all are but those of text.
fn has_code_block(source: &str) -> bool {
    let lines = source.lines().map(str::trim_start);
    let mut fences = lines.filter_map(|line| {
        let comment = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"))?;
        comment.trim_start().strip_prefix("```")
    });
    while let Some(language) = fences.next() {
        if language != "text" {
            return true;
        }
        fences.next();
    }
    false
}

impl TestProgram {
    /// Reads a message of cargo; None if it is not about a test program.
    fn from_message(message: &Value) -> Option<Self> {
        if message["profile"]["test"] != true {
            return None;
        }
        let executable = message["executable"].as_str()?;
        let package_dir = Path::new(message["manifest_path"].as_str()?).parent()?;
        let target = message["target"]["name"].as_str()?;
        let is_integration = message["target"]["kind"][0] == "test";
        Some(Self {
            name: match package_dir.file_name() {
                Some(package) if is_integration => {
                    format!("{}: {target}", package.to_string_lossy())
                }
                _ => target.to_owned(),
            },
            rank: match target {
                "bdd" if is_integration => Rank::Features,
                _ if is_integration => Rank::Integration,
                _ => Rank::Unit,
            },
            executable: executable.into(),
            package_dir: package_dir.into(),
        })
    }

    /// As cargo runs it.
    fn command(&self, bin_dir: &Path) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .current_dir(&self.package_dir)
            .env("CARGO_MANIFEST_DIR", &self.package_dir)
            .env("RBEE_BIN_DIR", bin_dir);
        command
    }
}

/// Runs commands in this order, `at_a_time` of them at once.
fn run_commands(commands: Vec<(String, Command)>, at_a_time: usize) -> Result<Tally> {
    let queue = Mutex::new(commands.into_iter());
    let total = Mutex::new(Ok(Tally::default()));
    let run_next = || {
        let Some((name, mut command)) = lock(&queue).next() else {
            return false;
        };
        let started = Instant::now();
        let result = Tally::with_output(&mut command);
        let mut total = lock(&total);
        println!("-- {name}: {} s", started.elapsed().as_secs());
        match (result, &mut *total) {
            (Ok((tally, output)), Ok(total)) => {
                println!("{output}");
                *total += tally;
            }
            (Err(error), total) => *total = Err(error),
            (Ok(_), Err(_)) => {}
        }
        true
    };
    thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| while run_next() {});
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_of_code_in_the_documentation_are_found_and_blocks_of_text_are_not() {
        let block = |language| format!("//! Words.\n    /// ```{language}\n/// x\n    /// ```\n");
        assert!(!has_code_block("let fence = \"```\";"));
        assert!(!has_code_block(&block("text").repeat(2)));
        assert!(has_code_block(&block("")));
        assert!(has_code_block(&block("no_run")));
        assert!(has_code_block(&[block("text"), block("rust")].concat()));
    }

    #[test]
    fn test_programs_are_read_from_the_messages_of_cargo() {
        let message = |kind: &str, name: &str, test: bool| {
            json!({
                "profile": {"test": test},
                "executable": "/t/x",
                "manifest_path": "/w/crates/some-crate/Cargo.toml",
                "target": {"kind": [kind], "name": name},
            })
        };
        let read = |kind, name, test| {
            TestProgram::from_message(&message(kind, name, test))
                .map(|program| (program.name, program.rank))
        };
        let some = |name: &str, rank| Some((name.to_owned(), rank));
        assert_eq!(
            read("test", "bdd", true),
            some("some-crate: bdd", Rank::Features)
        );
        assert_eq!(
            read("test", "sshd", true),
            some("some-crate: sshd", Rank::Integration)
        );
        assert_eq!(
            read("lib", "some_crate", true),
            some("some_crate", Rank::Unit)
        );
        assert_eq!(read("bin", "some-program", false), None);
    }

    #[test]
    fn every_command_is_counted() {
        let script = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            (text.to_owned(), command)
        };
        let commands = vec![
            script("echo 'bdd: 2 passed, 1 failed'"),
            script("exit 3"),
            script("echo 'bdd: 4 passed, 0 failed, 1 skipped' >&2"),
        ];
        let tally = run_commands(commands, 2).unwrap();
        assert_eq!((tally.passed, tally.failed, tally.skipped), (6, 2, 1));
    }
}
