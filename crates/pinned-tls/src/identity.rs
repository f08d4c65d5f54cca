use std::{fmt, sync::Arc};

use diagnostics::{Code, Diagnostic};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::client::{Fingerprint, fingerprint};

/// Name in the certificate. Clients recognize the server by the fingerprint.
const NAME: &str = "rbee";

/// A self-signed certificate and its key. `Debug` does not show them.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Identity {
    /// Creates a new certificate and its key, in the format PEM.
    pub fn generate() -> Result<String, Diagnostic> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]);
        let made = made.map_err(|e| unusable(&e))?;
        Ok(format!(
            "{}{}",
            made.cert.pem(),
            made.signing_key.serialize_pem()
        ))
    }

    /// Parses a certificate and its key in the format PEM.
    pub fn parse(pem: &str) -> Result<Self, Diagnostic> {
        Ok(Self {
            certificate: CertificateDer::from_pem_slice(pem.as_bytes())
                .map_err(|e| unusable(&e))?,
            key: PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable(&e))?,
        })
    }

    /// Returns the fingerprint by which clients recognize the server.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.certificate)
    }

    /// Returns the configuration of a server with this certificate.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, Diagnostic> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(&e))?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .map_err(|e| unusable(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn unusable(cause: &dyn fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("the certificate cannot be used: {cause}"),
    )
}
