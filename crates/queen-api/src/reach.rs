use input_validation::CertificateFingerprint;

/// How other machines reach the queen.
#[derive(Debug, Clone)]
pub struct QueenReach {
    /// Certificate by which they recognize the queen.
    pub certificate: CertificateFingerprint,
    /// Base URLs that may lead to the queen.
    pub urls: Vec<String>,
}
