//! Installed, started, found, upgraded, stopped.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use diagnostics::Code;
use hive_lifecycle::HiveHost as _;
use queen_contract::NodeLog;
use state_files::Home;
use tokio::time::timeout;

use crate::fixture::{CATALOG, Node};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_hive_is_installed_started_found_and_stopped() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    let error = node.hive.ensure().await.unwrap_err();
    assert_eq!(error.code, Code::HiveNotInstalled);
    assert_eq!(
        error.hint.as_deref(),
        Some("`rbee-keeper node install gpu-box`")
    );

    node.install().await;
    let started = node.hive.ensure().await.unwrap();
    let found = node.hive.ensure().await.unwrap();
    assert_eq!(found.process, started.process);
    assert!(started.process.is_alive());
    let words = fs::read_to_string(format!("/proc/{}/cmdline", started.process.pid)).unwrap();
    let words: Vec<&str> = words.split('\0').collect();
    let [url, key] = CATALOG;
    for word in [format!("--catalog={url}"), format!("--catalog-key={key}")] {
        assert!(words.contains(&word.as_str()), "{words:?}");
    }
    let token = Home::at(node.directory()).node_token(&"gpu-box".parse().unwrap());
    assert_eq!(
        fs::metadata(&token).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let log = node.hive.log(NodeLog::Hive, 2).await.unwrap();
    assert!(log.contains("GET /v1/health"), "{log}");

    let lost = node.hive.lost(&started);
    started.process.signal(daemon_shell::Signal::Kill).unwrap();
    timeout(LIMIT, lost).await.expect("the exit is noticed");
    assert_ne!(node.hive.ensure().await.unwrap().process, started.process);
    node.hive.uninstall(true, &node.report()).await.unwrap_err();
}

#[tokio::test]
async fn the_loss_of_the_link_is_the_loss_of_the_hive() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    let hive = node.hive.ensure().await.unwrap();
    let (lost, ()) = tokio::join!(timeout(LIMIT, node.hive.lost(&hive)), async {
        tokio::task::yield_now().await;
        node.server.cut();
    });
    lost.expect("the loss is noticed");
    assert!(hive.process.is_alive(), "the hive outlives the link");
    timeout(LIMIT, node.hive.changed())
        .await
        .expect("the return is noticed");
    assert_eq!(node.hive.ensure().await.unwrap().process, hive.process);
}

#[tokio::test]
async fn a_hive_that_exits_is_reported_with_its_last_log_lines() {
    let node = Node::start();
    let version = env!("CARGO_PKG_VERSION");
    node.release_program(&format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || {{ echo rbee-hive {version}; exit; }}\n\
         echo 'no such thing' >&2\nexit 3\n"
    ));
    node.install().await;
    let error = timeout(LIMIT, node.hive.ensure())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.code, Code::HiveStartFailed);
    assert_eq!(
        error.message,
        "the hive exited during startup; its log ends with: no such thing"
    );
}

#[tokio::test]
async fn a_hive_with_another_token_is_named_and_replaced_on_request() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    let started = node.hive.ensure().await.unwrap();
    node.forget_token();
    let other = node.host(None);
    let error = other.ensure().await.unwrap_err();
    assert_eq!(error.code, Code::HiveStartFailed);
    assert!(
        error.message.contains("another queen started it"),
        "{error}"
    );
    let hint = error.hint.unwrap();
    assert!(
        hint.contains("`rbee-keeper node upgrade gpu-box`"),
        "{hint}"
    );
    assert!(started.process.is_alive(), "it may be in use");

    other.upgrade(&node.report()).await.unwrap();
    let replaced = other.ensure().await.unwrap();
    assert_ne!(replaced.process, started.process);
    assert!(!started.process.is_alive());
}

#[tokio::test]
async fn a_hive_of_another_interface_version_is_named_with_both() {
    let node = Node::start();
    node.release(77, "");
    node.install().await;
    let error = node.hive.ensure().await.unwrap_err();
    assert_eq!(error.code, Code::VersionIncompatible);
    assert!(error.message.contains("(interface 77)"), "{error}");
    assert_eq!(
        error.hint.as_deref(),
        Some("`rbee-keeper node upgrade gpu-box`")
    );
    // The upgrade replaces it.
    node.release(hive_contract::API_VERSION, "");
    node.hive.upgrade(&node.report()).await.unwrap();
    node.hive.ensure().await.unwrap();
}

#[tokio::test]
async fn an_upgrade_that_does_not_start_is_rolled_back() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    let before = node.hive.ensure().await.unwrap();
    let first = node.current();
    node.release(hive_contract::API_VERSION, "# another build\n");
    node.hive.upgrade(&node.report()).await.unwrap();
    let upgraded = node.hive.ensure().await.unwrap();
    assert_ne!(upgraded.process, before.process);
    let second = node.current();
    assert_ne!(second, first);

    let version = env!("CARGO_PKG_VERSION");
    node.release_program(&format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || {{ echo rbee-hive {version}; exit; }}\nexit 3\n"
    ));
    let error = node.hive.upgrade(&node.report()).await.unwrap_err();
    assert_eq!(error.code, Code::HiveStartFailed);
    let expected = format!(
        "the upgrade of node gpu-box failed, and {} runs again: ",
        second.display()
    );
    assert!(error.message.starts_with(&expected), "{error}");
    assert_eq!(node.current(), second);
    assert!(node.hive.ensure().await.unwrap().process.is_alive());
    // An upgrade to what is installed changes nothing.
    node.release(hive_contract::API_VERSION, "# another build\n");
    let running = node.hive.ensure().await.unwrap();
    node.hive.upgrade(&node.report()).await.unwrap();
    assert_eq!(node.hive.ensure().await.unwrap().process, running.process);
    let bin = node.directory().join("bin");
    let kept = fs::read_dir(&bin).unwrap().count();
    assert_eq!(kept, 4, "two versions, `current` and `previous`");
}

#[tokio::test]
async fn a_new_hive_that_does_not_respond_is_stopped_before_the_previous_one_starts() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    let before = node.hive.ensure().await.unwrap();
    let first = node.current();
    let text = node.text(hive_contract::API_VERSION);
    node.release_program(&text.replace("send_response(200)", "send_response(500)"));
    let error = node.hive.upgrade(&node.report()).await.unwrap_err();
    let expected = format!(
        "the upgrade of node gpu-box failed, and {} runs again",
        first.display()
    );
    assert!(error.message.starts_with(&expected), "{error}");
    assert_eq!(node.current(), first);
    let now = node.hive.ensure().await.unwrap();
    assert_ne!(now.process, before.process);
    let hives = node.server.processes("--hive-id gpu-box");
    assert_eq!(hives, [now.process.pid], "the new hive is stopped");
}

#[tokio::test]
async fn a_version_that_is_installed_is_not_rolled_back() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    node.release(77, "");
    node.install().await;
    let current = node.current();
    node.hive.ensure().await.unwrap_err();
    // The version is what it was, so the hive does not work for another reason.
    let error = node.hive.upgrade(&node.report()).await.unwrap_err();
    assert_eq!(error.code, Code::VersionIncompatible);
    assert_eq!(node.current(), current);
}

#[tokio::test]
async fn programs_that_do_not_run_are_not_made_current() {
    let node = Node::start();
    node.release_program("#!/bin/sh\necho 'Illegal instruction' >&2\nexit 132\n");
    let error = node.hive.install(&node.report()).await.unwrap_err();
    assert_eq!(error.code, Code::HiveNotInstalled);
    assert_eq!(
        error.message,
        "the programs of this release do not run on node gpu-box: Illegal instruction"
    );
    assert!(!Path::new(&node.directory().join("bin/current")).exists());
}

#[tokio::test]
async fn models_stay_unless_their_removal_is_requested() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    let home = Home::open(Some(node.directory())).unwrap();
    fs::write(home.models().join("m.gguf"), "m").unwrap();
    fs::write(node.server.home().join("own.txt"), "the user's").unwrap();
    node.hive.uninstall(false, &node.report()).await.unwrap();
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|e| e.unwrap().file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names(&node.directory()), ["models"]);
    node.hive.uninstall(true, &node.report()).await.unwrap();
    assert_eq!(names(&node.server.home()), ["own.txt"]);
}
