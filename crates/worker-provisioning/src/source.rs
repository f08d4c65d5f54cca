use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use hive_contract::{Progress, ProvisionRequest};
use hive_jobs::JobContext;
use state_files::StagingDir;
use worker_catalog::Package;

/// What a source has made in a staging directory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Staged {
    /// The program that is started, below the files of the installation.
    pub(crate) entry: String,
    /// Where it is from: a repository with the commit, or a URL.
    pub(crate) origin: String,
    /// Package of the catalog that it is.
    pub(crate) package: Option<Box<Package>>,
    /// Time that the build took, in seconds; 0 if it was not built.
    pub(crate) build_seconds: f64,
}

/// Where worker binaries are from.
pub(crate) trait Source: Send + Sync {
    /// Makes the files of a binary below the installation of `staging`. They are neither run nor
    /// used before this returns, and an error discards them.
    ///
    /// Ends within 2 s when the job is cancelled, with all its processes.
    fn stage<'a>(
        &'a self,
        request: &'a ProvisionRequest,
        staging: &'a StagingDir,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Result<Staged, Diagnostic>>;
}

/// How far the download of a file is, in bytes. `item` names it where there are several.
pub(crate) fn download_progress(
    item: Option<String>,
    done: u64,
    total: Option<u64>,
    rate: Option<f64>,
) -> Progress {
    Progress {
        phase: "download".to_owned(),
        item,
        sha256: None,
        done,
        total,
        unit: "bytes".to_owned(),
        rate,
        eta_seconds: None,
    }
}
