//! Systemd keeps the hive.

use std::fs;

use hive_lifecycle::HiveHost as _;
use queen_contract::{HiveService, NodeLog};

use crate::fixture::Node;

#[tokio::test]
async fn systemd_keeps_the_hive_where_it_works() {
    for (linger, is_used) in [("yes", true), ("no", true), ("denied", false)] {
        let node = Node::start();
        node.server.add_systemd(linger).unwrap();
        node.release(hive_contract::API_VERSION, "");
        node.install().await;
        let units = node.server.home().join(".config/systemd/user");
        assert!(!units.exists(), "an installation starts nothing");
        let hive = node.hive.ensure().await.unwrap();
        let service = if is_used {
            HiveService::Systemd
        } else {
            HiveService::Process
        };
        assert_eq!(node.hive.service(), Some(service), "linger: {linger}");
        assert_eq!(units.join("rbee-hive.service").exists(), is_used);
        assert_eq!(
            node.server.service_calls().contains("enable-linger"),
            linger != "yes"
        );
        let log = node.hive.log(NodeLog::Hive, 20).await.unwrap();
        assert!(log.contains("started"), "{log}");

        // Another queen finds out the same.
        let again = node.host(None);
        assert_eq!(again.ensure().await.unwrap().process, hive.process);
        assert_eq!(again.service(), Some(service));

        node.release(hive_contract::API_VERSION, "# another build\n");
        node.hive.upgrade(&node.report()).await.unwrap();
        let upgraded = node.hive.ensure().await.unwrap();
        assert_ne!(upgraded.process, hive.process);
        assert_eq!(node.hive.service(), Some(service));
        let stopped = "systemctl --user stop --no-block rbee-hive.service";
        assert_eq!(node.server.service_calls().contains(stopped), is_used);

        upgraded.process.signal(daemon_shell::Signal::Kill).unwrap();
        upgraded.process.gone().await;
        node.hive.uninstall(true, &node.report()).await.unwrap();
        assert_eq!(fs::read_dir(node.server.home()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn the_hive_is_a_process_if_systemd_does_not_start_it() {
    let node = Node::start();
    node.server.add_systemd("broken").unwrap();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    node.hive.ensure().await.unwrap();
    assert_eq!(node.hive.service(), Some(HiveService::Process));
    assert!(!node.server.home().join(".config").exists());
}

#[tokio::test]
async fn the_service_of_another_directory_is_left_alone() {
    let node = Node::start();
    node.server.add_systemd("yes").unwrap();
    let units = node.server.home().join(".config/systemd/user");
    fs::create_dir_all(&units).unwrap();
    let unit = units.join("rbee-hive.service");
    fs::write(&unit, "# Directory: /srv/other\n[Service]\n").unwrap();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    let hive = node.hive.ensure().await.unwrap();
    assert_eq!(node.hive.service(), Some(HiveService::Process));
    hive.process.signal(daemon_shell::Signal::Kill).unwrap();
    hive.process.gone().await;
    node.hive.uninstall(true, &node.report()).await.unwrap();
    assert!(fs::read_to_string(unit).unwrap().contains("/srv/other"));
    assert!(!node.server.service_calls().contains("restart"));
}

#[tokio::test]
async fn a_unit_whose_hive_exits_is_stopped_and_reported() {
    let node = Node::start();
    node.server.add_systemd("yes").unwrap();
    let version = env!("CARGO_PKG_VERSION");
    node.release_program(&format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || {{ echo rbee-hive {version}; exit; }}\n\
         echo 'no such thing' >&2\nexit 3\n"
    ));
    node.install().await;
    let error = node.hive.ensure().await.unwrap_err();
    assert_eq!(
        error.message,
        "the hive exited during startup; its log ends with: no such thing"
    );
    let calls = node.server.service_calls();
    assert!(
        calls.ends_with("systemctl --user stop rbee-hive.service\n"),
        "{calls}"
    );
}
