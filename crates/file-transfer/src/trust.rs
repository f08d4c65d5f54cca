use reqwest::{Certificate, Client, ClientBuilder};

/// Creates a client that trusts the certificates of the system, or Mozilla's if the system has
/// none. `builder` sets everything else.
pub fn tls_client(builder: impl Fn() -> ClientBuilder) -> reqwest::Result<Client> {
    builder().build().or_else(|_| {
        let certificates = webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .filter_map(|certificate| Certificate::from_der(certificate).ok());
        builder().tls_certs_only(certificates).build()
    })
}
