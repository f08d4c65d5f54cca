use std::{fmt, time::Duration};

/// A credential. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a credential.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the credential.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A file on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// URL of the file. It may redirect to signed URLs that expire.
    pub url: String,
    /// Bearer token, sent to the host of `url` only.
    pub bearer: Option<Secret>,
    /// Size in bytes, if known.
    pub size: Option<u64>,
    /// SHA-256, if known.
    pub sha256: Option<[u8; 32]>,
}

/// How far the transfer of a file is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransferProgress {
    /// Bytes on disk.
    pub done: u64,
    /// Size of the file, once known.
    pub total: Option<u64>,
    /// Bytes per second over the last seconds.
    pub rate: Option<f64>,
}

/// A file that was fetched and verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Bytes that were received now. The others were on disk.
    pub received: u64,
}

/// Limits of all transfers of a [`Downloader`](crate::Downloader).
#[derive(Debug, Clone)]
pub struct TransferSettings {
    /// Maximum number of connections per file.
    pub connections: usize,
    /// Maximum rate of all transfers together, in bytes per second.
    pub bytes_per_second: Option<u64>,
    /// Time without a byte after which a request has stalled.
    pub stall: Duration,
    /// Time before the first new attempt after a failure. It doubles up to 32 times.
    pub first_delay: Duration,
    /// Free space that a transfer must leave on the disk, in bytes.
    pub reserve_bytes: u64,
    /// Whether to honour the proxies of the environment.
    pub proxies: bool,
}

impl Default for TransferSettings {
    fn default() -> Self {
        Self {
            connections: 8,
            bytes_per_second: None,
            stall: Duration::from_secs(60),
            first_delay: Duration::from_millis(100),
            reserve_bytes: 1 << 30,
            proxies: true,
        }
    }
}
