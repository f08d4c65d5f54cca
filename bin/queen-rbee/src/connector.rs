use std::sync::Arc;

use diagnostics::{Code, Diagnostic, Narration};
use futures_util::future::BoxFuture;
use hive_lifecycle::{DirectHive, RemoteHive};
use input_validation::{HostKeyFingerprint, NodeName};
use node_link::DirectLink;
use queen_contract::{DirectNode, NodeSpec};
use queen_nodes::{Narrate, NodeConnection, NodeConnector, NodeFindings, NodeParts, NodeTarget};
use rest_client::HttpClient;

use crate::{ssh_nodes::SshNodes, tunnel_nodes::TunnelNodes};

/// Connects the queen to registered nodes, by the kind of their link.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) http: HttpClient,
    /// Base URL of the queen for processes on its machine.
    pub(crate) queen_url: String,
    pub(crate) ssh: SshNodes,
    pub(crate) tunnels: TunnelNodes,
}

impl NodeConnector for Connector {
    fn test<'a>(
        &'a self,
        target: NodeTarget<'a>,
        accept_host_key: Option<&'a HostKeyFingerprint>,
        narrate: Narrate<'a>,
    ) -> BoxFuture<'a, Result<NodeFindings, Diagnostic>> {
        Box::pin(async move {
            match target.spec {
                NodeSpec::Direct(node) => self.test_direct(target, node, narrate).await,
                NodeSpec::Ssh(node) => self.ssh.test(node, accept_host_key, narrate).await,
                NodeSpec::Local => Err(not_remote(target.name)),
                // It is known to work when it has connected.
                NodeSpec::Joined => Ok(NodeFindings::default()),
            }
        })
    }

    fn open(&self, target: NodeTarget<'_>) -> Result<NodeParts, Diagnostic> {
        match target.spec {
            NodeSpec::Direct(node) if node.url.is_https() => {
                let hive = self.direct_hive(target, node)?;
                self.tunnels.open_direct(target, hive.client())
            }
            NodeSpec::Direct(node) => Ok(NodeParts {
                link: Arc::new(DirectLink::new(
                    self.http.clone(),
                    node.url.host(),
                    self.queen_url(target.name, node)?,
                )),
                hive: Arc::new(self.direct_hive(target, node)?),
            }),
            NodeSpec::Ssh(node) => self.ssh.open(target, node),
            NodeSpec::Joined => self.tunnels.open_joined(target),
            NodeSpec::Local => Err(not_remote(target.name)),
        }
    }

    fn attach(&self, node: &NodeName, connection: NodeConnection) -> Result<(), Diagnostic> {
        self.tunnels.attach(node, connection)
    }

    fn forget(&self, node: &NodeName) {
        self.ssh.forget(node);
    }

    fn managed_hive(&self, target: NodeTarget<'_>) -> Result<Arc<RemoteHive>, Diagnostic> {
        match target.spec {
            NodeSpec::Ssh(node) => self.ssh.hive(target, node),
            NodeSpec::Local | NodeSpec::Direct(_) | NodeSpec::Joined => {
                Err(not_managed(target.name))
            }
        }
    }
}

impl Connector {
    async fn test_direct(
        &self,
        target: NodeTarget<'_>,
        node: &DirectNode,
        narrate: Narrate<'_>,
    ) -> Result<NodeFindings, Diagnostic> {
        check_encryption(target.name, node)?;
        if !node.url.is_https() {
            self.queen_url(target.name, node)?;
        }
        let message = format!("calling the hive at {}", node.url);
        narrate(Narration::info("queen", "test", message));
        if !node.url.is_loopback() && !node.url.is_https() {
            let message = format!(
                "workers listen on the loopback interface of {}: their ports must be forwarded to \
                 that address",
                target.name
            );
            narrate(Narration::warn("queen", "test", message));
        }
        let (health, capabilities) = self.direct_hive(target, node)?.inspect().await?;
        Ok(NodeFindings {
            hive_version: Some(health.version),
            devices: capabilities.devices,
        })
    }

    fn direct_hive(
        &self,
        target: NodeTarget<'_>,
        node: &DirectNode,
    ) -> Result<DirectHive, Diagnostic> {
        let http = match (&node.certificate, node.url.is_https()) {
            (Some(certificate), true) => rest_client::pinned_client(certificate)?,
            (None, true) => return Err(no_certificate(target.name)),
            (_, false) => self.http.clone(),
        };
        Ok(DirectHive {
            node: target.name.clone(),
            url: node.url.clone(),
            token: Arc::clone(target.token),
            http,
        })
    }

    fn queen_url<'a>(
        &'a self,
        name: &NodeName,
        node: &'a DirectNode,
    ) -> Result<&'a str, Diagnostic> {
        match &node.queen_url {
            Some(url) => Ok(url.as_str()),
            None if node.url.is_loopback() => Ok(&self.queen_url),
            None => Err(no_queen_url(name)),
        }
    }
}

/// Refuses a link that would send secrets to another machine in plain text.
fn check_encryption(name: &NodeName, node: &DirectNode) -> Result<(), Diagnostic> {
    let is_safe = node.url.is_https() || node.url.is_loopback();
    if is_safe || node.allow_unencrypted {
        Ok(())
    } else {
        Err(unencrypted(name, node))
    }
}

fn unencrypted(name: &NodeName, node: &DirectNode) -> Diagnostic {
    let https = node.url.as_str().replacen("http://", "https://", 1);
    Diagnostic::new(
        Code::InvalidRequest,
        format!(
            "the connection to node {name} at {} would not be encrypted",
            node.url
        ),
    )
    .hint(format!(
        "start its hive with `--bind ADDRESS`, and use `--url {https} --certificate FINGERPRINT`; \
         `--allow-unencrypted` permits it in a network that encrypts everything itself"
    ))
    .param("spec.url")
}

fn no_certificate(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!(
            "node {node} is reached with TLS, which requires the fingerprint of its certificate"
        ),
    )
    .hint("`rbee-hive --bind ADDRESS` logs it when it starts: pass it with `--certificate`")
    .param("spec.certificate")
}

fn no_queen_url(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("node {node} is another machine, and its workers must reach the queen"),
    )
    .hint(
        "pass the address of the queen on that machine with `--queen-url http://HOST:PORT`, and \
         start the queen with `--bind ADDRESS` and `--api-key-file FILE`",
    )
    .param("spec.queen_url")
}

fn not_remote(node: &NodeName) -> Diagnostic {
    let message = format!("node {node} is this machine, which needs no link");
    Diagnostic::new(Code::InvalidRequest, message).param("spec.link")
}

fn not_managed(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("the queen does not manage the software of node {node}"),
    )
    .hint("install it on that machine yourself, or add the node by SSH")
}
