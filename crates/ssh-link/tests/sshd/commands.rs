use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use diagnostics::Code;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use ssh_link::{RemoteCommand, probe};
use tokio::runtime::Runtime;

use crate::machine::Machine;

/// Prints its arguments, each followed by a byte that none of them contains.
const PRINT: &str = r#"for a in "$@"; do printf '%s\0' "$a"; done"#;

/// Texts that a shell would execute, and any others.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let texts = prop::sample::select(vec![
        "$(touch executed)",
        "`touch executed`",
        "'; touch executed; '",
        "\"; touch executed; \"",
        "x\ntouch executed\n",
        "| touch executed",
        "&& touch executed",
        "\\'; touch executed #",
        "!touch",
        "~/x",
        "-rf",
        "--",
        "*",
        "",
        "%s%n\\0101",
        "ünï\u{202e}",
    ]);
    prop_oneof![
        texts.prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(1..=u8::MAX, 0..60),
    ]
}

fn check_hostile_arguments(shell: &str) {
    let runtime = Runtime::new().unwrap();
    let machine = Machine::with_shell(Path::new(shell));
    let session = runtime.block_on(machine.connect()).unwrap();
    let mut runner = TestRunner::new(Config::with_cases(40));
    let run = |arguments: Vec<Vec<u8>>| {
        let mut command = RemoteCommand::new("test", PRINT);
        let mut expected = Vec::new();
        for argument in &arguments {
            command = command.arg(argument);
            expected.extend_from_slice(argument);
            expected.push(0);
        }
        let output = runtime.block_on(session.run(&command)).unwrap();
        prop_assert_eq!(output.stderr, "");
        prop_assert_eq!(output.stdout, expected);
        let left = fs::read_dir(machine.server.home()).unwrap().count();
        prop_assert_eq!(left, 0, "something was executed");
        Ok(())
    };
    runner
        .run(&prop::collection::vec(hostile(), 0..4), run)
        .unwrap();
}

#[test]
fn hostile_arguments_arrive_unchanged_in_sh() {
    check_hostile_arguments("/bin/sh");
}

#[test]
fn hostile_arguments_arrive_unchanged_in_bash() {
    check_hostile_arguments("/bin/bash");
}

#[tokio::test]
async fn commands_have_limits() {
    let machine = Machine::start();
    let session = machine.connect().await.unwrap();
    let endless =
        RemoteCommand::new("a long command", "sleep 600").limit(Duration::from_millis(100));
    let error = session.run(&endless).await.unwrap_err();
    assert_eq!(error.code, Code::SshUnreachable);
    assert_eq!(
        error.message,
        "box: a long command did not end within 0.1 s"
    );
    let long = RemoteCommand::new("a long output", "printf %2000d 1").max_output(1999);
    let error = session.run(&long).await.unwrap_err();
    assert_eq!(error.code, Code::NodeCommandFailed);
    let output = session.run(&long.max_output(2000)).await.unwrap();
    assert_eq!(output.stdout.len(), 2000);
}

#[tokio::test]
async fn many_commands_run_at_the_same_time() {
    let machine = Machine::start();
    let session = machine.connect().await.unwrap();
    let commands = (0..30).map(|number| {
        let session = session.clone();
        async move {
            let command = RemoteCommand::new("test", "cat; printf %s \"$1\"")
                .arg(number.to_string())
                .stdin(vec![b'a'; 100_000]);
            let output = session.run_ok(&command).await.unwrap();
            assert_eq!(output.stdout[100_000..], *number.to_string().as_bytes());
        }
    });
    futures_util::future::join_all(commands).await;
}

#[tokio::test]
async fn a_file_appears_complete_with_its_mode() {
    let machine = Machine::start();
    let session = machine.connect().await.unwrap();
    let content: Vec<u8> = (0..1_000_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    let source = tempfile::NamedTempFile::new().unwrap();
    fs::write(source.path(), &content).unwrap();
    let name = "~/new $(touch executed)'/it's \"x\"";
    session.upload(source.path(), name, 0o700).await.unwrap();
    let file = machine.server.home().join(&name[2..]);
    assert_eq!(fs::read(&file).unwrap(), content);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o700
    );
    session
        .write_file(name, 0o600, b"secret".to_vec())
        .await
        .unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"secret");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let dir = file.parent().unwrap();
    assert_eq!(
        fs::metadata(dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(
        fs::read_dir(dir).unwrap().count(),
        1,
        "no temporary file is left"
    );
    assert_eq!(fs::read_dir(machine.server.home()).unwrap().count(), 1);
}

#[tokio::test]
async fn an_interrupted_upload_leaves_nothing() {
    let machine = Machine::start();
    let session = machine.connect().await.unwrap();
    let home = machine.server.home();
    let source = tempfile::NamedTempFile::new().unwrap();
    // Sparse: it takes long enough to be interrupted, and no space.
    source.as_file().set_len(512 << 20).unwrap();
    let dir = home.join("d");
    let has_begun = async {
        while !dir.exists() || fs::read_dir(&dir).unwrap().count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        machine.server.cut();
    };
    let command = session.upload(source.path(), "~/d/file", 0o600);
    let (result, ()) = tokio::join!(command, has_begun);
    assert_eq!(result.unwrap_err().code, Code::SshUnreachable);
    let empty = async {
        while fs::read_dir(&dir).unwrap().count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), empty)
        .await
        .expect("the temporary file is removed");
}

#[tokio::test]
async fn a_machine_is_probed() {
    let machine = Machine::start();
    let session = machine.connect().await.unwrap();
    let found = probe(&session, &"~/.rbee dir".parse().unwrap())
        .await
        .unwrap();
    let home = machine.server.home();
    assert_eq!(found.directory, home.join(".rbee dir").to_str().unwrap());
    assert_eq!(found.os.as_deref(), Some("Linux"));
    assert_eq!(found.arch.as_deref(), Some(std::env::consts::ARCH));
    assert_eq!(found.hive_version, None);
    assert!(found.cpus.unwrap() > 0);
    assert!(found.ram_available_bytes.unwrap() <= found.ram_total_bytes.unwrap());
    assert!(found.disk_free_bytes.unwrap() > 0);
    assert!(!found.latency.is_zero());

    let bin = home.join(".rbee dir/bin/current");
    fs::create_dir_all(&bin).unwrap();
    let hive = bin.join("rbee-hive");
    fs::write(&hive, "#!/bin/sh\necho rbee-hive 1.2.3\n").unwrap();
    fs::set_permissions(&hive, fs::Permissions::from_mode(0o755)).unwrap();
    let found = probe(&session, &"~/.rbee dir".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(found.hive_version.as_deref(), Some("1.2.3"));
}
