use std::{fmt, io, path::PathBuf, time::Duration};

use diagnostics::Diagnostic;
use reqwest::{Client, StatusCode, Url, header, redirect::Policy};
use tokio::{fs, io::AsyncReadExt as _};

use crate::errors;

/// Time limit of a request. The files of a catalog are small.
const LIMIT: Duration = Duration::from_secs(30);

/// Where a catalog is.
#[derive(Debug, Clone)]
pub struct Location(Place);

#[derive(Debug, Clone)]
enum Place {
    Directory(PathBuf),
    Http { base: Url, http: Client },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Directory(path) => write!(f, "file://{}", path.display()),
            Place::Http { base, .. } => write!(f, "{base}"),
        }
    }
}

impl Location {
    /// Parses the URL `file:///…`, `http://…` or `https://…` of what contains `workers`.
    ///
    /// Errors: `CONFIG_INVALID`.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let invalid = || errors::location_invalid(text);
        let mut base = Url::parse(text).map_err(|_| invalid())?;
        if base.query().is_some() || base.fragment().is_some() {
            return Err(invalid());
        }
        if base.scheme() == "file" {
            let path = base.to_file_path().map_err(|()| invalid())?;
            return Ok(Self(Place::Directory(path)));
        }
        let has_secret = !base.username().is_empty() || base.password().is_some();
        if !matches!(base.scheme(), "http" | "https") || has_secret {
            return Err(invalid());
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // The signature would hold elsewhere as well, but the user named this place only.
        let builder = || Client::builder().redirect(Policy::none()).timeout(LIMIT);
        let http = file_transfer::tls_client(builder).map_err(Diagnostic::internal)?;
        Ok(Self(Place::Http { base, http }))
    }

    /// Reads the file at `path`, which is relative to the catalog, of at most `limit` bytes.
    ///
    /// Errors: `DOWNLOAD_FAILED`, `CATALOG_UNTRUSTED` if it is larger.
    pub(crate) async fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, Diagnostic> {
        match &self.0 {
            Place::Directory(directory) => {
                let file = directory.join(path);
                let place = file.display().to_string();
                read_file(&file, limit)
                    .await
                    .map_err(|cause| errors::not_read(&place, cause))?
                    .ok_or_else(|| errors::too_large(&place, limit))
            }
            Place::Http { base, http } => {
                let url = base.join(path);
                let url = url.map_err(|_| errors::location_invalid(path))?;
                request(http, url, limit).await
            }
        }
    }
}

/// Reads a file. Returns `None` if it is larger than `limit`.
async fn read_file(path: &std::path::Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    if !fs::metadata(path).await?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).await?;
    file.take(limit + 1).read_to_end(&mut bytes).await?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

async fn request(http: &Client, url: Url, limit: u64) -> Result<Vec<u8>, Diagnostic> {
    let place = url.to_string();
    let failed = |cause: reqwest::Error| errors::not_read(&place, cause.without_url());
    let mut response = http.get(url).send().await.map_err(failed)?;
    match response.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            let target = response.headers().get(header::LOCATION);
            let target = target.map(|target| String::from_utf8_lossy(target.as_bytes()));
            return Err(errors::redirect(&place, &target.unwrap_or_default()));
        }
        status => return Err(errors::status(&place, status.as_u16())),
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(errors::too_large(&place, limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
