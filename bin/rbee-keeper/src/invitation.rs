//! `rbee-keeper node invite`, `invitations` and `uninvite`.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use input_validation::NodeName;
use queen_contract::{InviteNode, NewInvitation, QueenClient};
use serde_json::json;

use crate::{
    errors,
    failure::Failure,
    render::{Screen, nodes as text},
    target::Target,
};

/// Invites a machine. With `file`, the secret goes there and nowhere else.
pub(crate) async fn invite(
    name: NodeName,
    expires_seconds: u32,
    file: Option<PathBuf>,
    target: &Target,
    screen: &mut Screen,
) -> Result<(), Failure> {
    // An earlier invitation stays valid if the file cannot be created.
    let created = match &file {
        Some(path) => Some(create(path).map_err(Failure::Usage)?),
        None => None,
    };
    let invited = request_invitation(name, expires_seconds, target).await;
    let (queen, new) = invited.inspect_err(|_| remove(file.as_deref()))?;
    let NewInvitation {
        invitation,
        token,
        queen_urls,
    } = &new;
    if let (Some(path), Some(created)) = (&file, created)
        && let Err(error) = write(created, path, &token.0)
    {
        // Nobody has the secret.
        remove(Some(path));
        queen.revoke_invitation(&invitation.name).await?;
        return Err(Failure::Usage(error));
    }
    let own = queen.base();
    let command = text::join_command(queen_urls, own, file.as_deref());
    let mut document = json!({
        "invitation": invitation, "queen_urls": queen_urls, "command": command,
    });
    if file.is_none() {
        document["token"] = json!(token.0);
    }
    screen
        .document(&document, || {
            text::invited(&new, own, file.as_deref(), &command)
        })
        .await
}

pub(crate) async fn list(target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let list = target.running().await?.invitations().await?;
    screen
        .document(&list, || text::invitations(&list.invitations))
        .await
}

pub(crate) async fn revoke(
    name: &NodeName,
    target: &Target,
    screen: &mut Screen,
) -> Result<(), Failure> {
    target.running().await?.revoke_invitation(name).await?;
    screen
        .document(&json!({ "revoked": name }), || {
            format!("revoked the invitation for node {name}\n")
        })
        .await
}

async fn request_invitation(
    name: NodeName,
    expires_seconds: u32,
    target: &Target,
) -> Result<(QueenClient, NewInvitation), Failure> {
    let (queen, _) = target.ensure_running().await?;
    let request = InviteNode {
        name,
        expires_seconds,
    };
    let new = queen.invite(&request).await?;
    Ok((queen, new))
}

/// Creates a file that only the user can read.
fn create(path: &Path) -> Result<File, Diagnostic> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| errors::invitation_not_written(path, &e))
}

fn write(mut file: File, path: &Path, token: &str) -> Result<(), Diagnostic> {
    writeln!(file, "{token}")
        .and_then(|()| file.sync_all())
        .map_err(|e| errors::invitation_not_written(path, &e))
}

/// Removes the empty file of an invitation that does not exist.
fn remove(file: Option<&Path>) {
    if let Some(file) = file {
        let _ = fs::remove_file(file);
    }
}
