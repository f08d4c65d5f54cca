//! Who keeps the hive of a node running: systemd, as a service of the user, where that works
//! without root and while nobody is logged in; else it is a process of its own.

use daemon_shell::ProcessIdentity;
use diagnostics::Diagnostic;
use queen_contract::HiveService;
use ssh_link::{RemoteCommand, SshSession};

use super::RemoteHive;

const FACTS: &str = include_str!("facts.sh");
const LINGER: &str = include_str!("linger.sh");
const MAIN_PID: &str = include_str!("main_pid.sh");
const REMOVE: &str = include_str!("remove.sh");
/// Starts the hive by systemd.
pub(super) const START: &str = include_str!("start.sh");

/// What a machine says about services of the user.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    /// Absolute path of rbee's directory.
    directory: String,
    /// State of the service manager (`systemctl is-system-running`); empty if there is none.
    manager: String,
    /// Whether services run while nobody is logged in (loginctl(1)).
    linger: Option<bool>,
    /// Directory of rbee for which there is a unit.
    unit: Option<String>,
}

/// What is tried.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Systemd,
    /// Systemd, if lingering can be enabled without a password.
    SystemdWithLinger,
    /// A process, for this reason.
    Process(&'static str),
}

impl RemoteHive {
    /// Returns the unit for systemd, or `None` if the hive is to be a process of its own.
    /// `arguments` are those of the hive, its program first; `~/` is replaced in them.
    pub(super) async fn unit(
        &self,
        session: &SshSession,
        arguments: &[String],
        log: &str,
    ) -> Result<Option<String>, Diagnostic> {
        let node = &self.config.name;
        let directory = self.config.directory.as_str();
        let command = RemoteCommand::new("find the service manager", FACTS).arg(directory);
        let printed = session.run_ok(&command).await?.stdout;
        let facts = parse(&String::from_utf8_lossy(&printed));
        let choice = decide(&facts);
        if let Choice::Process(reason) = choice {
            tracing::info!(%node, reason, "systemd does not keep the hive");
            return Ok(None);
        }
        let Some(unit) = unit(&facts.directory, directory, arguments, log) else {
            tracing::info!(%node, "the directory cannot be written in a unit of systemd");
            return Ok(None);
        };
        if choice == Choice::SystemdWithLinger {
            let linger = RemoteCommand::new("enable lingering", LINGER);
            let enabled = session.run(&linger).await?;
            if enabled.status != 0 {
                let stderr = diagnostics::excerpt(enabled.stderr.trim(), 200);
                tracing::info!(%node, stderr, "lingering needs a password, so systemd is not used");
                return Ok(None);
            }
        }
        Ok(Some(unit))
    }

    /// Finds out who started the hive.
    pub(super) async fn service_of(
        &self,
        session: &SshSession,
        process: ProcessIdentity,
    ) -> Result<HiveService, Diagnostic> {
        let command = main_pid(process, "ask");
        Ok(match session.run(&command).await?.status {
            0 => HiveService::Systemd,
            _ => HiveService::Process,
        })
    }

    /// Stops the hive by systemd if that started it; returns whether it did.
    pub(super) async fn stop_service(
        &self,
        session: &SshSession,
        process: ProcessIdentity,
    ) -> Result<bool, Diagnostic> {
        Ok(session.run(&main_pid(process, "stop")).await?.status == 0)
    }

    /// Removes the unit of the hive, if there is one.
    pub(super) async fn remove_unit(&self, session: &SshSession) -> Result<(), Diagnostic> {
        let command = RemoteCommand::new("remove the unit", REMOVE);
        let command = command.arg(self.config.directory.as_str());
        session.run_ok(&command).await.map(drop)
    }
}

fn main_pid(process: ProcessIdentity, what: &str) -> RemoteCommand {
    RemoteCommand::new("find the service", MAIN_PID)
        .arg(process.pid.to_string())
        .arg(what)
}

fn parse(printed: &str) -> Facts {
    let mut facts = Facts::default();
    for (key, value) in printed.lines().filter_map(|line| line.split_once('=')) {
        match (key, value) {
            ("directory", _) => value.clone_into(&mut facts.directory),
            ("manager", _) => value.clone_into(&mut facts.manager),
            ("linger", "yes" | "no") => facts.linger = Some(value == "yes"),
            ("unit", _) => facts.unit = Some(value.to_owned()),
            _ => {}
        }
    }
    facts
}

fn decide(facts: &Facts) -> Choice {
    let is_other = facts.unit.as_ref().is_some_and(|d| *d != facts.directory);
    match facts.manager.as_str() {
        _ if is_other => Choice::Process("another directory of rbee has the service"),
        "running" | "degraded" | "starting" => match facts.linger {
            Some(true) => Choice::Systemd,
            Some(false) => Choice::SystemdWithLinger,
            None => Choice::Process("it is not known whether services outlive the session"),
        },
        "" => Choice::Process("there is no service manager of the user"),
        _ => Choice::Process("the service manager of the user does not run"),
    }
}

/// Returns the unit, or `None` if a value has a character with a meaning in units
/// (systemd.service(5), "Command lines").
fn unit(absolute: &str, directory: &str, arguments: &[String], log: &str) -> Option<String> {
    let expand = |text: &str| match text.strip_prefix(directory) {
        Some(rest) => format!("{absolute}{rest}"),
        None => text.to_owned(),
    };
    let is_plain = |text: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b" ./_@:=,+~-".contains(&b);
        text.bytes().all(allowed)
    };
    let arguments: Vec<String> = arguments.iter().map(|text| expand(text)).collect();
    let log = expand(log);
    if !is_plain(&log) || log.ends_with(' ') || !arguments.iter().all(|text| is_plain(text)) {
        return None;
    }
    let command = arguments.iter().map(|text| format!("\"{text}\""));
    let command = command.collect::<Vec<_>>().join(" ");
    Some(format!(
        "# Written by rbee, which replaces and removes it.\n\
         # Directory: {absolute}\n\
         [Unit]\n\
         Description=rbee hive\n\
         \n\
         [Service]\n\
         ExecStart={command}\n\
         # Workers outlive the hive.\n\
         KillMode=process\n\
         Restart=on-failure\n\
         RestartSec=5\n\
         StandardOutput=append:{log}\n\
         StandardError=append:{log}\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(text: &str) -> Choice {
        decide(&parse(text))
    }

    #[test]
    fn systemd_is_used_where_it_works_without_a_login() {
        let running = "directory=/r\nmanager=running\nlinger=";
        assert_eq!(choice(&format!("{running}yes\n")), Choice::Systemd);
        assert_eq!(choice(&format!("{running}no\n")), Choice::SystemdWithLinger);
        assert_eq!(
            choice("directory=/r\nmanager=degraded\nlinger=yes\nunit=/r\n"),
            Choice::Systemd
        );
        for other in [
            "",
            "directory=/r\nmanager=\nlinger=\n",
            "directory=/r\nmanager=offline\nlinger=yes\n",
            "directory=/r\nmanager=running\nlinger=\n",
            "directory=/r\nmanager=running\nlinger=Access denied\n",
            "directory=/r\nmanager=running\nlinger=yes\nunit=/other\n",
            "directory=/r\nmanager=running\nlinger=yes\nunit=\n",
        ] {
            assert!(matches!(choice(other), Choice::Process(_)), "{other}");
        }
    }

    #[test]
    fn a_unit_has_absolute_paths_and_keeps_the_workers() {
        let arguments = ["~/my rbee/bin/current/rbee-hive", "--port=0", "~/my rbee"];
        let arguments = arguments.map(str::to_owned);
        let text = unit(
            "/srv/me/my rbee",
            "~/my rbee",
            &arguments,
            "~/my rbee/logs/x.log",
        );
        let text = text.unwrap();
        for line in [
            "# Directory: /srv/me/my rbee",
            "ExecStart=\"/srv/me/my rbee/bin/current/rbee-hive\" \"--port=0\" \"/srv/me/my rbee\"",
            "KillMode=process",
            "StandardOutput=append:/srv/me/my rbee/logs/x.log",
            "WantedBy=default.target",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert_eq!(
            parse("unit=/srv/me/my rbee").unit.as_deref(),
            Some("/srv/me/my rbee")
        );
    }

    #[test]
    fn what_a_unit_would_interpret_is_not_written() {
        for strange in [
            "/a%h",
            "/a$HOME",
            "/a\"b",
            "/a\\b",
            "/a'b",
            "/a\nExecStart=/x",
            "/a;b",
            "/ä",
        ] {
            let argument = [format!("{strange}/bin/rbee-hive")];
            assert_eq!(unit(strange, strange, &argument, "/l"), None, "{strange}");
            assert_eq!(unit("/r", "/r", &[], strange), None, "{strange}");
        }
    }
}
