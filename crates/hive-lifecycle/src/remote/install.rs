//! The software of a node: install, upgrade, roll back, uninstall.

use std::path::Path;

use diagnostics::{Diagnostic, Narration};
use hive_contract::HiveShutdownRequest;
use ssh_link::{Libc, NodeProbe, RemoteCommand, SshSession, probe};
use state_files::Home;

use super::{
    RemoteHive, Report, build, glibc,
    release::{self, Program, Release},
    scripts,
};
use crate::{HiveHost as _, errors};

/// What became of a copy of this release: the name of its directory, or what its programs print.
enum Copied {
    Runs(String),
    DoesNotRun(String),
}

/// What rbee creates in the directory of a node, except for the models.
const OWN_FILES: &[&str] = &["bin", "build", "run", "logs", "keys", "audit", "workers"];

impl RemoteHive {
    /// Finds out what the machine is and which hive is installed.
    pub async fn probe(&self) -> Result<NodeProbe, Diagnostic> {
        probe(&self.session().await?, &self.config.directory).await
    }

    /// Copies the programs of this release to the node, or builds them there if these do not run,
    /// checks that they run, and makes them the current ones. A running hive is not affected.
    /// Returns the version.
    pub async fn install(&self, report: Report<'_>) -> Result<String, Diagnostic> {
        let _changing = self.changing.lock().await;
        self.install_release(report).await?;
        Ok(Release::VERSION.to_owned())
    }

    /// Installs this release and replaces the running hive, if any; its workers keep running, and
    /// the new hive takes them over. If the new hive does not start or does not respond, the
    /// previous version is made the current one again and started. Returns the version.
    pub async fn upgrade(&self, report: Report<'_>) -> Result<String, Diagnostic> {
        let _changing = self.changing.lock().await;
        let session = self.session().await?;
        let running = self.find(&session).await;
        let has_changed = self.install_release(report).await?;
        let running = match running {
            Ok(None) => return Ok(Release::VERSION.to_owned()),
            Ok(Some(_)) if !has_changed => return Ok(Release::VERSION.to_owned()),
            Ok(Some(hive)) => Some(hive.process),
            // It does not respond, or not in this version of the interface.
            Err(_) => self.running_process(&session).await?,
        };
        if let Some(process) = running {
            report(Narration::info(
                "queen",
                "upgrade",
                "Replacing the running hive.",
            ));
            self.terminate(&session, process).await?;
        }
        let started = self.start(&session).await;
        let result = match started {
            Ok(_) => Ok(Release::VERSION.to_owned()),
            // There is nothing to go back to: this version ran before.
            Err(error) if !has_changed => Err(error),
            Err(error) => {
                let message = format!("The new hive does not start: {error}. Going back.");
                report(Narration::warn("queen", "upgrade", message));
                let version = self.roll_back_release(&session).await?;
                // One that runs and does not respond keeps the directory locked.
                if let Some(process) = self.running_process(&session).await? {
                    self.terminate(&session, process).await?;
                }
                self.start(&session).await?;
                Err(errors::rolled_back(&self.config.name, &version, error))
            }
        };
        self.replaced.notify_waiters();
        result
    }

    /// Stops the hive and its workers, and removes everything of rbee from the node; the models
    /// only if `models`.
    pub async fn uninstall(&self, models: bool, report: Report<'_>) -> Result<(), Diagnostic> {
        let _changing = self.changing.lock().await;
        let session = self.session().await?;
        let request = HiveShutdownRequest {
            stop_workers: true,
            drain_seconds: None,
        };
        if let Some(hive) = self.find(&session).await? {
            report(Narration::info(
                "queen",
                "uninstall",
                "Stopping the hive and its workers.",
            ));
            self.stop_hive(&hive, &request).await?;
        }
        self.remove_unit(&session).await?;
        let message = format!("Removing {}.", self.config.directory);
        report(Narration::info("queen", "uninstall", message));
        let mut remove =
            RemoteCommand::new("remove rbee", scripts::REMOVE).arg(self.config.directory.as_str());
        for name in OWN_FILES {
            remove = remove.arg(name);
        }
        for name in database_files(&self.home().binary_database()) {
            remove = remove.arg(name);
        }
        if models {
            for name in model_files(&self.home()) {
                remove = remove.arg(name);
            }
        }
        session.run_ok(&remove).await.map(drop)
    }

    /// Installs this release; returns whether the current version has changed.
    async fn install_release(&self, report: Report<'_>) -> Result<bool, Diagnostic> {
        let session = self.session().await?;
        let node = &self.config.name;
        let machine = probe(&session, &self.config.directory).await?;
        let release = self.config.release.clone();
        let needed_glibc = daemon_shell::blocking(move || release.needed_glibc()).await?;
        let copied = match check_platform(&machine, needed_glibc) {
            Ok(()) => match self.copy(&session, &machine, report).await? {
                Copied::Runs(version) => Ok(version),
                Copied::DoesNotRun(printed) => Err(errors::does_not_run(node, &printed)),
            },
            Err(found) => Err(errors::other_platform(node, &found)),
        };
        let version = match (copied, &self.config.source) {
            (Ok(version), _) => version,
            (Err(reason), Some(source)) => {
                report(Narration::info("queen", "install", format!("{reason}.")));
                let version = self.build(&session, source, report).await?;
                let programs = build::PROGRAMS.iter().copied();
                if let Err(printed) = self.check_runs(&version, programs).await? {
                    return Err(errors::built_does_not_run(node, &printed));
                }
                version
            }
            (Err(reason), None) => return Err(reason),
        };
        let switch = RemoteCommand::new("switch the version", scripts::SWITCH)
            .arg(self.bin())
            .arg(&version);
        let switched = self.session().await?.run_ok(&switch).await?;
        self.replaced.notify_waiters();
        let message = format!("rbee {} is installed on {node}.", Release::VERSION);
        report(Narration::info("queen", "install", message));
        Ok(switched.stdout.starts_with(b"switched"))
    }

    /// Copies the programs of this release to the node.
    async fn copy(
        &self,
        session: &SshSession,
        machine: &NodeProbe,
        report: Report<'_>,
    ) -> Result<Copied, Diagnostic> {
        let node = &self.config.name;
        let release = self.config.release.clone();
        let programs = daemon_shell::blocking(move || release.programs()).await?;
        let version = release::directory_name(&programs);
        let directory = format!("{}/{version}", self.bin());
        let missing = self.missing(session, &directory, &programs).await?;
        let bytes = missing.iter().map(|program| program.bytes).sum();
        if machine.disk_free_bytes.is_some_and(|free| free < bytes) {
            let free = machine.disk_free_bytes.unwrap_or_default();
            return Err(errors::no_space_to_install(node, bytes, free));
        }
        for program in missing {
            let mib = program.bytes.div_ceil(1 << 20);
            let message = format!("Copying {} ({mib} MiB) to {node}.", program.name);
            report(Narration::info("queen", "install", message));
            let path = format!("{directory}/{}", program.name);
            session.upload(&program.path, &path, 0o755).await?;
        }
        let names = programs.iter().map(|program| program.name.as_str());
        Ok(match self.check_runs(&version, names).await? {
            Ok(()) => Copied::Runs(version),
            Err(printed) => Copied::DoesNotRun(printed),
        })
    }

    /// Runs the programs of an installed version. The inner error is what they print if they do
    /// not run or are not of this version.
    async fn check_runs(
        &self,
        version: &str,
        programs: impl Iterator<Item = &str>,
    ) -> Result<Result<(), String>, Diagnostic> {
        let directory = format!("{}/{version}", self.bin());
        let mut command = RemoteCommand::new("run the programs", scripts::VERSIONS).arg(directory);
        let mut count = 0;
        for program in programs {
            command = command.arg(program);
            count += 1;
        }
        let printed = self.session().await?.run(&command).await?;
        Ok(check_versions(&printed, count))
    }

    /// The directory of versions.
    fn bin(&self) -> String {
        format!("{}/bin", self.config.directory)
    }

    /// Returns the programs that are not on the node yet.
    async fn missing(
        &self,
        session: &SshSession,
        directory: &str,
        programs: &[Program],
    ) -> Result<Vec<Program>, Diagnostic> {
        let mut have = RemoteCommand::new("find programs", scripts::HAVE).arg(directory);
        for program in programs {
            have = have.arg(&program.name).arg(&program.digest);
        }
        let output = session.run_ok(&have).await?;
        let there = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_missing = |program: &&Program| !there.lines().any(|name| name == program.name);
        Ok(programs.iter().filter(is_missing).cloned().collect())
    }

    /// Makes the previous version the current one; returns its name.
    async fn roll_back_release(&self, session: &SshSession) -> Result<String, Diagnostic> {
        let command = RemoteCommand::new("roll back", scripts::ROLL_BACK)
            .arg(self.bin())
            .arg(Release::HIVE);
        let output = session.run(&command).await?;
        match output.status {
            0 => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            scripts::NOT_INSTALLED => Err(errors::no_previous_version(&self.config.name)),
            status => Err(errors::not_started(
                &self.config.name,
                status,
                &output.stderr,
            )),
        }
    }

    /// Makes the previously installed version the current one, and replaces the running hive.
    /// Returns the name of the version.
    pub async fn roll_back(&self) -> Result<String, Diagnostic> {
        let version = {
            let _changing = self.changing.lock().await;
            let session = self.session().await?;
            let version = self.roll_back_release(&session).await?;
            if let Some(process) = self.running_process(&session).await? {
                self.terminate(&session, process).await?;
            }
            version
        };
        self.ensure().await?;
        self.replaced.notify_waiters();
        Ok(version)
    }
}

/// The models and their catalog, with the files that SQLite adds to it.
fn model_files(home: &Home) -> Vec<String> {
    let files = database_files(&home.model_database()).into_iter();
    files.chain([name(&home.models())]).collect()
}

/// Names of the files of an SQLite database.
fn database_files(database: &Path) -> Vec<String> {
    let database = name(database);
    let suffixes = ["", "-wal", "-shm"].iter();
    suffixes
        .map(|suffix| format!("{database}{suffix}"))
        .collect()
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Fails with the platforms of the machine and of this release if they differ.
fn check_platform(machine: &NodeProbe, glibc: Option<glibc::Version>) -> Result<(), String> {
    let needed = glibc.map(|(major, minor)| Libc::Glibc { major, minor });
    // A C library that is not known may be the right one: the programs are run later.
    let has_libc = needed.is_none() || machine.libc.is_none() || {
        !matches!(machine.libc, Some(Libc::Musl)) && machine.libc >= needed
    };
    let (os, arch) = (machine.os.as_deref(), machine.arch.as_deref());
    if release::is_own_platform(os, arch) && has_libc {
        return Ok(());
    }
    let with = |libc: Option<Libc>| libc.map(|libc| format!(" with {libc}")).unwrap_or_default();
    Err(format!(
        "{} {}{}, and this release is for {} {}{}",
        os.unwrap_or("unknown"),
        arch.unwrap_or("unknown"),
        with(machine.libc),
        std::env::consts::OS,
        std::env::consts::ARCH,
        with(needed),
    ))
}

/// Checks that each of `count` programs printed this version.
fn check_versions(printed: &ssh_link::Output, count: usize) -> Result<(), String> {
    let text = String::from_utf8_lossy(&printed.stdout);
    let is_right = |line: &str| line.split(' ').next_back() == Some(Release::VERSION);
    if printed.status == 0 && text.lines().count() == count && text.lines().all(is_right) {
        return Ok(());
    }
    Err(format!("{text}{}", printed.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(libc: Option<Libc>) -> NodeProbe {
        NodeProbe {
            os: Some("Linux".into()),
            arch: Some(std::env::consts::ARCH.into()),
            libc,
            ..NodeProbe::default()
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_machine_with_another_c_library_is_refused_with_both_versions() {
        let needed = Some((2, 34));
        let glibc = |major, minor| Some(Libc::Glibc { major, minor });
        for fits in [glibc(2, 34), glibc(2, 40), glibc(3, 0), None] {
            assert_eq!(check_platform(&machine(fits), needed), Ok(()), "{fits:?}");
        }
        let arch = std::env::consts::ARCH;
        for (libc, name) in [(glibc(2, 31), "glibc 2.31"), (Some(Libc::Musl), "musl")] {
            let expected = format!(
                "Linux {arch} with {name}, and this release is for linux {arch} with glibc 2.34"
            );
            assert_eq!(check_platform(&machine(libc), needed), Err(expected));
            assert_eq!(
                check_platform(&machine(libc), None),
                Ok(()),
                "static programs"
            );
        }
    }
}
