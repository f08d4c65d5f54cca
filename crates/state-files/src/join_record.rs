use std::{fs, io, path::Path};

use diagnostics::Diagnostic;
use input_validation::{CertificateFingerprint, NodeName, NodeUrl};
use serde::{Deserialize, Serialize};

use crate::{
    errors,
    record::{self, Record, Stored},
};

/// The queen that a hive has joined. The token is in [`Home::joined_token`](crate::Home::joined_token).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRecord {
    /// Name of this machine's node.
    pub node: NodeName,
    /// Base URL of the queen.
    pub queen: NodeUrl,
    /// Certificate by which the queen is recognized.
    pub certificate: CertificateFingerprint,
}

impl Record for JoinRecord {
    const FORMAT: u64 = 2;
}

impl JoinRecord {
    /// Writes the record to [`Home::join_record`](crate::Home::join_record).
    pub fn write(&self, path: &Path) -> Result<(), Diagnostic> {
        record::write(path, self)
    }

    /// Reads the record; `None` if the hive has not joined a queen. A damaged record is an error.
    pub fn read(path: &Path) -> Result<Option<Self>, Diagnostic> {
        match record::read(path)? {
            Stored::Missing => Ok(None),
            Stored::Intact(record) => Ok(Some(record)),
            Stored::Damaged(why) => Err(errors::damaged_join(path, &why)),
        }
    }

    /// Removes the record, if there is one.
    pub fn remove(path: &Path) -> Result<(), Diagnostic> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(errors::unusable(path, &e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Home;

    #[test]
    fn a_join_is_read_back_and_a_damaged_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = Home::at(dir.path()).join_record();
        assert_eq!(JoinRecord::read(&path), Ok(None));
        let record = JoinRecord {
            node: "laptop".parse().unwrap(),
            queen: "https://192.0.2.1:8500".parse().unwrap(),
            certificate: "ab".repeat(32).parse().unwrap(),
        };
        record.write(&path).unwrap();
        assert_eq!(JoinRecord::read(&path), Ok(Some(record)));
        fs::write(&path, "{").unwrap();
        let error = JoinRecord::read(&path).unwrap_err();
        assert!(error.hint.unwrap().contains("rbee-hive join"));
        JoinRecord::remove(&path).unwrap();
        JoinRecord::remove(&path).unwrap();
        assert_eq!(JoinRecord::read(&path), Ok(None));
    }
}
