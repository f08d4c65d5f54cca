//! The HTTP client of an engine.

use std::{fmt, fs, path::Path, time::Duration};

use diagnostics::{Code, Diagnostic};
use rest_client::{HttpClient, Peer, RestClient};

use crate::errors;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time after which an idle connection with TLS is closed. Many servers close it after 5 s, and a
/// request that is sent at that moment fails.
const IDLE_LIMIT: Duration = Duration::from_secs(2);
const PEER: Peer = Peer {
    name: "engine",
    unreachable: Code::WorkerCrashed,
    bad_response: Code::WorkerCrashed,
};

/// API key of an engine. It is never shown.
#[derive(Clone)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// Environment variable with the API key of the engine.
pub const KEY_VARIABLE: &str = "RBEE_ENGINE_API_KEY";

/// Reads the API key of the engine from `file`, or else from the value of [`KEY_VARIABLE`].
///
/// Errors: `CONFIG_INVALID` if the file cannot be read or has no key.
pub fn api_key(file: Option<&Path>, value: Option<String>) -> Result<Option<ApiKey>, Diagnostic> {
    let text = match file {
        Some(path) => fs::read_to_string(path).map_err(|e| errors::key_not_read(path, &e))?,
        None => match value {
            Some(text) if !text.is_empty() => text,
            _ => return Ok(None),
        },
    };
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(errors::no_key(file));
    }
    Ok(Some(ApiKey(key.to_owned())))
}

/// Creates a connection pool for the engine at `url`: with TLS if the URL says so.
pub(crate) fn http_client(url: &str) -> Result<HttpClient, Diagnostic> {
    // The key must not pass through a proxy from the environment, nor be redirected.
    let builder = || {
        HttpClient::builder()
            .no_proxy()
            .connect_timeout(CONNECT_LIMIT)
            .pool_idle_timeout(IDLE_LIMIT)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
    };
    if url.starts_with("https://") {
        return file_transfer::tls_client(|| builder().https_only(true)).map_err(errors::no_client);
    }
    // Each call has a connection of its own, which costs 0.1 to 0.2 ms. A kept one can cost more: a
    // server that writes the parts of a response one after the other without TCP_NODELAY, as
    // llama.cpp's writes streams, sends the second part when the first one is acknowledged. From the
    // second response of a connection on, that takes 40 ms. Besides, a request that is sent when the
    // server closes an idle connection fails, and such a connection occupies one of its threads.
    builder()
        .pool_max_idle_per_host(0)
        .tls_certs_only([])
        .build()
        .map_err(errors::no_client)
}

/// Returns the client of the engine at `url`.
pub(crate) fn client(url: &str, key: Option<&ApiKey>, http: HttpClient) -> RestClient {
    let key = key.map(|key| key.0.clone());
    RestClient::with_http(PEER, url, key, http).with_error_reader(errors::read)
}

/// Checks the URL of an engine and removes what the adapter appends itself. A key is sent to
/// another machine only with TLS.
pub(crate) fn checked_url(url: &str, has_key: bool) -> Result<String, Diagnostic> {
    let parsed = reqwest::Url::parse(url).map_err(|error| errors::invalid_url(&error))?;
    let is_http = matches!(parsed.scheme(), "http" | "https");
    let has_more = parsed.query().is_some() || parsed.fragment().is_some();
    if !is_http || parsed.host().is_none() || has_more {
        return Err(errors::invalid_url(
            &"it is not `http://HOST:PORT` or `https://HOST`",
        ));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(errors::invalid_url(&"it contains a secret"));
    }
    let host = parsed.host_str().unwrap_or_default();
    let is_local = ["127.0.0.1", "[::1]", "localhost"].contains(&host);
    if has_key && !is_local && parsed.scheme() != "https" {
        return Err(errors::key_without_tls());
    }
    let url = parsed.as_str().trim_end_matches('/');
    Ok(url.strip_suffix("/v1").unwrap_or(url).to_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[test]
    fn urls_are_checked_and_end_before_the_version() {
        let checked = |url| checked_url(url, false).map_err(|error| error.message);
        assert_eq!(
            checked("http://127.0.0.1:80/v1/").unwrap(),
            "http://127.0.0.1"
        );
        assert_eq!(
            checked("https://api.example.org/openai/v1").unwrap(),
            "https://api.example.org/openai"
        );
        for url in ["ftp://a", "a", "http://u:secret@a", "http://a?key=1"] {
            let message = checked(url).unwrap_err();
            assert!(!message.contains("secret@"), "{message}");
        }
        assert!(checked_url("http://127.0.0.1:1", true).is_ok());
        assert!(checked_url("http://10.0.0.1:1", true).is_err());
    }

    /// A server that answers one request on each connection, and closes it at the second one.
    fn forgetful_server() -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
                thread::spawn(move || stream.read(&mut buffer));
            }
        });
        url
    }

    #[tokio::test]
    async fn no_request_depends_on_an_idle_connection() {
        let url = forgetful_server();
        let client = client(&url, None, http_client(&url).unwrap());
        for _ in 0..3 {
            client.get::<serde_json::Value>("/").await.unwrap();
        }
    }

    #[test]
    fn a_key_is_read_from_its_file_and_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "sk-1\n").unwrap();
        let key = api_key(Some(file.path()), None).unwrap().unwrap();
        assert_eq!(
            (key.0.as_str(), format!("{key:?}").as_str()),
            ("sk-1", "ApiKey")
        );
        fs::write(file.path(), "two words").unwrap();
        assert!(
            !api_key(Some(file.path()), None)
                .unwrap_err()
                .message
                .contains("words")
        );
        assert!(api_key(Some(Path::new("/no/such")), None).is_err());
    }
}
