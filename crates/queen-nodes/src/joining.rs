//! Machines that connect to the queen: their invitations, and how they become nodes.

use std::sync::Arc;

use daemon_shell::Token;
use diagnostics::Diagnostic;
use hive_contract::API_VERSION;
use input_validation::NodeName;
use jiff::{SignedDuration, Timestamp};
use queen_contract::{
    GpuYield, Invitation, InviteNode, JoinRequest, JoinResponse, LinkHello, NodeEntry, NodePower,
    NodeSecret, NodeSpec, NodeStatus,
};
use ssh_registry::{SecretHash, StoredInvitation};

use crate::{NodeConfig, NodeConnection, NodeParts, NodeTarget, Nodes, errors};

impl Nodes {
    /// Invites a machine to become a node, and returns the invitation and its secret. An earlier
    /// invitation for the same name is void.
    ///
    /// Errors: [`Code::NodeExists`](diagnostics::Code::NodeExists).
    pub async fn invite(
        &self,
        request: InviteNode,
        now: Timestamp,
    ) -> Result<(Invitation, Token), Diagnostic> {
        let InviteNode {
            name,
            expires_seconds,
        } = request;
        if name == NodeName::local() {
            return Err(errors::own_machine());
        }
        let _change = self.change(&name)?;
        if self.get(&name).is_ok() {
            return Err(errors::node_exists(&name));
        }
        let secret = Token::generate()?;
        // Users read these times: fractions of a second do not help them.
        let now = Timestamp::from_second(now.as_second()).map_err(Diagnostic::internal)?;
        let valid = SignedDuration::from_secs(expires_seconds.into());
        let stored = StoredInvitation {
            node: name,
            secret: SecretHash::of(secret.expose()),
            created_at: now,
            expires_at: now.checked_add(valid).map_err(Diagnostic::internal)?,
            attempt: None,
        };
        let invitation = stored.shown();
        self.state()
            .registry(move |registry| registry.invite(&stored))
            .await?;
        Ok((invitation, secret))
    }

    /// Returns the invitations that can be used.
    pub async fn invitations(&self, now: Timestamp) -> Result<Vec<Invitation>, Diagnostic> {
        let all = self.stored_invitations().await?;
        let open = all.iter().filter(|invitation| invitation.is_open(now));
        Ok(open.map(StoredInvitation::shown).collect())
    }

    /// Makes the invitation for a name void. Fails with
    /// [`Code::NotFound`](diagnostics::Code::NotFound) if there is none that can be used.
    pub async fn revoke_invitation(&self, name: &NodeName) -> Result<(), Diagnostic> {
        let of = name.clone();
        let revoked = self
            .state()
            .registry(move |registry| registry.revoke_invitation(&of));
        if revoked.await? {
            Ok(())
        } else {
            Err(errors::invitation_not_found(name))
        }
    }

    /// Makes the machine that presents the secret of an invitation a node.
    ///
    /// Errors: [`Code::InvalidApiKey`](diagnostics::Code::InvalidApiKey),
    /// [`Code::NodeExists`](diagnostics::Code::NodeExists),
    /// [`Code::VersionIncompatible`](diagnostics::Code::VersionIncompatible), which leaves the
    /// invitation unused.
    pub async fn join(
        &self,
        secret: &str,
        request: &JoinRequest,
        now: Timestamp,
    ) -> Result<JoinResponse, Diagnostic> {
        let presented = SecretHash::of(secret);
        let mut found = None;
        // Every secret is compared, so that the time does not depend on the result.
        for invitation in self.stored_invitations().await? {
            if invitation.secret.matches(&presented) {
                found = Some(invitation);
            }
        }
        let invitation = found.ok_or_else(errors::invitation_unknown)?;
        let name = invitation.node.clone();
        let attempt = SecretHash::of(&request.attempt.0);
        let refused = |refusal| errors::invitation_refused(&name, refusal);
        invitation.check(&attempt, now).map_err(refused)?;
        if request.api_version != API_VERSION {
            let JoinRequest {
                version,
                api_version,
                ..
            } = request;
            return Err(errors::hive_incompatible(version, *api_version));
        }
        let _change = self.change(&name)?;
        let token = match (self.get(&name), &invitation.attempt) {
            // The response to the first call was lost.
            (Ok(node), Some(_)) => Arc::clone(node.token()),
            (Ok(_), None) => return Err(errors::node_exists(&name)),
            (Err(_), _) => self.add_joined(&invitation, attempt).await?,
        };
        Ok(JoinResponse {
            name,
            token: NodeSecret(token.expose().to_owned()),
        })
    }

    async fn add_joined(
        &self,
        invitation: &StoredInvitation,
        attempt: SecretHash,
    ) -> Result<Arc<Token>, Diagnostic> {
        let name = &invitation.node;
        let token = Arc::new(Token::generate()?);
        let target = NodeTarget {
            name,
            spec: &NodeSpec::Joined,
            token: &token,
        };
        let NodeParts { link, hive } = self.connector().open(target)?;
        let entry = NodeEntry {
            name: name.clone(),
            spec: NodeSpec::Joined,
            hive_url: None,
            hive_service: None,
            hive_version: None,
            status: NodeStatus::Unknown,
            devices: Vec::new(),
            last_connected: None,
            last_error: None,
            gpu_yield: GpuYield::default(),
            yielded: Vec::new(),
            power: NodePower::default(),
        };
        self.state().save_token(name, &token).await?;
        let (saved, used) = (entry.clone(), invitation.clone());
        let is_first = self
            .state()
            .registry(move |registry| registry.save_joined(&saved, &used, attempt));
        if !is_first.await? {
            return Err(errors::invitation_unknown());
        }
        let config = NodeConfig {
            name: name.clone(),
            spec: NodeSpec::Joined,
            link,
            token: Arc::clone(&token),
            hive: Some(hive),
        };
        self.insert(config, Some(entry));
        tracing::info!(node = %name, invitation = invitation.secret.fingerprint(), "a machine has joined");
        Ok(token)
    }

    /// Checks whether the hive of a node may connect.
    ///
    /// Errors: [`Code::VersionIncompatible`](diagnostics::Code::VersionIncompatible), and
    /// [`Code::InvalidRequest`](diagnostics::Code::InvalidRequest) if the queen connects to it.
    pub fn check_hello(&self, node: &NodeName, hello: &LinkHello) -> Result<(), Diagnostic> {
        if *self.get(node)?.spec() != NodeSpec::Joined {
            return Err(errors::not_joined(node));
        }
        if hello.api_version != API_VERSION {
            return Err(errors::hive_incompatible(&hello.version, hello.api_version));
        }
        Ok(())
    }

    /// Uses the connection that the hive of a node has established.
    pub fn attach(&self, node: &NodeName, connection: NodeConnection) -> Result<(), Diagnostic> {
        self.get(node)?;
        self.connector().attach(node, connection)
    }

    async fn stored_invitations(&self) -> Result<Vec<StoredInvitation>, Diagnostic> {
        let all = self.state().registry(|registry| registry.invitations());
        all.await
    }
}
