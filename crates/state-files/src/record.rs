use std::{fs, io::ErrorKind, path::Path};

use daemon_shell::write_atomically;
use diagnostics::{Diagnostic, escape};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::errors::{too_new, unusable};

/// Format of objects that have no `format` member.
const UNNUMBERED: u64 = 1;
/// First format with a checksum.
const CHECKSUM_SINCE: u64 = 2;

/// Content of a record file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored<T> {
    /// The file does not exist.
    Missing,
    /// The file is not an intact record. The reason is escaped for display.
    Damaged(String),
    /// The record.
    Intact(T),
}

impl<T> Stored<T> {
    /// The record, if the file holds an intact one.
    pub fn intact(self) -> Option<T> {
        match self {
            Self::Intact(record) => Some(record),
            Self::Missing | Self::Damaged(_) => None,
        }
    }
}

/// A record kind.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// Format that this release writes; it reads all formats up to this one.
    const FORMAT: u64;
}

/// Reads a record. Fails with `STATE_TOO_NEW` for a newer format and with `STATE_UNUSABLE`
/// when the file cannot be read.
pub(crate) fn read<T: Record>(path: &Path) -> Result<Stored<T>, Diagnostic> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Stored::Missing),
        Err(e) => return Err(unusable(path, &e)),
    };
    parse(path, &bytes)
}

/// Parses the content of the record file `path`. See [`read`].
pub(crate) fn parse<T: Record>(path: &Path, bytes: &[u8]) -> Result<Stored<T>, Diagnostic> {
    match decode::<T>(bytes) {
        Ok(record) => Ok(Stored::Intact(record)),
        Err(Fault::Damaged(why)) => Ok(Stored::Damaged(escape(&why))),
        Err(Fault::TooNew(found)) => Err(too_new(path, found, T::FORMAT)),
    }
}

/// Writes a record in the current format, atomically. Fails with `STATE_TOO_NEW` instead of
/// overwriting a record of a newer format.
pub(crate) fn write<T: Record>(path: &Path, record: &T) -> Result<(), Diagnostic> {
    if let Ok(bytes) = fs::read(path)
        && let Err(Fault::TooNew(found)) = decode::<T>(&bytes)
    {
        return Err(too_new(path, found, T::FORMAT));
    }
    let bytes = encode(record)
        .map_err(|e| Diagnostic::internal(format!("cannot encode {}: {e}", path.display())))?;
    write_atomically(path, &bytes)
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Damaged(String),
    TooNew(u64),
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

fn encode<T: Record>(record: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut object = Map::new();
    object.insert("format".to_owned(), T::FORMAT.into());
    if let Value::Object(members) = serde_json::to_value(record)? {
        object.extend(members);
    }
    let checksum = checksum(&object)?;
    object.insert("checksum".to_owned(), checksum.into());
    serde_json::to_vec_pretty(&object)
}

fn decode<T: Record>(bytes: &[u8]) -> Result<T, Fault> {
    let mut object: Map<String, Value> = serde_json::from_slice(bytes)?;
    let format = match object.get("format") {
        None => UNNUMBERED,
        Some(number) => match number.as_u64() {
            Some(number @ 1..) => number,
            _ => return Err(Fault::Damaged(format!("its format is {number}"))),
        },
    };
    if format > T::FORMAT {
        return Err(Fault::TooNew(format));
    }
    if format >= CHECKSUM_SINCE {
        let expected = object.shift_remove("checksum");
        if expected.as_ref().and_then(Value::as_str) != Some(&checksum(&object)?) {
            return Err(Fault::Damaged("its checksum is wrong".to_owned()));
        }
    }
    Ok(serde_json::from_value(Value::Object(object))?)
}

/// Digest of the members in the order in which they stand in the file.
fn checksum(members: &Map<String, Value>) -> Result<String, serde_json::Error> {
    let digest = Sha256::digest(serde_json::to_vec(members)?);
    Ok(hex::encode(&digest[..8]))
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{DaemonRecord, SpawnRecord, daemon_record, spawn_record};

    /// A file that holds these bytes, and what the reader makes of it.
    fn read_back<T: Record>(bytes: &[u8]) -> Result<Stored<T>, Diagnostic> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        fs::write(&path, bytes).unwrap();
        read(&path)
    }

    /// Asserts that damaged bytes read as the original record, as damaged, or as too new.
    fn assert_same_or_reported<T: Record + PartialEq + std::fmt::Debug>(
        bytes: &[u8],
        original: &T,
    ) -> Result<(), TestCaseError> {
        match read_back::<T>(bytes) {
            Ok(Stored::Intact(record)) => prop_assert_eq!(&record, original),
            Ok(Stored::Damaged(why)) => prop_assert!(!why.is_empty()),
            Ok(Stored::Missing) => prop_assert!(false, "the file exists"),
            Err(error) => prop_assert_eq!(error.code, Code::StateTooNew),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_truncated_or_flipped_record_is_never_another_record(
            flip: prop::sample::Index, bit in 0..8_u8, cut: prop::sample::Index
        ) {
            let (spawn, daemon) = (spawn_record::tests::record(), daemon_record::tests::record());
            for flipped in [true, false] {
                let damage = |mut bytes: Vec<u8>| {
                    if flipped {
                        let at = flip.index(bytes.len());
                        bytes[at] ^= 1 << bit;
                    } else {
                        bytes.truncate(cut.index(bytes.len()));
                    }
                    bytes
                };
                assert_same_or_reported(&damage(encode(&spawn).unwrap()), &spawn)?;
                assert_same_or_reported(&damage(encode(&daemon).unwrap()), &daemon)?;
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = read_back::<SpawnRecord>(&bytes);
        }
    }

    #[test]
    fn every_single_bit_flip_and_every_truncation_is_noticed() {
        let record = daemon_record::tests::record();
        let bytes = encode(&record).unwrap();
        for at in 0..bytes.len() {
            assert_same_or_reported(&bytes[..at], &record).unwrap();
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_same_or_reported(&flipped, &record).unwrap();
            }
        }
    }

    #[test]
    fn reads_an_object_without_a_format_as_format_1() {
        let record = spawn_record::tests::record();
        let mut object = serde_json::to_value(&record).unwrap();
        let earlier = read_back(object.to_string().as_bytes());
        assert_eq!(earlier, Ok(Stored::Intact(record.clone())));
        object["format"] = json!(1);
        let numbered = read_back(object.to_string().as_bytes());
        assert_eq!(numbered, Ok(Stored::Intact(record)));
    }

    #[test]
    fn writes_the_current_format_with_a_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let record = spawn_record::tests::record();
        write(&path, &record).unwrap();
        let object: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(object["format"], SpawnRecord::FORMAT);
        assert_eq!(object["checksum"].as_str().unwrap().len(), 16);
        assert_eq!(read(&path), Ok(Stored::Intact(record)));
    }

    #[test]
    fn a_newer_format_is_an_error_and_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let text = r#"{"format": 7, "of": "the future"}"#;
        fs::write(&path, text).unwrap();
        let newest = DaemonRecord::FORMAT;
        let record = daemon_record::tests::record();
        for error in [
            read::<DaemonRecord>(&path).unwrap_err(),
            write(&path, &record).unwrap_err(),
        ] {
            assert_eq!(error.code, Code::StateTooNew);
            assert_eq!(
                error.message,
                format!(
                    "{} has format 7, this rbee knows formats up to {newest}",
                    path.display()
                )
            );
            assert!(error.hint.is_some());
            let details = error.details.unwrap();
            assert_eq!(details["format"], 7);
            assert_eq!(details["newest_known"], newest);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_damaged_record_is_reported_with_its_reason() {
        for (text, reason) in [
            ("", "EOF"),
            ("[]", "invalid type"),
            ("{}", "missing field"),
            (r#"{"format": 0}"#, "its format is 0"),
            (r#"{"format": "\u001b"}"#, "its format is \"\\u001b\""),
            (r#"{"format": 2}"#, "its checksum is wrong"),
        ] {
            match read_back::<SpawnRecord>(text.as_bytes()) {
                Ok(Stored::Damaged(why)) => assert!(why.contains(reason), "{text}: {why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
