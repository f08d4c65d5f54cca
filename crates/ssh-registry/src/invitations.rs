use std::fmt;

use diagnostics::Diagnostic;
use input_validation::NodeName;
use jiff::Timestamp;
use queen_contract::Invitation;
use rusqlite::{Row, Transaction, named_params, types::Type};
use sha2::{Digest as _, Sha256};
use sqlite_file::parsed;
use subtle::ConstantTimeEq as _;

use crate::NodeRegistry;

/// SHA-256 digest of a random secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

impl SecretHash {
    /// Hashes a secret.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Six hexadecimal characters that identify the secret without revealing it.
    pub fn fingerprint(&self) -> String {
        hex::encode(&self.0[..3])
    }
}

/// Why an invitation is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitationRefusal {
    /// Another machine has used it.
    Used,
    /// It has expired, at this time.
    Expired(Timestamp),
}

/// An invitation as the queen stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInvitation {
    /// The name of the node that the machine becomes.
    pub node: NodeName,
    /// The hash of its secret.
    pub secret: SecretHash,
    /// When it was created.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// What the machine sent that has used it.
    pub attempt: Option<SecretHash>,
}

impl StoredInvitation {
    /// Checks whether a machine that sends `attempt` may use the invitation. The one that has
    /// used it may use it again, because it may not have received the response.
    pub fn check(&self, attempt: &SecretHash, now: Timestamp) -> Result<(), InvitationRefusal> {
        match &self.attempt {
            Some(used_by) if !used_by.matches(attempt) => Err(InvitationRefusal::Used),
            _ if now >= self.expires_at => Err(InvitationRefusal::Expired(self.expires_at)),
            _ => Ok(()),
        }
    }

    /// Returns whether a machine can use the invitation.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.attempt.is_none() && now < self.expires_at
    }

    /// Returns the invitation as users see it.
    pub fn shown(&self) -> Invitation {
        Invitation {
            name: self.node.clone(),
            fingerprint: self.secret.fingerprint(),
            created_at: self.created_at,
            expires_at: self.expires_at,
        }
    }
}

impl NodeRegistry {
    /// Returns the invitations, used and expired ones included, ordered by name.
    pub fn invitations(&self) -> Result<Vec<StoredInvitation>, Diagnostic> {
        self.0.read(|connection| {
            connection
                .prepare("SELECT * FROM invitations ORDER BY node")?
                .query_map([], invitation)?
                .collect()
        })
    }

    /// Inserts an invitation, which replaces an earlier one for the same name.
    pub fn invite(&mut self, invitation: &StoredInvitation) -> Result<(), Diagnostic> {
        self.0.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO invitations
                 (node, secret_sha256, created_at, expires_at, attempt_sha256)
                 VALUES (:node, :secret, :created_at, :expires_at, :attempt)",
                named_params! {
                    ":node": invitation.node.as_str(),
                    ":secret": invitation.secret.0,
                    ":created_at": invitation.created_at.to_string(),
                    ":expires_at": invitation.expires_at.to_string(),
                    ":attempt": invitation.attempt.map(|hash| hash.0),
                },
            )?;
            Ok(())
        })
    }

    /// Deletes the invitation for a name; returns whether there was one that was not used.
    pub fn revoke_invitation(&mut self, name: &NodeName) -> Result<bool, Diagnostic> {
        self.0.write(|transaction| {
            let deleted = transaction.execute(
                "DELETE FROM invitations WHERE node = ?1 AND attempt_sha256 IS NULL",
                [name.as_str()],
            )?;
            Ok(deleted > 0)
        })
    }
}

/// Notes that an invitation is used; returns whether this attempt is the one that uses it.
pub(crate) fn mark_used(
    transaction: &Transaction<'_>,
    invitation: &StoredInvitation,
    attempt: SecretHash,
) -> rusqlite::Result<bool> {
    let updated = transaction.execute(
        "UPDATE invitations SET attempt_sha256 = :attempt
         WHERE node = :node AND secret_sha256 = :secret AND attempt_sha256 IS NULL",
        named_params! {
            ":attempt": attempt.0,
            ":node": invitation.node.as_str(),
            ":secret": invitation.secret.0,
        },
    )?;
    Ok(updated == 1)
}

pub(crate) fn delete(transaction: &Transaction<'_>, name: &NodeName) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM invitations WHERE node = ?1", [name.as_str()])?;
    Ok(())
}

fn invitation(row: &Row<'_>) -> rusqlite::Result<StoredInvitation> {
    Ok(StoredInvitation {
        node: parsed(row, row.as_ref().column_index("node")?)?,
        secret: SecretHash(row.get("secret_sha256")?),
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
        attempt: row.get::<_, Option<_>>("attempt_sha256")?.map(SecretHash),
    })
}

fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    let index = row.as_ref().column_index(column)?;
    let text: String = row.get(index)?;
    text.parse()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(e)))
}

#[cfg(test)]
mod tests {
    use state_files::Home;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn stored() -> StoredInvitation {
        StoredInvitation {
            node: "laptop".parse().unwrap(),
            secret: SecretHash::of("secret"),
            created_at: at(100),
            expires_at: at(200),
            attempt: None,
        }
    }

    #[test]
    fn an_invitation_is_used_once_and_in_time() {
        let (mine, other) = (SecretHash::of("mine"), SecretHash::of("other"));
        let open = stored();
        assert!(open.is_open(at(199)) && !open.is_open(at(200)));
        assert_eq!(open.check(&mine, at(199)), Ok(()));
        let expired = Err(InvitationRefusal::Expired(at(200)));
        assert_eq!(open.check(&mine, at(200)), expired);
        let used = StoredInvitation {
            attempt: Some(mine),
            ..stored()
        };
        assert!(!used.is_open(at(150)));
        assert_eq!(used.check(&mine, at(150)), Ok(()), "the response was lost");
        assert_eq!(used.check(&mine, at(200)), expired);
        for now in [at(150), at(300)] {
            assert_eq!(used.check(&other, now), Err(InvitationRefusal::Used));
        }
    }

    #[test]
    fn invitations_outlive_the_queen_and_only_one_attempt_uses_them() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let mut registry = NodeRegistry::open(&home).unwrap();
        registry.invite(&stored()).unwrap();
        let newer = StoredInvitation {
            secret: SecretHash::of("newer"),
            ..stored()
        };
        registry.invite(&newer).unwrap();
        drop(registry);
        let mut registry = NodeRegistry::open(&home).unwrap();
        assert_eq!(
            registry.invitations().unwrap(),
            std::slice::from_ref(&newer)
        );

        let node = crate::tests::entry("laptop", queen_contract::NodeSpec::Joined);
        let (mine, other) = (SecretHash::of("mine"), SecretHash::of("other"));
        assert!(!registry.save_joined(&node, &stored(), mine).unwrap());
        assert!(registry.nodes().unwrap().is_empty());
        assert!(registry.save_joined(&node, &newer, mine).unwrap());
        assert!(!registry.save_joined(&node, &newer, other).unwrap());
        assert_eq!(registry.nodes().unwrap(), std::slice::from_ref(&node));
        assert_eq!(registry.invitations().unwrap()[0].attempt, Some(mine));

        assert!(
            !registry.revoke_invitation(&node.name).unwrap(),
            "it is used"
        );
        registry.remove(&node.name).unwrap();
        assert!(registry.invitations().unwrap().is_empty());
        registry.invite(&stored()).unwrap();
        assert!(registry.revoke_invitation(&node.name).unwrap());
        assert!(!registry.revoke_invitation(&node.name).unwrap());
    }
}
