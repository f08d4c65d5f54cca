//! Binaries that are built on this machine from a git repository.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use daemon_shell::blocking;
use diagnostics::{Diagnostic, excerpt};
use futures_util::{FutureExt as _, future::BoxFuture};
use hive_contract::{Progress, ProvisionRequest};
use hive_jobs::JobContext;
use input_validation::{BranchName, FeatureName, RepositoryUrl, WorkerType};
use serde_json::Value;
use state_files::{Home, StagingDir};

use crate::{
    cargo_output::{CargoOutput, Shown},
    child::{End, Program},
    errors,
    settings::BuildProfile,
    source::{Source, Staged},
    tools::Tools,
};

/// Time limit for fetching the repository.
const CLONE_LIMIT: Duration = Duration::from_secs(600);
/// Time limit for reading what the repository contains.
const INSPECT_LIMIT: Duration = Duration::from_secs(120);
/// Time limit for a build.
const BUILD_LIMIT: Duration = Duration::from_secs(2 * 3600);
/// Maximum size of the output of a build, in bytes.
const LOG_LIMIT: u64 = 64 << 20;
/// Longest list of programs that is shown.
const MAX_PROGRAMS: usize = 20;

/// Builds with cargo.
pub(crate) struct GitBuild {
    pub(crate) home: Home,
    pub(crate) tools: Tools,
    pub(crate) profile: BuildProfile,
    /// Used if the request names none.
    pub(crate) repository: Option<RepositoryUrl>,
    pub(crate) branch: Option<BranchName>,
}

/// One build in its staging directory.
struct Build<'a> {
    what: String,
    of: &'a GitBuild,
    request: &'a ProvisionRequest,
    staging: &'a StagingDir,
    context: &'a JobContext,
    log: PathBuf,
    log_file: File,
    started: Instant,
}

/// Whether a worker with these features needs the CUDA toolkit.
fn needs_cuda(worker_type: &WorkerType, features: &[FeatureName]) -> bool {
    let names = |text: &str| text.split(['-', '/', '_']).any(|part| part == "cuda");
    names(worker_type.as_str()) || features.iter().any(|feature| names(feature.as_str()))
}

impl Source for GitBuild {
    fn stage<'a>(
        &'a self,
        request: &'a ProvisionRequest,
        staging: &'a StagingDir,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Result<Staged, Diagnostic>> {
        async move {
            let what = format!("the build of {}", request.worker_type);
            let needs_cuda = needs_cuda(&request.worker_type, &request.features);
            let check = self.tools.check(&what, needs_cuda);
            let found = context.phase(&what, None, check).await?;
            context
                .reporter
                .info("toolchain", format!("building with {found}"));
            let log = self.home.binary_build_log(&request.worker_type);
            let build = Build {
                log_file: File::create(&log).map_err(|e| errors::storage(&log, &e))?,
                log,
                what,
                of: self,
                request,
                staging,
                context,
                started: Instant::now(),
            };
            build.run().await
        }
        .boxed()
    }
}

impl GitBuild {
    /// Repository and branch of a request.
    pub(crate) fn place(
        &self,
        request: &ProvisionRequest,
    ) -> Option<(RepositoryUrl, Option<BranchName>)> {
        if let Some(repository) = &request.repository {
            return Some((repository.clone(), request.branch.clone()));
        }
        let branch = request.branch.as_ref().or(self.branch.as_ref());
        Some((self.repository.clone()?, branch.cloned()))
    }
}

/// The beginning of the origin of what is built from there.
pub(crate) fn origin(repository: &RepositoryUrl, branch: Option<&BranchName>) -> String {
    match branch {
        Some(branch) => format!("{repository} {branch} "),
        None => format!("{repository} "),
    }
}

impl Build<'_> {
    async fn run(mut self) -> Result<Staged, Diagnostic> {
        let worker_type = &self.request.worker_type;
        let Some((repository, branch)) = self.of.place(self.request) else {
            return Err(errors::no_source(worker_type));
        };
        let reporter = &self.context.reporter;
        reporter.info("clone", format!("fetching {repository}"));
        let checkout = self.staging.work().join("checkout");
        let mut args: Vec<OsString> = ["clone", "--depth", "1", "--quiet"].map(Into::into).into();
        if let Some(branch) = &branch {
            args.extend(["--branch".into(), branch.as_str().into()]);
        }
        args.extend(["--".into(), repository.as_str().into(), (&checkout).into()]);
        self.command("git", args, &self.staging.work(), CLONE_LIMIT)
            .await?;
        let args = ["rev-parse", "HEAD"].map(Into::into).into();
        let commit = self.command("git", args, &checkout, INSPECT_LIMIT).await?;
        let commit = commit.trim();
        let origin = format!(
            "{}{}",
            origin(&repository, branch.as_ref()),
            excerpt(commit, 64)
        );
        let required = self.required_features(&checkout, &origin).await?;
        let program = self.build(&checkout, required).await?;

        let target = self
            .staging
            .installation()
            .files()
            .join(worker_type.as_str());
        blocking(move || {
            // A file that this process writes could not be run while another one starts.
            fs::rename(&program, &target).map_err(|e| errors::storage(&program, &e))
        })
        .await?;
        Ok(Staged {
            entry: worker_type.to_string(),
            origin,
            package: None,
            build_seconds: self.started.elapsed().as_secs_f64(),
        })
    }

    /// Checks that the repository has the program, before anything is built, and returns the
    /// features without which cargo does not build it.
    async fn required_features(
        &mut self,
        checkout: &Path,
        origin: &str,
    ) -> Result<Vec<String>, Diagnostic> {
        let args = ["metadata", "--no-deps", "--format-version", "1", "--quiet"];
        let args = args.map(Into::into).into();
        let printed = self.command("cargo", args, checkout, INSPECT_LIMIT).await?;
        // Cargo prints warnings to the same stream.
        let document = printed.lines().find(|line| line.starts_with('{'));
        let mut programs = programs_in(document.unwrap_or_default());
        let worker_type = &self.request.worker_type;
        if let Some(features) = programs.remove(worker_type.as_str()) {
            return Ok(features);
        }
        let shown: Vec<String> = programs.into_keys().take(MAX_PROGRAMS).collect();
        Err(errors::no_such_program(worker_type, origin, &shown))
    }

    /// Builds the program with the requested and the `required` features; returns its path.
    async fn build(
        &mut self,
        checkout: &Path,
        required: Vec<String>,
    ) -> Result<PathBuf, Diagnostic> {
        let worker_type = self.request.worker_type.clone();
        let target = self.staging.work().join("target");
        let mut args: Vec<OsString> = vec!["build".into()];
        let profile = match self.of.profile {
            BuildProfile::Release => {
                args.push("--release".into());
                "release"
            }
            BuildProfile::Dev => "debug",
        };
        args.extend(["--bin".into(), worker_type.as_str().into()]);
        let requested = self.request.features.iter();
        let mut features: Vec<String> = requested.map(ToString::to_string).collect();
        for feature in required {
            if !features.contains(&feature) {
                features.push(feature);
            }
        }
        if !features.is_empty() {
            args.extend(["--features".into(), features.join(",").into()]);
        }
        args.extend(["--target-dir".into(), (&target).into()]);
        let shown: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        let message = format!("running cargo {}", excerpt(&shown.join(" "), 300));
        self.context.reporter.info("build", message);
        self.command("cargo", args, checkout, BUILD_LIMIT).await?;
        let seconds = self.started.elapsed().as_secs();
        self.context
            .reporter
            .info("build", format!("built {worker_type} in {seconds} s"));
        Ok(target.join(profile).join(worker_type.as_str()))
    }

    /// Runs a command to its success; returns what it printed. Everything is kept in the log, and
    /// users see what cargo does.
    async fn command(
        &mut self,
        name: &str,
        args: Vec<OsString>,
        dir: &Path,
        limit: Duration,
    ) -> Result<String, Diagnostic> {
        let program = self.of.tools.find(name);
        let program =
            program.ok_or_else(|| errors::no_toolchain(&self.what, &[name.to_owned()]))?;
        let mut output = CargoOutput::default();
        let mut printed = Vec::new();
        let (log, context, started) = (&mut self.log_file, self.context, self.started);
        let end = Program {
            what: &self.what,
            executable: program,
            args,
            dir,
            path: self.of.tools.path(),
            env: &[
                ("CARGO_TERM_COLOR", "never"),
                ("CARGO_TERM_PROGRESS_WHEN", "never"),
                ("GIT_TERMINAL_PROMPT", "0"),
                ("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
                ("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh"),
            ],
            limit,
            output_limit: LOG_LIMIT,
        }
        .run(self.staging, &context.cancel, |bytes| {
            // A log that cannot be written, as on a full disk, does not end the build.
            let _ = log.write_all(bytes);
            printed.extend_from_slice(bytes);
            for shown in output.push(bytes) {
                report(context, &shown, output.compiled(), started);
            }
        })
        .await?;
        let how = match end {
            End::Exited(status) if status.success() => {
                return Ok(String::from_utf8_lossy(&printed).into_owned());
            }
            End::Exited(status) => format!("failed: {name} ended with {status}"),
            End::TooSlow => format!("was ended after {} s", limit.as_secs()),
            End::TooMuchOutput => format!("was ended after {LOG_LIMIT} bytes of output"),
        };
        Err(errors::build_failed(
            &self.what,
            &how,
            &output.failure(),
            &self.log,
        ))
    }
}

/// Reports a line of cargo, and how far the build is.
fn report(context: &JobContext, shown: &Shown, compiled: u64, started: Instant) {
    match shown {
        Shown::Compiling(name) => {
            let seconds = started.elapsed().as_secs_f64();
            context
                .reporter
                .info("compile", format!("{seconds:.0} s: compiling {name}"));
            context.reporter.progress(Progress {
                phase: "build".to_owned(),
                item: None,
                sha256: None,
                done: compiled,
                total: None,
                unit: "crates".to_owned(),
                rate: None,
                eta_seconds: None,
            });
        }
        Shown::Line(line) => context.reporter.info("build", line.clone()),
    }
}

/// The programs in the output of `cargo metadata`, by name, with the features that they require.
fn programs_in(metadata: &str) -> BTreeMap<String, Vec<String>> {
    let document: Value = serde_json::from_str(metadata).unwrap_or_default();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let features = |target: &Value| {
        let required = list(&target["required-features"]);
        let named = required.iter().filter_map(Value::as_str);
        // What is no name of a feature is not passed to cargo, which then says what is missing.
        let valid = named.filter(|name| name.parse::<FeatureName>().is_ok());
        valid.map(str::to_owned).collect()
    };
    list(&document["packages"])
        .iter()
        .flat_map(|package| list(&package["targets"]))
        .filter(|target| list(&target["kind"]).iter().any(|kind| kind == "bin"))
        .filter_map(|target| Some((excerpt(target["name"].as_str()?, 64), features(&target))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_the_targets_of_kind_bin() {
        let text = r#"{"packages":[{"targets":[{"kind":["lib"],"name":"a"},{"kind":["bin"],"name":"b",
            "required-features":["cuda","--config",7]}]},
            {"targets":[{"kind":["bin"],"name":"a-b"},{"kind":["test"],"name":"t"}]}]}"#;
        let programs: Vec<_> = programs_in(text).into_iter().collect();
        let expected = [("a-b", vec![]), ("b", vec!["cuda".to_owned()])];
        assert_eq!(
            programs,
            expected.map(|(name, features)| (name.to_owned(), features))
        );
        for bad in ["", "[]", "{}", "{\"packages\":3}"] {
            assert!(programs_in(bad).is_empty(), "{bad}");
        }
    }

    #[test]
    fn cuda_is_needed_by_type_or_feature() {
        let needs = |name: &str, features: &[&str]| {
            let features: Vec<_> = features.iter().map(|name| name.parse().unwrap()).collect();
            needs_cuda(&name.parse().unwrap(), &features)
        };
        assert!(needs("llm-cuda-worker-rbee", &[]));
        assert!(needs("x", &["candle-core/cuda"]));
        assert!(!needs("llm-cpu-worker-rbee", &["metal", "barracuda"]));
    }
}
