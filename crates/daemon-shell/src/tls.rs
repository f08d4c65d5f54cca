use std::{fs, path::Path};

use diagnostics::Diagnostic;
use pinned_tls::Identity;

use crate::{errors, new_file::create_new};

/// Reads a self-signed certificate and its key from a file, which is created with mode 0600 if it
/// is missing. Concurrent processes get the same certificate.
pub fn tls_identity(path: &Path) -> Result<Identity, Diagnostic> {
    if !path.exists() {
        create_new(path, Identity::generate()?.as_bytes())
            .map_err(|e| errors::not_written(path, &e))?;
    }
    let pem = fs::read_to_string(path).map_err(|e| errors::certificate_unreadable(path, &e))?;
    Identity::parse(&pem).map_err(|e| errors::certificate_unreadable(path, &e.message))
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, os::unix::fs::PermissionsExt as _};

    use axum::{Router, routing::get};
    use tokio_util::sync::CancellationToken;

    use input_validation::CertificateFingerprint;
    use pinned_tls::AnotherCertificate;

    use super::*;
    use crate::{
        connection::Encryption,
        serve::{bind, serve_with_tls},
    };

    #[test]
    fn a_certificate_is_created_once_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("certificate");
        let created = tls_identity(&path).unwrap();
        assert_eq!(
            tls_identity(&path).unwrap().fingerprint(),
            created.fingerprint()
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "no certificate").unwrap();
        let error = tls_identity(&path).unwrap_err();
        assert!(error.message.contains(path.to_str().unwrap()), "{error}");
    }

    #[tokio::test]
    async fn one_port_serves_both_and_only_the_pinned_certificate_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let identity = tls_identity(&dir.path().join("certificate")).unwrap();
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().route("/", get(|| async { "here" }));
        let tls = Encryption {
            tls: identity.server_config().unwrap(),
            required_of_others: true,
        };
        tokio::spawn(serve_with_tls(
            listener,
            tls,
            router,
            CancellationToken::new(),
        ));
        let call = async |client: rest_client::HttpClient, scheme: &str| {
            let url = format!("{scheme}://127.0.0.1:{port}/");
            client.get(url).send().await?.text().await
        };
        let plain = rest_client::http_client().unwrap();
        assert_eq!(call(plain, "http").await.unwrap(), "here");
        let pinned =
            rest_client::pinned_client(&CertificateFingerprint::of_digest(identity.fingerprint()))
                .unwrap();
        assert_eq!(call(pinned, "https").await.unwrap(), "here");
        let other = "ab".repeat(32).parse().unwrap();
        let other = rest_client::pinned_client(&other).unwrap();
        let error = call(other, "https").await.unwrap_err();
        assert!(AnotherCertificate::caused(&error), "{error:?}");
    }
}
