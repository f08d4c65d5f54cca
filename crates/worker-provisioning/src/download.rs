//! Binaries from a server.

use std::{fs, os::unix::fs::PermissionsExt as _};

use daemon_shell::blocking;
use diagnostics::{Diagnostic, excerpt};
use file_transfer::{Downloader, RemoteFile, TransferProgress};
use futures_util::{FutureExt as _, future::BoxFuture};
use hive_contract::ProvisionRequest;
use hive_jobs::JobContext;
use state_files::StagingDir;

use crate::{
    errors, signature,
    source::{Source, Staged, download_progress},
};

/// Maximum length of a URL.
const MAX_URL: usize = 2000;

/// Fetches one file, which is the program.
pub(crate) struct Download {
    pub(crate) downloader: Downloader,
    /// Key of which downloads must be signed.
    pub(crate) key: Option<String>,
}

/// URL and SHA-256 of a request for a download.
pub(crate) fn checked(
    request: &ProvisionRequest,
    key: Option<&str>,
) -> Result<(String, [u8; 32]), Diagnostic> {
    let hint = "name the file with `--url URL --sha256 HASH`";
    let url = request
        .url
        .as_ref()
        .ok_or_else(|| errors::required("url", "for a download", hint))?;
    let is_url = ["http://", "https://"].iter().any(|scheme| {
        url.strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty())
    });
    if !is_url || url.len() > MAX_URL || !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(errors::invalid(
            "url",
            "an HTTP URL of printable ASCII characters",
        ));
    }
    let sha256 = request.sha256.as_ref().ok_or_else(|| {
        errors::required(
            "sha256",
            "for a download, which is never run unverified",
            hint,
        )
    })?;
    let mut digest = [0; 32];
    hex::decode_to_slice(sha256, &mut digest)
        .map_err(|_| errors::invalid("sha256", "64 hexadecimal digits"))?;
    if key.is_some() && request.signature.is_none() {
        return Err(errors::required(
            "signature",
            "because this hive has a key for downloads",
            "add the file's signature with `--signature FILE.minisig`",
        ));
    }
    Ok((url.clone(), digest))
}

impl Source for Download {
    fn stage<'a>(
        &'a self,
        request: &'a ProvisionRequest,
        staging: &'a StagingDir,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Result<Staged, Diagnostic>> {
        self.fetch(request, staging, context).boxed()
    }
}

impl Download {
    async fn fetch(
        &self,
        request: &ProvisionRequest,
        staging: &StagingDir,
        context: &JobContext,
    ) -> Result<Staged, Diagnostic> {
        let (url, sha256) = checked(request, self.key.as_deref())?;
        let shown = excerpt(&url, 200);
        context
            .reporter
            .info("download", format!("downloading {shown}"));
        let file = RemoteFile {
            url: url.clone(),
            bearer: None,
            size: None,
            sha256: Some(sha256),
        };
        let target = staging.work().join("artifact");
        let reporter = context.reporter.clone();
        let progress = move |now: TransferProgress| {
            reporter.progress(download_progress(None, now.done, now.total, now.rate));
        };
        self.downloader
            .fetch(&file, &target, &progress, &context.cancel)
            .await?;
        let entry = request.worker_type.to_string();
        let program = staging.installation().files().join(&entry);
        let (key, signed) = (self.key.clone(), request.signature.clone());
        blocking(move || {
            if let Some(signed) = signed {
                let key = key.ok_or_else(|| {
                    errors::invalid(
                        "signature",
                        "absent, because this hive has no key to check it",
                    )
                })?;
                signature::check(&target, &signed, &key)?;
            }
            // Only now does it become executable.
            fs::rename(&target, &program)
                .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
                .map_err(|e| errors::storage(&program, &e))
        })
        .await?;
        Ok(Staged {
            entry,
            origin: url,
            package: None,
            build_seconds: 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, sha256: Option<&str>) -> ProvisionRequest {
        ProvisionRequest {
            url: Some(url.to_owned()),
            sha256: sha256.map(str::to_owned),
            ..ProvisionRequest::of("a".parse().unwrap())
        }
    }

    #[test]
    fn a_download_needs_a_url_a_hash_and_a_signature_if_there_is_a_key() {
        let hash = "ab".repeat(32);
        let good = request("https://example.org/a", Some(&hash));
        assert_eq!(checked(&good, None).unwrap().1, [0xab; 32]);
        let param = |request: &ProvisionRequest, key| {
            let error = checked(request, key).unwrap_err();
            error.param.map(String::from).unwrap()
        };
        assert_eq!(param(&good, Some("key")), "signature");
        assert_eq!(
            param(&request("https://example.org/a", None), None),
            "sha256"
        );
        assert_eq!(
            param(&request("https://example.org/a", Some("ab")), None),
            "sha256"
        );
        for bad in [
            "",
            "file:///etc/passwd",
            "ftp://x",
            "https://",
            "http://a b",
        ] {
            assert_eq!(param(&request(bad, Some(&hash)), None), "url", "{bad}");
        }
        assert_eq!(
            param(&ProvisionRequest::of("a".parse().unwrap()), None),
            "url"
        );
    }
}
