use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use diagnostics::Code;
use input_validation::HostKeyFingerprint;
use queen_contract::SshNode;
use ssh_link::{RemoteCommand, RuntimeDirectory, accept_host_key};
use ssh_server::{Mode, SshServer};
use tokio::time::timeout;

use crate::machine::{Machine, node, processes_with};

fn script(path: &std::path::Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn an_alias_of_the_users_configuration_is_enough() {
    let machine = Machine::start();
    let (session, messages) = machine.connect_reported(&node()).await;
    assert_eq!(messages, ["Connecting to box by SSH (attempt 1 of 3)."]);
    let session = session.unwrap();
    let command = RemoteCommand::new("test", "printf %s \"$HOME\"; echo problem >&2; exit 7");
    let output = session.run(&command).await.unwrap();
    assert_eq!(
        output.stdout,
        machine.server.home().as_os_str().as_encoded_bytes()
    );
    assert_eq!((output.status, output.stderr.as_str()), (7, "problem\n"));
    drop(session);
    machine.left().await;
}

#[tokio::test]
async fn explicit_values_take_precedence_over_the_configuration() {
    let machine = Machine::start();
    let explicit = SshNode {
        host: "127.0.0.1".parse().unwrap(),
        port: Some(machine.server.port()),
        user: Some(machine.server.user().parse().unwrap()),
        key_file: Some(machine.server.key_file().to_str().unwrap().to_owned()),
        directory: None,
        repository: None,
        branch: None,
    };
    machine.connect_reported(&explicit).await.0.unwrap();
}

#[tokio::test]
async fn an_unreachable_server_is_tried_three_times() {
    let machine = Machine::start();
    machine.server.set_mode(Mode::Refuse);
    let (result, messages) = machine.connect_reported(&node()).await;
    let error = result.unwrap_err();
    assert_eq!(error.code, Code::SshUnreachable);
    assert!(
        error.message.starts_with("no SSH connection to box: "),
        "{error}"
    );
    assert_eq!(messages.len(), 6, "{messages:?}");
    assert!(
        messages[5].starts_with("Attempt 3 failed: no SSH connection to box"),
        "{messages:?}"
    );
    machine.left().await;
}

#[tokio::test]
async fn a_server_that_does_not_respond_is_given_up() {
    let mut machine = Machine::start();
    machine.settings.connect_limit = Duration::from_millis(200);
    machine.server.set_mode(Mode::Ignore);
    let error = machine.connect().await.unwrap_err();
    assert_eq!(error.code, Code::SshUnreachable);
    assert_eq!(
        error.message,
        "no SSH connection to box: no response within 0.2 s"
    );
    machine.left().await;
}

#[tokio::test]
async fn refused_credentials_are_not_tried_again() {
    let machine = Machine::start();
    let other = SshServer::start().unwrap();
    let key = |server: &SshServer| Some(server.key_file().to_str().unwrap().to_owned());
    // The alias adds the accepted key, so the address is used.
    let explicit = SshNode {
        host: "127.0.0.1".parse().unwrap(),
        port: Some(machine.server.port()),
        key_file: key(&other),
        ..node()
    };
    let (result, messages) = machine.connect_reported(&explicit).await;
    let error = result.unwrap_err();
    assert_eq!(error.code, Code::SshAuthFailed);
    assert!(
        error.message.ends_with("Permission denied (publickey)."),
        "{error}"
    );
    assert!(error.hint.unwrap().contains("`ssh-add -l`"));
    assert_eq!(messages.len(), 1, "{messages:?}");
    machine.left().await;
}

#[tokio::test]
async fn a_key_that_others_can_read_is_named() {
    let machine = Machine::start();
    let key = machine.server.key_file();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let explicit = SshNode {
        key_file: Some(key.to_str().unwrap().to_owned()),
        ..node()
    };
    let error = machine.connect_reported(&explicit).await.0.unwrap_err();
    assert_eq!(error.code, Code::SshAuthFailed);
    let hint = format!(
        "other users can read the key, so ssh ignored it: `chmod 600 {}`",
        key.display()
    );
    assert_eq!(error.hint, Some(hint));
}

/// ssh reads the path as a pattern with `%`, quotes and `~`, and runs no shell.
#[tokio::test]
async fn a_key_file_with_a_hostile_name_is_used_and_nothing_is_executed() {
    let machine = Machine::start();
    let dir = tempfile::tempdir().unwrap();
    let address = SshNode {
        host: "127.0.0.1".parse().unwrap(),
        port: Some(machine.server.port()),
        ..node()
    };
    for name in [
        "a b",
        "$(touch executed)",
        "`touch executed`",
        "'; touch executed; '",
        "\"; touch executed; \"",
        "x\\\"|touch executed",
        "%h%%d%",
        "~",
        "-oProxyCommand=touch executed",
        "#ünï",
    ] {
        let key = dir.path().join(name);
        fs::copy(machine.server.key_file(), &key).unwrap();
        let node = SshNode {
            key_file: Some(key.to_str().unwrap().to_owned()),
            ..address.clone()
        };
        let session = machine.connect_reported(&node).await.0;
        session.unwrap_or_else(|error| panic!("{name}: {error}"));
        fs::remove_file(&key).unwrap();
    }
    assert!(!Path::new("executed").exists() && !dir.path().join("executed").exists());
    assert_eq!(fs::read_dir(machine.server.home()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_missing_key_is_found_before_anything_is_sent() {
    let machine = Machine::start();
    let missing = SshNode {
        key_file: Some("/nowhere/key".into()),
        ..node()
    };
    let error = machine.connect_reported(&missing).await.0.unwrap_err();
    assert_eq!(error.code, Code::SshKeyNotFound);
    assert_eq!(
        error.message,
        "cannot read the SSH key /nowhere/key: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn an_unknown_host_key_is_refused_until_its_fingerprint_is_accepted() {
    let machine = Machine::start();
    let users_file = machine.server.known_hosts();
    fs::write(&users_file, "").unwrap();
    let fingerprint = machine.server.host_key_fingerprint().unwrap();
    let (result, messages) = machine.connect_reported(&node()).await;
    let error = result.unwrap_err();
    assert_eq!(error.code, Code::SshHostKeyUnknown);
    assert_eq!(
        error.message,
        format!("the host key of box is not known: {fingerprint}")
    );
    assert!(
        error
            .hint
            .unwrap()
            .contains(&format!("--accept-host-key {fingerprint}"))
    );
    assert_eq!(messages.len(), 1, "{messages:?}");

    let other: HostKeyFingerprint = format!("SHA256:{}", "A".repeat(43)).parse().unwrap();
    let error = accept_host_key(&node(), &other, &machine.settings)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::SshHostKeyUnknown);
    assert_eq!(
        error.message,
        format!("the host key of box is {fingerprint}, not {other}")
    );
    machine.connect().await.unwrap_err();

    let right = fingerprint.parse().unwrap();
    accept_host_key(&node(), &right, &machine.settings)
        .await
        .unwrap();
    machine.connect().await.unwrap();
    assert_eq!(
        fs::read_to_string(&users_file).unwrap(),
        "",
        "the user's file is unchanged"
    );
    machine.left().await;
}

#[tokio::test]
async fn a_changed_host_key_is_reported_as_such() {
    let machine = Machine::start();
    machine.server.replace_host_key().unwrap();
    let fingerprint = machine.server.host_key_fingerprint().unwrap();
    let error = machine.connect().await.unwrap_err();
    assert_eq!(error.code, Code::SshHostKeyUnknown);
    let expected = format!("the host key of box has changed to {fingerprint}: ");
    assert!(error.message.starts_with(&expected), "{error}");
    let fingerprint = fingerprint.parse().unwrap();
    accept_host_key(&node(), &fingerprint, &machine.settings)
        .await
        .unwrap();
    machine.connect().await.unwrap();
}

#[tokio::test]
async fn a_node_behind_a_jump_host_is_reached() {
    let machine = Machine::start();
    let far = SshServer::start().unwrap();
    let (port, key) = (far.port(), far.key_file());
    let lines = format!(
        "Host far\n HostName 127.0.0.1\n Port {port}\n IdentityFile {}\n ProxyJump box\n",
        key.display()
    );
    machine.server.add_to_config(&lines).unwrap();
    let far_node = SshNode {
        host: "far".parse().unwrap(),
        ..node()
    };
    // The key of the far server is unknown; it is read through the jump host.
    let fingerprint = far.host_key_fingerprint().unwrap();
    let error = machine.connect_reported(&far_node).await.0.unwrap_err();
    assert_eq!(
        error.message,
        format!("the host key of far is not known: {fingerprint}")
    );
    let fingerprint = fingerprint.parse().unwrap();
    accept_host_key(&far_node, &fingerprint, &machine.settings)
        .await
        .unwrap();
    let session = machine.connect_reported(&far_node).await.0.unwrap();
    assert_eq!((machine.server.connections(), far.connections()), (1, 1));
    let output = session
        .run(&RemoteCommand::new("test", "pwd"))
        .await
        .unwrap();
    assert_eq!(
        output.stdout,
        format!("{}\n", far.home().display()).as_bytes()
    );
    drop(session);
    machine.left().await;
}

/// A server that `machine`'s server leads to, with the names of both in the configuration.
fn far(machine: &Machine) -> (SshServer, SshNode) {
    let far = SshServer::start().unwrap();
    let lines = format!("{}  ProxyJump box\n", far.config_as("far"));
    // The first value of an option is valid.
    let config = fs::read_to_string(machine.server.config()).unwrap();
    fs::write(machine.server.config(), lines + &config).unwrap();
    let node = SshNode {
        host: "far".parse().unwrap(),
        ..node()
    };
    (far, node)
}

#[tokio::test]
async fn a_jump_host_that_does_not_respond_leaves_no_process() {
    let mut machine = Machine::start();
    machine.settings.connect_limit = Duration::from_millis(500);
    let (_far, node) = far(&machine);
    machine.server.set_mode(Mode::Ignore);
    let error = machine.connect_reported(&node).await.0.unwrap_err();
    assert_eq!(error.code, Code::SshUnreachable);
    let config = machine.server.config();
    let ended = async {
        while !processes_with(&[&config]).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let what = || processes_with(&[&config]);
    let limit = Duration::from_secs(10);
    timeout(limit, ended)
        .await
        .unwrap_or_else(|_| panic!("{:?}", what()));
}

#[tokio::test]
async fn the_host_that_failed_on_the_way_is_named() {
    let machine = Machine::start();
    let (far, node) = far(&machine);
    machine.connect_reported(&node).await.0.unwrap();
    far.accept_no_key().unwrap();
    let error = machine.connect_reported(&node).await.0.unwrap_err();
    assert_eq!(error.code, Code::SshAuthFailed);
    assert!(
        error.message.starts_with("far refused the login: "),
        "{error}"
    );
    machine.server.set_mode(Mode::Refuse);
    let error = machine.connect_reported(&node).await.0.unwrap_err();
    assert_eq!(error.code, Code::SshUnreachable);
    let start = "no SSH connection to far: its jump host box failed: ";
    assert!(error.message.starts_with(start), "{error}");
    machine.server.set_mode(Mode::Serve);
    machine.server.accept_no_key().unwrap();
    let error = machine.connect_reported(&node).await.0.unwrap_err();
    assert_eq!(error.code, Code::SshAuthFailed);
    let start = "box, the jump host of far, refused the login: ";
    assert!(error.message.starts_with(start), "{error}");
}

#[tokio::test]
async fn a_configuration_that_takes_too_long_is_given_up() {
    let mut machine = Machine::start();
    machine.settings.connect_limit = Duration::from_millis(300);
    let config = fs::read_to_string(machine.server.config()).unwrap();
    let slow = format!("Match exec \"sleep 1234.5\"\n{config}");
    fs::write(machine.server.config(), slow).unwrap();
    let error = machine.connect().await.unwrap_err();
    assert_eq!(error.code, Code::ConfigInvalid, "{error}");
    let ended = async {
        while !processes_with(&[Path::new("sleep 1234.5")]).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), ended).await.unwrap();
}

#[tokio::test]
async fn login_scripts_may_print() {
    let dir = tempfile::tempdir().unwrap();
    let shell = dir.path().join("shell");
    script(&shell, "#!/bin/sh\nprintf 'welcome'\nexec /bin/sh \"$@\"\n");
    let machine = Machine::with_shell(&shell);
    let session = machine.connect().await.unwrap();
    let output = session
        .run(&RemoteCommand::new("test", "echo x"))
        .await
        .unwrap();
    assert_eq!(output.stdout, b"x\n");
}

#[tokio::test]
async fn a_user_without_a_shell_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let shell = dir.path().join("shell");
    script(
        &shell,
        "#!/bin/sh\necho 'This account is not available.' >&2\nexit 1\n",
    );
    let machine = Machine::with_shell(&shell);
    let error = machine.connect().await.unwrap_err();
    assert_eq!(error.code, Code::SshAuthFailed);
    assert_eq!(
        error.message,
        "box accepted the login and ran no command: This account is not available."
    );
}

#[tokio::test]
async fn the_loss_of_a_connection_is_noticed() {
    let machine = Machine::start();
    let session = machine.connect().await.unwrap();
    machine.server.cut();
    let reason = timeout(Duration::from_secs(10), session.closed())
        .await
        .unwrap();
    assert_eq!(reason.code, Code::SshUnreachable);
    assert!(
        reason
            .message
            .starts_with("the SSH connection to box is lost: "),
        "{reason}"
    );
    let error = session
        .run(&RemoteCommand::new("test", ":"))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::SshUnreachable, "{error}");
    drop(session);
    machine.left().await;
}

/// A queen that is killed closes the standard input of ssh.
#[tokio::test]
async fn connections_of_an_earlier_queen_are_ended() {
    let machine = Machine::start();
    let dir = machine.settings.runtime.path().join("s-left");
    fs::create_dir(&dir).unwrap();
    let socket = dir.join("control");
    let mut master = Command::new("ssh")
        .arg("-F")
        .arg(machine.server.config())
        .args(["-N", "-M", "-S"])
        .arg(&socket)
        .arg("box")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    while !socket.exists() {
        assert!(master.try_wait().unwrap().is_none(), "ssh exited");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let opened = RuntimeDirectory::open(&machine.home).unwrap();
    assert_eq!(opened.path(), machine.settings.runtime.path());
    master.wait().unwrap();
    machine.left().await;
}
