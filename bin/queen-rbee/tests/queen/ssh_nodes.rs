//! A node behind OpenSSH's sshd, with the real hive and worker.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use diagnostics::Code;
use futures_util::StreamExt as _;
use input_validation::NodeName;
use queen_contract::{
    AddNode, InferCall, InferEvent, NodeCallEvent, NodeEntry, NodeSpec, NodeStatus, SshNode,
    UpdateNode,
};
use ssh_server::{Mode, SshServer};
use state_files::{DaemonRecord, Home};
use worker_contract::StreamEvent;

use crate::harness::{Queen, call, eventually, worker_events};

struct Setting {
    server: SshServer,
    queen: Queen,
    /// Directory with the programs of the release.
    _release: tempfile::TempDir,
}

impl Setting {
    async fn start() -> Self {
        let release = tempfile::tempdir().unwrap();
        for name in ["rbee-hive", "llm-cpu-worker-rbee"] {
            std::os::unix::fs::symlink(bdd::binary(name), release.path().join(name)).unwrap();
        }
        let server = SshServer::start().unwrap();
        let config = server.config();
        let hive = release.path().join("rbee-hive");
        let home = Arc::new(tempfile::tempdir().unwrap());
        let more = [
            "--no-local-hive",
            "--ssh-config",
            config.to_str().unwrap(),
            "--hive-binary",
            hive.to_str().unwrap(),
        ];
        Self {
            queen: Queen::start(home, &more).await,
            server,
            _release: release,
        }
    }

    /// The layout of the node's directory.
    fn home(&self) -> Home {
        Home::at(self.server.home().join(".rbee"))
    }

    async fn add(
        &self,
        install: bool,
    ) -> (Vec<String>, Result<NodeEntry, diagnostics::Diagnostic>) {
        let request = AddNode {
            name: name(),
            node: UpdateNode {
                spec: NodeSpec::Ssh(SshNode {
                    host: "box".parse().unwrap(),
                    port: None,
                    user: None,
                    key_file: None,
                    directory: None,
                    repository: None,
                    branch: None,
                }),
                token: None,
                accept_host_key: None,
                install,
            },
        };
        let events = self.queen.control.add_node(&request).await.unwrap();
        let events: Vec<NodeCallEvent> = events.map(Result::unwrap).collect().await;
        let mut messages = Vec::new();
        for event in events {
            match event {
                NodeCallEvent::Narration(narration) => messages.push(narration.message),
                NodeCallEvent::Result(entry) => return (messages, Ok(*entry)),
                NodeCallEvent::Error(error) => return (messages, Err(error)),
            }
        }
        panic!("no result: {messages:?}");
    }

    async fn infer(&self, id: &str) -> Vec<InferEvent> {
        let call = InferCall {
            model: "builtin:haiku".parse().unwrap(),
            node: Some(name()),
            ..call(id)
        };
        self.queen.infer(&call).await
    }

    async fn reachable(&self) {
        eventually("the node is reachable", async || {
            let node = self.queen.control.node(&name()).await.unwrap();
            (node.status == NodeStatus::Reachable).then_some(())
        })
        .await;
    }

    async fn uninstall(&self, models: bool) {
        let events = self
            .queen
            .control
            .uninstall_hive(&name(), models)
            .await
            .unwrap();
        let events: Vec<NodeCallEvent> = events.map(Result::unwrap).collect().await;
        assert!(
            matches!(events.last(), Some(NodeCallEvent::Result(_))),
            "{events:?}"
        );
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.server.home()).unwrap();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

fn name() -> NodeName {
    "gpu-box".parse().unwrap()
}

fn has_answered(events: &[InferEvent]) {
    let events = worker_events(events);
    assert!(
        events.iter().any(|e| matches!(e, StreamEvent::Token(_))),
        "{events:?}"
    );
    assert!(
        matches!(events.last(), Some(StreamEvent::End(_))),
        "{events:?}"
    );
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_nothing_but_sshd_serves() {
    let setting = Setting::start().await;
    let (messages, entry) = setting.add(true).await;
    entry.unwrap();
    setting.reachable().await;
    assert_eq!(messages[0], "Connecting to box by SSH (attempt 1 of 3).");
    assert!(
        messages.iter().any(|m| m.starts_with("Copying rbee-hive")),
        "{messages:?}"
    );

    has_answered(&setting.infer("r-1").await);
    let workers = setting.queen.control.workers().await.unwrap().workers;
    assert_eq!(workers.len(), 1, "the heartbeats of the worker arrive");

    let listening = setting.server.listening();
    assert_eq!(listening.len(), 2, "hive and worker: {listening:?}");
    assert!(
        listening.iter().all(|a| a.ip().is_loopback()),
        "{listening:?}"
    );
    assert_eq!(setting.files(), [".rbee"]);
    assert_eq!(mode(&setting.home().node_token(&name())), 0o600);
    assert_eq!(mode(setting.home().path()), 0o700);

    setting.uninstall(true).await;
    assert_eq!(setting.files(), Vec::<String>::new());
    assert!(setting.server.listening().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_hive_says_how_to_install_it_and_then_serves() {
    let setting = Setting::start().await;
    let (_, entry) = setting.add(false).await;
    entry.unwrap();
    let problem = eventually("the node is unreachable", async || {
        let node = setting.queen.control.node(&name()).await.unwrap();
        node.last_error
            .filter(|_| node.status == NodeStatus::Unreachable)
    })
    .await;
    assert_eq!(problem, "no hive is installed on node gpu-box");
    assert_eq!(setting.files(), Vec::<String>::new(), "nothing is changed");
    let events = setting.infer("r-1").await;
    let Some(StreamEvent::Error(error)) = worker_events(&events).last().copied() else {
        panic!("{events:?}");
    };
    assert_eq!(error.code, Code::HiveNotInstalled);
    assert_eq!(
        error.hint.as_deref(),
        Some("`rbee-keeper node install gpu-box`")
    );

    let events = setting.queen.control.install_hive(&name()).await.unwrap();
    let events: Vec<NodeCallEvent> = events.map(Result::unwrap).collect().await;
    assert!(
        matches!(events.last(), Some(NodeCallEvent::Result(_))),
        "{events:?}"
    );
    setting.reachable().await;
    has_answered(&setting.infer("r-2").await);
    setting.uninstall(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_returns_and_nothing_is_restarted() {
    let setting = Setting::start().await;
    setting.add(true).await.1.unwrap();
    has_answered(&setting.infer("r-1").await);
    let hive = || {
        DaemonRecord::read_alive(&setting.home().hive_record())
            .unwrap()
            .unwrap()
    };
    let workers = async || {
        let workers = setting.queen.control.workers().await.unwrap().workers;
        workers
            .into_iter()
            .map(|w| w.info)
            .map(|w| (w.id, w.generation))
            .collect::<Vec<_>>()
    };
    let (hive_before, workers_before) = (hive().process, workers().await);

    setting.server.set_mode(Mode::Refuse);
    setting.server.cut();
    eventually("the loss is noticed", async || {
        let node = setting.queen.control.node(&name()).await.unwrap();
        (node.status == NodeStatus::Unreachable).then_some(())
    })
    .await;
    setting.server.set_mode(Mode::Serve);
    setting.reachable().await;
    has_answered(&setting.infer("r-2").await);
    assert_eq!(
        (hive().process, workers().await),
        (hive_before, workers_before)
    );
    setting.uninstall(true).await;
}
