//! Signatures of downloads, in the format of minisign.

use std::{fs::File, io::Read as _, path::Path};

use diagnostics::Diagnostic;
use minisign_verify::{PublicKey, Signature};

use crate::errors;

/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;

/// Checks that the owner of `key` (base64) signed the file.
///
/// Errors: `BINARY_VERIFICATION_FAILED`.
pub(crate) fn check(file: &Path, signature: &str, key: &str) -> Result<(), Diagnostic> {
    let refused = |e: &dyn std::fmt::Display| errors::bad_signature(file, e);
    let key = PublicKey::from_base64(key).map_err(|e| refused(&e))?;
    let signature = Signature::decode(signature).map_err(|e| refused(&e))?;
    let mut verifier = key.verify_stream(&signature).map_err(|e| refused(&e))?;
    let mut file_content = File::open(file).map_err(|e| errors::storage(file, &e))?;
    let mut block = vec![0; BLOCK];
    loop {
        match file_content.read(&mut block) {
            Ok(0) => return verifier.finalize().map_err(|e| refused(&e)),
            Ok(read) => verifier.update(&block[..read]),
            Err(e) => return Err(errors::storage(file, &e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    /// Of the Ed25519 key with the seed 0, 1, … 31.
    const KEY: &str = "RWRyYmVldGVzdAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    const SIGNATURE: &str = "untrusted comment: signature of a test
RURyYmVldGVzdJqrKBV33PG6wQQl14FRkYBQ8i1JpqcADyBMo53nH8zjYQSz7iQV4OaZbGdd8RmFjRPD3JHzMmw/slXsjRvkvgM=
trusted comment: timestamp:0\tfile:worker
JfVm07kVoNIS7HV/9QeRT9JMxxzd643LIxJl0WVupqv0eU7cwae1RoxRsSMBreaplCLi7PtEoOyHNScB0yjqCg==
";

    #[test]
    fn only_the_signed_file_and_comment_are_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("worker");
        std::fs::write(&file, "a worker").unwrap();
        assert_eq!(check(&file, SIGNATURE, KEY), Ok(()));
        let refused = |signature: &str, key: &str| {
            let error = check(&file, signature, key).unwrap_err();
            assert_eq!(error.code, Code::BinaryVerificationFailed, "{error}");
        };
        refused(&SIGNATURE.replace("file:worker", "file:other"), KEY);
        refused(SIGNATURE, &KEY.replace("OhB7", "OhB8"));
        refused("", KEY);
        refused(SIGNATURE, "");
        std::fs::write(&file, "a Worker").unwrap();
        refused(SIGNATURE, KEY);
    }
}
