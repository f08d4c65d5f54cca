//! Faults inside the protocol. Each ends within the configured time with an error that says what
//! happened, and leaves no process and no file.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use diagnostics::{Code, Diagnostic};
use faulty_ssh_server::{Fault, FaultyServer};
use ssh_link::{RemoteCommand, SshSession, SshSettings, accept_host_key, probe};
use state_files::Home;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::machine::{node, processes_with};

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(30);

struct Faulty {
    server: FaultyServer,
    settings: SshSettings,
    _dir: TempDir,
}

impl Faulty {
    fn start() -> Self {
        let server = FaultyServer::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().join("h"))).unwrap();
        let settings = SshSettings {
            config_file: Some(server.config()),
            attempt_pauses: vec![Duration::ZERO; 2],
            connect_limit: Duration::from_secs(2),
            ..SshSettings::new(&home).unwrap()
        };
        Self {
            server,
            settings,
            _dir: dir,
        }
    }

    async fn connect(&self) -> Result<SshSession, Diagnostic> {
        let node = node();
        let connect = SshSession::connect(&node, &self.settings, &|_| {});
        timeout(LIMIT, connect).await.expect("it ends")
    }

    /// A session whose commands have this fault.
    async fn with(&self, fault: Fault) -> SshSession {
        let session = self.connect().await.unwrap();
        self.server.set(fault);
        session
    }

    /// Waits until no ssh process of this test and none of its files exist.
    async fn left(&self) {
        let config = self.server.config();
        let runtime = self.settings.runtime.path();
        let left = async {
            while !processes_with(&[&config, runtime]).is_empty()
                || fs::read_dir(runtime).unwrap().count() > 0
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, left).await.expect("nothing is left");
    }
}

fn command() -> RemoteCommand {
    RemoteCommand::new("a command", "cat").stdin(*b"text")
}

#[tokio::test]
async fn the_server_without_faults_is_usable() {
    let faulty = Faulty::start();
    let session = faulty.connect().await.unwrap();
    assert_eq!(session.run_ok(&command()).await.unwrap().stdout, b"text");
    drop(session);
    faulty.left().await;
}

#[tokio::test]
async fn a_server_that_does_not_get_to_the_login_is_given_up() {
    let faulty = Faulty::start();
    let silent = "no SSH connection to box: no response within 2 s";
    for (fault, expected) in [
        (Fault::NoBanner, silent),
        (Fault::StalledAuthentication, silent),
        (
            Fault::EndlessBanner,
            "no SSH connection to box: kex_exchange_identification: ",
        ),
        (
            Fault::Banner(b"\x1b[2J\x07\xff not SSH\r\nSSH-9.9-\0\r\n".to_vec()),
            "no SSH connection to box: ",
        ),
        (
            Fault::Banner(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            "no SSH connection to box: ",
        ),
    ] {
        faulty.server.set(fault.clone());
        let error = faulty.connect().await.unwrap_err();
        assert_eq!(error.code, Code::SshUnreachable, "{fault:?}: {error}");
        assert!(error.message.starts_with(expected), "{fault:?}: {error}");
        assert!(!error.message.contains(char::is_control), "{error:?}");
        faulty.left().await;
    }
}

#[tokio::test]
async fn reading_the_host_key_of_a_silent_server_ends() {
    let faulty = Faulty::start();
    faulty.server.set(Fault::NoBanner);
    let fingerprint = format!("SHA256:{}", "A".repeat(43)).parse().unwrap();
    let node = node();
    let accept = accept_host_key(&node, &fingerprint, &faulty.settings);
    let error = timeout(LIMIT, accept).await.unwrap().unwrap_err();
    assert_eq!(error.code, Code::SshUnreachable);
    faulty.left().await;
}

#[tokio::test]
async fn a_server_that_runs_no_command_is_reported() {
    let faulty = Faulty::start();
    faulty.server.set(Fault::NoCommands);
    let error = faulty.connect().await.unwrap_err();
    assert_eq!(error.code, Code::SshAuthFailed, "{error}");
    assert!(
        error
            .message
            .starts_with("box accepted the login and ran no command: "),
        "{error}"
    );
    faulty.left().await;
}

#[tokio::test]
async fn a_command_that_is_refused_is_reported_and_the_connection_stays() {
    let faulty = Faulty::start();
    let session = faulty.with(Fault::RefusedCommands).await;
    let error = session.run_ok(&command()).await.unwrap_err();
    assert_eq!(error.code, Code::NodeCommandFailed, "{error}");
    assert!(error.message.contains("a command"), "{error}");
    faulty.server.set(Fault::None);
    session.run_ok(&command()).await.unwrap();
    drop(session);
    faulty.left().await;
}

#[tokio::test]
async fn a_command_without_an_exit_status_has_failed() {
    let faulty = Faulty::start();
    let session = faulty.with(Fault::NoExitStatus).await;
    let error = session.run_ok(&command()).await.unwrap_err();
    assert_eq!(error.code, Code::NodeCommandFailed, "{error}");
    assert!(error.message.contains("a command"), "{error}");
    drop(session);
    faulty.left().await;
}

#[tokio::test]
async fn a_command_that_stalls_ends_at_its_limit() {
    let faulty = Faulty::start();
    let session = faulty.with(Fault::StalledCommands).await;
    let limited = command().limit(Duration::from_millis(300));
    let error = session.run_ok(&limited).await.unwrap_err();
    assert_eq!(error.message, "box: a command did not end within 0.3 s");
    drop(session);
    faulty.left().await;
}

#[tokio::test]
async fn a_hostile_output_of_the_probe_is_an_error_without_its_bytes() {
    let faulty = Faulty::start();
    let directory = "~/.rbee".parse().unwrap();
    let outputs: [&[u8]; 4] = [
        b"",
        b"\x1b]0;title\x07\xff\xfe\x00",
        b"rbee:begin\n\x1b[2Jdirectory=relative\nend=1\n",
        b"rbee:begin\ndirectory=/x\nos=Linux\n",
    ];
    for output in outputs {
        let session = faulty.with(Fault::Output(output.to_vec())).await;
        let error = probe(&session, &directory).await.unwrap_err();
        assert_eq!(error.code, Code::NodeCommandFailed, "{error}");
        assert!(error.message.contains("the probe"), "{error}");
        assert!(!error.message.contains(char::is_control), "{error:?}");
        faulty.server.set(Fault::None);
    }
    faulty.left().await;
}

#[tokio::test]
async fn an_endless_output_ends_with_an_error() {
    let faulty = Faulty::start();
    let session = faulty.with(Fault::EndlessOutput).await;
    let directory = "~/.rbee".parse().unwrap();
    let error = timeout(LIMIT, probe(&session, &directory)).await;
    let error = error.expect("it ends").unwrap_err();
    assert_eq!(error.code, Code::NodeCommandFailed, "{error}");
    assert_eq!(
        error.message,
        "box: the probe printed something unexpected: more than 1048576 bytes"
    );
    drop(session);
    faulty.left().await;
}

#[tokio::test]
async fn a_forward_that_is_refused_names_the_option_of_the_server() {
    let faulty = Faulty::start();
    let session = faulty.connect().await.unwrap();
    let error = session
        .forward_from_node("http://127.0.0.1:1")
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::NodeCommandFailed, "{error}");
    assert!(error.hint.unwrap().contains("AllowTcpForwarding yes"));
    drop(session);
    faulty.left().await;
}

#[tokio::test]
async fn an_upload_over_a_connection_that_ends_leaves_no_half_file_and_can_be_repeated() {
    let faulty = Faulty::start();
    let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    let source = tempfile::NamedTempFile::new().unwrap();
    fs::write(source.path(), &content).unwrap();
    let target = faulty.server.home().join("bin/program");
    for bytes in [1, 100_000, 2_900_000] {
        let session = faulty.with(Fault::DroppedAfter(bytes)).await;
        let upload = session.upload(source.path(), "~/bin/program", 0o755);
        let error = timeout(LIMIT, upload).await.expect("it ends").unwrap_err();
        assert_eq!(error.code, Code::SshUnreachable, "{error}");
        let directory = target.parent().unwrap();
        let empty = async {
            // The directory is created by the command, which may have ended before.
            while fs::read_dir(directory).is_ok_and(|entries| entries.count() > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, empty).await.expect("nothing is left");
        faulty.server.set(Fault::None);
        drop(session);
        faulty.left().await;
    }
    let session = faulty.connect().await.unwrap();
    session
        .upload(source.path(), "~/bin/program", 0o755)
        .await
        .unwrap();
    assert!(fs::read(&target).unwrap() == content);
    let mode = fs::metadata(&target).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}
