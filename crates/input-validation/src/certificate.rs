//! Fingerprints of certificates.

use std::fmt::Write as _;

use crate::name::name;

fn is_fingerprint(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

name!(
    /// SHA-256 digest of a certificate.
    CertificateFingerprint, "certificate fingerprint", "64 characters of `0-9 a-f`",
    "^[0-9a-f]{64}$", is_fingerprint
);

impl CertificateFingerprint {
    /// The fingerprint of a certificate with this SHA-256 digest.
    pub fn of_digest(digest: [u8; 32]) -> Self {
        let mut text = String::with_capacity(64);
        for byte in digest {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_a_digest_in_lower_case() {
        let made = CertificateFingerprint::of_digest([0xab; 32]);
        assert_eq!(made.as_str(), "ab".repeat(32));
        assert_eq!(
            made.as_str().parse::<CertificateFingerprint>().unwrap(),
            made
        );
        for bad in ["", &"AB".repeat(32), &"ab".repeat(31), &"g".repeat(64)] {
            assert!(bad.parse::<CertificateFingerprint>().is_err(), "{bad}");
        }
    }
}
