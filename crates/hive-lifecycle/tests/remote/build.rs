//! Programs that are built on the node.

use std::env;

use diagnostics::Code;
use hive_lifecycle::{HiveHost as _, Source};
use queen_contract::NodeLog;
use ssh_server::Repository;

use crate::fixture::Node;

/// Programs that print this version and do nothing else.
fn programs(version: &str) -> Vec<(&'static str, String)> {
    let program = |name| (name, format!("println!(\"{name} {version}\");"));
    vec![program("rbee-hive"), program("llm-cpu-worker-rbee")]
}

fn repository() -> Repository {
    Repository::new(&programs(env!("CARGO_PKG_VERSION"))).unwrap()
}

fn source(repository: &Repository, branch: Option<&str>) -> Source {
    Source {
        repository: repository.url().parse().unwrap(),
        branch: branch.map(|branch| branch.parse().unwrap()),
    }
}

/// A node on which the programs of this release do not run.
fn node(source: Source) -> Node {
    let node = Node::with_source(Some(source));
    node.server.set_processor("riscv64").unwrap();
    node.server.add_cargo().unwrap();
    node
}

#[tokio::test]
async fn a_node_of_another_platform_builds_the_programs() {
    let repository = repository();
    let node = node(source(&repository, None));
    node.install().await;
    let current = node.current();
    let name = current.to_string_lossy().into_owned();
    assert!(name.contains("-git-"), "{name}");
    let bin = node.directory().join("bin/current");
    assert!(bin.join("llm-cpu-worker-rbee").exists());
    let messages = node.messages();
    let reported = |text: &str| messages.iter().any(|message| message.contains(text));
    assert!(reported("node gpu-box is Linux riscv64 with glibc "));
    assert!(reported(", and this release is for linux "));
    assert!(reported("Building file:///"), "{messages:?}");
    assert!(reported("with git version "), "{messages:?}");
    assert!(
        reported("Compiling tiny") || reported("Finished"),
        "{messages:?}"
    );
    assert!(
        !reported("Copying"),
        "nothing of the queen is copied: {messages:?}"
    );
    let log = node.hive.log(NodeLog::Build, 100).await.unwrap();
    assert!(log.contains("Compiling tiny"), "{log}");

    // The same commit is the same version.
    node.install().await;
    assert_eq!(node.current(), current);
    repository.commit_programs(&[]).unwrap();
    node.install().await;
    assert_ne!(node.current(), current);
    node.hive.uninstall(true, &node.report()).await.unwrap();
    assert!(!node.directory().exists());
}

#[tokio::test]
async fn a_branch_of_another_version_is_refused_with_both_versions() {
    let repository = repository();
    repository
        .git(&["checkout", "--quiet", "-b", "old"])
        .unwrap();
    repository.commit_programs(&programs("0.0.1")).unwrap();
    repository.git(&["checkout", "--quiet", "main"]).unwrap();
    let node = node(source(&repository, Some("old")));
    let error = node.hive.install(&node.report()).await.unwrap_err();
    assert_eq!(error.code, Code::VersionIncompatible);
    let expected = format!(
        "the programs that were built on node gpu-box are not version {}: rbee-hive 0.0.1",
        env!("CARGO_PKG_VERSION")
    );
    assert!(error.message.starts_with(&expected), "{error}");
    assert!(!node.directory().join("bin/current").exists());
}

#[tokio::test]
async fn a_build_that_fails_is_reported_with_the_end_of_its_log() {
    let repository = repository();
    let broken = ("rbee-hive", "no_such_thing".to_owned());
    repository.commit_programs(&[broken]).unwrap();
    let node = node(source(&repository, None));
    let error = node.hive.install(&node.report()).await.unwrap_err();
    assert_eq!(error.code, Code::HiveNotInstalled);
    let start = "the build on node gpu-box ended with status 101; its log ends with: ";
    assert!(error.message.starts_with(start), "{error}");
    assert!(
        error.message.contains("could not compile `tiny`"),
        "{error}"
    );
    let log = node.hive.log(NodeLog::Build, 100).await.unwrap();
    assert!(log.contains("cannot find value `no_such_thing`"), "{log}");

    let missing = node.host(Some(source(&repository, Some("none"))));
    let error = missing.install(&node.report()).await.unwrap_err();
    assert!(
        error.message.contains("Remote branch none not found"),
        "{error}"
    );
}

#[tokio::test]
async fn what_a_build_needs_is_reported_at_once_before_it_starts() {
    let repository = repository();
    let node = node(source(&repository, None));
    node.server
        .add_program("cargo", "#!/bin/sh\necho cargo 1.0.0\n")
        .unwrap();
    let hidden = ["git", "cc", "cargo", "rustup"];
    node.server.hide_programs(&hidden).unwrap();
    let error = node.hive.install(&node.report()).await.unwrap_err();
    assert_eq!(error.code, Code::HiveNotInstalled);
    let expected = "rbee cannot be built on node gpu-box: it has no git, no cargo ";
    assert!(error.message.starts_with(expected), "{error}");
    assert!(
        error.message.ends_with("(found: cargo 1.0.0), no cc"),
        "{error}"
    );
    assert!(!node.directory().exists(), "nothing was started");
}

#[tokio::test]
async fn programs_that_do_not_run_are_built() {
    let repository = repository();
    let node = node(source(&repository, None));
    node.server.set_processor(env::consts::ARCH).unwrap();
    node.release_program("#!/bin/sh\necho 'GLIBC_2.99 not found' >&2\nexit 1\n");
    node.install().await;
    let name = node.current().to_string_lossy().into_owned();
    assert!(name.contains("-git-"), "{name}");
    let messages = node.messages();
    assert!(
        messages.iter().any(|m| m.contains("GLIBC_2.99 not found")),
        "{messages:?}"
    );
}

#[tokio::test]
async fn a_platform_without_a_repository_is_refused() {
    let node = Node::start();
    node.server.set_processor("riscv64").unwrap();
    let error = node.hive.install(&node.report()).await.unwrap_err();
    assert_eq!(error.code, Code::HiveNotInstalled);
    assert!(error.hint.unwrap().contains("--repository URL"));
    assert!(node.hive.ensure().await.is_err());
}
