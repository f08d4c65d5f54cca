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

    /// The SHA-256 digest of the certificate.
    pub fn digest(&self) -> [u8; 32] {
        let digits = self.as_str().as_bytes();
        std::array::from_fn(|n| {
            let digit = |at: usize| {
                let digit = digits.get(at).map(|digit| char::from(*digit));
                digit.and_then(|digit| digit.to_digit(16)).unwrap_or(0) as u8
            };
            digit(2 * n) << 4 | digit(2 * n + 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_a_digest_in_lower_case() {
        let made = CertificateFingerprint::of_digest([0xab; 32]);
        assert_eq!(made.as_str(), "ab".repeat(32));
        let digest = std::array::from_fn(|n| n as u8 * 7);
        assert_eq!(CertificateFingerprint::of_digest(digest).digest(), digest);
        assert_eq!(
            made.as_str().parse::<CertificateFingerprint>().unwrap(),
            made
        );
        for bad in ["", &"AB".repeat(32), &"ab".repeat(31), &"g".repeat(64)] {
            assert!(bad.parse::<CertificateFingerprint>().is_err(), "{bad}");
        }
    }
}
