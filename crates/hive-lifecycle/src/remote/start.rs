//! Starts the hive of a node.

use std::path::Path;

use diagnostics::{Diagnostic, excerpt};
use queen_contract::HiveService;
use ssh_link::{Output, RemoteCommand, SshSession};
use state_files::DaemonRecord;

use super::{RemoteHive, START_LIMIT, release::Release, scripts, service, text};
use crate::{CatalogOptions, RunningHive, errors, log_tail};

/// Lines of its log that are reported if a hive does not start.
const LOG_LINES: usize = 5;

impl RemoteHive {
    pub(super) async fn start(&self, session: &SshSession) -> Result<RunningHive, Diagnostic> {
        let config = &self.config;
        let home = self.home();
        let (record, log) = (home.hive_record(), home.hive_log());
        let (output, kept_by) = self.run_start(session, &record, &log).await?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let what = match output.status {
            0 => {
                let record = DaemonRecord::parse(&record, &output.stdout)?;
                let record = record.ok_or_else(|| errors::no_record(&config.name))?;
                let hive = self.connect(&record).await?;
                self.set_service(kept_by);
                let pid = record.process.pid;
                tracing::info!(node = %config.name, pid, ?kept_by, "started the hive");
                return Ok(hive);
            }
            scripts::NOT_INSTALLED => return Err(errors::not_installed(&config.name)),
            scripts::EXITED => "exited during startup".to_owned(),
            scripts::TOO_SLOW => format!("was not ready within {} s", START_LIMIT.as_secs()),
            status => {
                let stderr = &output.stderr;
                return Err(errors::not_started(&config.name, status, stderr));
            }
        };
        if let Some(reason) = log_tail::fatal_in(&printed) {
            return Err(errors::start_refused(reason, &log));
        }
        let lines = log_tail::last_lines_in(&printed, LOG_LINES);
        Err(errors::start_failed(&what, &lines, &log))
    }

    /// Runs the script that starts the hive: by systemd where it works, else as a process.
    async fn run_start(
        &self,
        session: &SshSession,
        record: &Path,
        log: &Path,
    ) -> Result<(Output, HiveService), Diagnostic> {
        let program = format!("{}/bin/current/{}", self.config.directory, Release::HIVE);
        let token = self.home().node_token(&self.config.name);
        let tenths = (START_LIMIT.as_millis() / 100).to_string();
        let command = |script| {
            let command = RemoteCommand::new("start the hive", script)
                .arg(&program)
                .arg(text(&token)?)
                .arg(text(log)?)
                .arg(text(record)?)
                .arg(&tenths)
                .stdin(self.config.token.expose())
                .limit(START_LIMIT * 2);
            Ok::<_, Diagnostic>(command)
        };
        let mut hive = vec![program.clone()];
        hive.extend(self.arguments()?);
        if let Some(unit) = self.unit(session, &hive, text(log)?).await? {
            let output = session.run(&command(service::START)?.arg(unit)).await?;
            let is_answer = [
                0,
                scripts::NOT_INSTALLED,
                scripts::EXITED,
                scripts::TOO_SLOW,
            ];
            if is_answer.contains(&output.status) {
                return Ok((output, HiveService::Systemd));
            }
            let (node, stderr) = (&self.config.name, excerpt(output.stderr.trim(), 300));
            tracing::warn!(%node, stderr, "systemd does not start the hive, so it is a process");
            self.remove_unit(session).await?;
        }
        let mut command = command(scripts::START)?;
        for argument in &hive[1..] {
            command = command.arg(argument);
        }
        Ok((session.run(&command).await?, HiveService::Process))
    }

    /// Arguments of the hive. `~/` is replaced in them.
    fn arguments(&self) -> Result<Vec<String>, Diagnostic> {
        let config = &self.config;
        let token = self.home().node_token(&config.name);
        let mut arguments = vec![
            "--home".to_owned(),
            config.directory.to_string(),
            "--token-file".to_owned(),
            text(&token)?.to_owned(),
            "--hive-id".to_owned(),
            config.name.to_string(),
            "--bind=127.0.0.1".to_owned(),
            "--port=0".to_owned(),
            format!("--log={}", config.log),
        ];
        let ports = config.worker_ports.as_ref();
        arguments.extend(ports.map(|ports| format!("--worker-ports={ports}")));
        let catalog = config.catalog.iter();
        arguments.extend(catalog.flat_map(CatalogOptions::remote_arguments));
        Ok(arguments)
    }
}
