use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use daemon_shell::{Token, blocking};
use diagnostics::{Code, Diagnostic};
use input_validation::NodeUrl;
use queen_contract::{InvitationToken, JoinRequest, NodeSecret, QueenClient};
use rest_client::CallError;
use state_files::{Home, JoinRecord};
use tokio::time::sleep;

use crate::errors;

/// Attempts to send the invitation, and the pause between two of them.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Longest text of an invitation.
const MAX_INVITATION_BYTES: u64 = 4096;

/// What a user passes to join a queen.
#[derive(Debug, Clone)]
pub struct Invitee {
    /// Base URL of the queen.
    pub queen: NodeUrl,
    /// File with the invitation; `-` is standard input.
    pub token_file: PathBuf,
    /// Whether to send secrets over a connection that is not encrypted.
    pub allow_unencrypted: bool,
    /// Version of the hive's interface.
    pub api_version: u32,
}

/// Uses an invitation: this machine is a node of the queen from then on. Stores the record and
/// the token, which replace those of an earlier queen.
///
/// Errors: [`Code::ConfigInvalid`] before anything is sent, and those of the queen.
pub async fn join(home: &Home, invitee: &Invitee) -> Result<JoinRecord, Diagnostic> {
    let Invitee { queen, .. } = invitee;
    if !queen.is_https() && !queen.is_loopback() && !invitee.allow_unencrypted {
        return Err(errors::unencrypted(queen));
    }
    let file = invitee.token_file.clone();
    let invitation: InvitationToken = blocking(move || read_invitation(&file)?.parse()).await?;
    // It is sent again if the response is lost, also by another process.
    let attempt_file = home.join_attempt();
    let attempt = Token::load_or_create(&attempt_file)?;
    let http = if queen.is_https() {
        rest_client::pinned_client(&invitation.certificate)?
    } else {
        rest_client::http_client()?
    };
    let client = QueenClient::with_http(queen.as_str(), Some(invitation.secret), http);
    let request = JoinRequest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: invitee.api_version,
        attempt: NodeSecret(attempt.expose().to_owned()),
    };
    let mut attempts = 1;
    let joined = loop {
        match client.join(&request).await {
            Ok(joined) => break joined,
            Err(CallError::Link(_)) if attempts < ATTEMPTS => {
                attempts += 1;
                sleep(PAUSE).await;
            }
            Err(error) => return Err(errors::not_joined(queen, error.into_diagnostic())),
        }
    };
    let token = Token::parse(&joined.token.0).ok_or_else(|| errors::no_token_sent(queen))?;
    token.save(&home.joined_token())?;
    let record = JoinRecord {
        node: joined.name,
        queen: queen.clone(),
        certificate: invitation.certificate,
    };
    record.write(&home.join_record())?;
    let _ = fs::remove_file(attempt_file);
    Ok(record)
}

/// Forgets the queen: the hive does not connect to it any more. Returns the record of the join, if
/// there was an intact one.
pub fn leave(home: &Home) -> Result<Option<JoinRecord>, Diagnostic> {
    let record = match JoinRecord::read(&home.join_record()) {
        Ok(record) => record,
        Err(error) if error.code == Code::StateUnusable => None,
        Err(error) => return Err(error),
    };
    JoinRecord::remove(&home.join_record())?;
    JoinRecord::remove(&home.joined_token())?;
    Ok(record)
}

fn read_invitation(file: &Path) -> Result<String, Diagnostic> {
    let unreadable = |e| errors::invitation_unreadable(file, &e);
    let mut text = String::new();
    if file == Path::new("-") {
        let mut input = std::io::stdin().lock().take(MAX_INVITATION_BYTES);
        input.read_to_string(&mut text).map_err(unreadable)?;
    } else {
        let input = fs::File::open(file).map_err(unreadable)?;
        let mut input = input.take(MAX_INVITATION_BYTES);
        input.read_to_string(&mut text).map_err(unreadable)?;
    }
    Ok(text)
}
