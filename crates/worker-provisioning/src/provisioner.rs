use std::{
    collections::HashMap,
    fs,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use daemon_shell::{blocking, write_atomically};
use diagnostics::Diagnostic;
use file_transfer::Downloader;
use futures_util::StreamExt as _;
use hive_contract::{
    BinarySource, BinaryStatus, InstalledBinary, JobEvent, PackageDetails, PackageList,
    ProvisionRequest, ProvisionResponse,
};
use hive_jobs::{Job, JobContext, JobRegistry, SharedOperation};
use input_validation::{PackageId, WorkerType};
use jiff::Timestamp;
use package_builder::PackageBuilder;
use state_files::{BinaryRecord, StagingDir};
use uuid::Uuid;
use worker_catalog::Package;

use crate::{
    catalog::{BinaryCatalog, ProgramLease},
    download::{self, Download},
    errors,
    git::{self, GitBuild},
    install,
    package::{self, PackageBuild},
    package_catalog::{self, CatalogBuild, Packages},
    settings::ProvisionSettings,
    source::Source,
    tools::Tools,
    verify::Verifier,
};

/// Maximum number of features of a request.
const MAX_FEATURES: usize = 32;

/// Obtains worker binaries and adds them to the catalog.
pub struct Provisioner {
    makers: Arc<Makers>,
    jobs: Arc<JobRegistry>,
    running: Mutex<HashMap<ProvisionRequest, SharedOperation>>,
}

/// What an operation needs.
struct Makers {
    catalog: Arc<BinaryCatalog>,
    git: GitBuild,
    download: Download,
    package: PackageBuild,
    packages: Packages,
    tools: Tools,
    /// Builds use all cores, so one runs at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Provisioner {
    /// Opens the catalog; its jobs are started in `jobs`.
    ///
    /// Errors: those of [`BinaryCatalog::open`].
    pub fn open(settings: ProvisionSettings, jobs: Arc<JobRegistry>) -> Result<Self, Diagnostic> {
        let catalog = Arc::new(BinaryCatalog::open(&settings)?);
        let builder = PackageBuilder::new(package_builder::Settings {
            toolchains: settings.toolchains,
            compute_capability: settings.compute_capability,
            private: vec![settings.home.path().to_owned()],
            transfer: settings.transfers.clone(),
            ..package_builder::Settings::default()
        });
        let package = PackageBuild {
            home: settings.home.clone(),
            builder,
        };
        let downloader = Downloader::new(settings.transfers)?;
        let tools = Tools::new(settings.path, settings.cuda);
        let packages = Packages {
            catalog: settings.packages,
            binaries: Arc::clone(&catalog),
        };
        Ok(Self {
            makers: Arc::new(Makers {
                catalog,
                git: GitBuild {
                    home: settings.home,
                    tools: tools.clone(),
                    profile: settings.profile,
                    repository: settings.repository,
                    branch: settings.branch,
                },
                download: Download {
                    downloader,
                    key: settings.download_key,
                },
                package,
                packages,
                tools,
                turn: tokio::sync::Mutex::new(()),
            }),
            jobs,
            running: Mutex::default(),
        })
    }

    /// The installed binaries.
    pub fn catalog(&self) -> &Arc<BinaryCatalog> {
        &self.makers.catalog
    }

    /// The packages of the catalog, which is read again.
    ///
    /// Errors: `NOT_FOUND` without a catalog; `CATALOG_UNTRUSTED`, `DOWNLOAD_FAILED`,
    /// `VERSION_INCOMPATIBLE`.
    pub async fn packages(&self) -> Result<PackageList, Diagnostic> {
        self.makers.packages.list().await
    }

    /// A package of the catalog, which is read again, with its PKGBUILD.
    ///
    /// Errors: `NOT_FOUND`, `CHECKSUM_MISMATCH`, and those of [`Self::packages`].
    pub async fn package(&self, id: &PackageId) -> Result<PackageDetails, Diagnostic> {
        self.makers.packages.details(id).await
    }

    /// The packages of the catalog that are for this machine, and whether the user has agreed to
    /// each. None without a catalog. A catalog that was read before is not read again.
    ///
    /// Errors: those of [`Self::packages`].
    pub async fn offers(&self) -> Result<Vec<(Package, bool)>, Diagnostic> {
        self.makers.packages.offers().await
    }

    /// Types of worker that can be started, or that are built when a worker needs them.
    pub fn available(&self) -> Vec<String> {
        let mut names = self.makers.catalog.installed();
        if self.makers.git.repository.is_some() {
            let built = ["llm-cpu-worker-rbee", "mock-worker-rbee"].into_iter();
            let cuda = self
                .makers
                .tools
                .has_cuda()
                .then_some("llm-cuda-worker-rbee");
            names.extend(built.chain(cuda).map(str::to_owned));
            names.sort();
            names.dedup();
        }
        names
    }

    /// Starts a job that makes a binary available. Jobs of the same request share one operation,
    /// which is cancelled with the last of them: who cancels a job leaves the others theirs.
    ///
    /// Errors: `INVALID_REQUEST`, `QUEUE_FULL`.
    pub fn start(&self, request: ProvisionRequest) -> Result<Arc<Job>, Diagnostic> {
        check(&request, self.makers.download.key.as_deref())?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, operation| !operation.has_ended());
        if let Some(operation) = running.get(&request)
            && let Some(job) = self.jobs.follow(operation)?
        {
            return Ok(job);
        }
        let (makers, wanted) = (Arc::clone(&self.makers), request.clone());
        let operation = self.jobs.start_shared("provision", |context| async move {
            makers.provision(&wanted, &context).await
        })?;
        let job = self.jobs.follow(&operation)?;
        running.insert(request, operation);
        job.ok_or_else(|| Diagnostic::internal("a provisioning that nobody can follow"))
    }

    /// The program of a worker type. If it is missing and the hive has a repository, it is built
    /// first; the events of that job are those of `context`, which cancels it.
    ///
    /// Errors: `WORKER_BINARY_NOT_FOUND`, and those of the job.
    pub async fn ensure(
        &self,
        worker_type: &WorkerType,
        context: &JobContext,
    ) -> Result<ProgramLease, Diagnostic> {
        let missing = match self.lease(worker_type).await {
            Err(error) if error.code == diagnostics::Code::WorkerBinaryNotFound => error,
            found => return found,
        };
        if self.makers.git.repository.is_none() {
            return Err(missing);
        }
        let message = format!("{worker_type} is not installed; building it");
        context.reporter.info("provision", message);
        self.obtain(ProvisionRequest::of(worker_type.clone()), context)
            .await?;
        self.lease(worker_type).await
    }

    /// Makes a binary available and waits for it; the events of that job are those of `context`,
    /// which cancels it.
    ///
    /// Errors: those of the job.
    pub async fn obtain(
        &self,
        request: ProvisionRequest,
        context: &JobContext,
    ) -> Result<(), Diagnostic> {
        let what = format!("the provisioning of {}", request.worker_type);
        let job = self.start(request)?;
        let mut events = pin!(job.events());
        loop {
            let event = tokio::select! {
                biased;
                () = context.cancel.cancelled() => {
                    job.cancel().await;
                    return Err(errors::cancelled(&what));
                }
                event = events.next() => event.unwrap_or(JobEvent::Cancelled {}),
            };
            match event {
                JobEvent::Result(_) => return Ok(()),
                JobEvent::Error(error) => return Err(error),
                JobEvent::Cancelled {} => return Err(errors::cancelled(&what)),
                event @ (JobEvent::Narration(_) | JobEvent::Progress(_)) => {
                    context.reporter.send(event);
                }
            }
        }
    }

    async fn lease(&self, worker_type: &WorkerType) -> Result<ProgramLease, Diagnostic> {
        let (catalog, worker_type) = (Arc::clone(&self.makers.catalog), worker_type.clone());
        blocking(move || catalog.lease(&worker_type)).await
    }
}

/// Checks what can be checked without obtaining anything.
fn check(request: &ProvisionRequest, key: Option<&str>) -> Result<(), Diagnostic> {
    if request.features.len() > MAX_FEATURES {
        return Err(errors::invalid(
            "features",
            format_args!("at most {MAX_FEATURES} names"),
        ));
    }
    match source_of(request) {
        Some(BinarySource::Package) if request.catalog_package.is_some() => {
            if request.package.is_some() {
                return Err(errors::invalid(
                    "package",
                    "absent beside `catalog_package`",
                ));
            }
            Ok(())
        }
        Some(BinarySource::Package) => package::checked(request).map(drop),
        Some(BinarySource::Download) => download::checked(request, key).map(drop),
        _ => Ok(()),
    }
}

/// The source that a request names; `None` if any will do.
fn source_of(request: &ProvisionRequest) -> Option<BinarySource> {
    let is_package = request.package.is_some() || request.catalog_package.is_some();
    let named = [
        (is_package, BinarySource::Package),
        (request.url.is_some(), BinarySource::Download),
        (request.repository.is_some(), BinarySource::Git),
    ];
    let implied = named.into_iter().find(|(is_named, _)| *is_named);
    request.source.or(implied.map(|(_, source)| source))
}

/// Whether an installed binary is what a request asks for.
/// `package` is the one of the catalog that the request names.
fn accepts(
    request: &ProvisionRequest,
    package: Option<&Package>,
    binary: &InstalledBinary,
) -> bool {
    let source = source_of(request);
    let is_from_there = match (source, &request.repository, &request.url) {
        (Some(BinarySource::Git), Some(repository), _) => {
            let origin = git::origin(repository, request.branch.as_ref());
            // One word follows: the commit.
            let commit = binary.origin.strip_prefix(&origin);
            commit.is_some_and(|commit| !commit.contains(' '))
        }
        (Some(BinarySource::Download), _, Some(url)) => {
            binary.origin == *url
                && binary.sha256.as_ref().map(|hash| hash.to_ascii_lowercase())
                    == request
                        .sha256
                        .as_ref()
                        .map(|hash| hash.to_ascii_lowercase())
        }
        (Some(BinarySource::Package), _, _) => {
            let requested = request.package.as_ref().map(package::origin);
            let origin = package.map(package_catalog::origin).or(requested);
            origin.is_some_and(|origin| binary.origin == origin)
        }
        _ => true,
    };
    let version = request.version.as_ref();
    source.is_none_or(|source| source == binary.source)
        && is_from_there
        && request
            .features
            .iter()
            .all(|feature| binary.features.contains(feature))
        && version.is_none_or(|v| *v == binary.version || *v == binary.installation)
}

impl Makers {
    async fn provision(
        self: Arc<Self>,
        request: &ProvisionRequest,
        context: &JobContext,
    ) -> Result<ProvisionResponse, Diagnostic> {
        let package = self.packages.requested(request).await?;
        let package = package.as_ref();
        if let Some(binary) = self.installed(request, package).await? {
            return Ok(response(binary, 0.0));
        }
        let what = format!("the provisioning of {}", request.worker_type);
        let waiting = async { Ok(self.turn.lock().await) };
        let _turn = context.phase(&what, None, waiting).await?;
        // Another operation may have obtained it.
        if let Some(binary) = self.installed(request, package).await? {
            return Ok(response(binary, 0.0));
        }
        let staging = self.create_staging().await?;
        let outcome = self.obtain(request, package, &staging, context).await;
        let path = staging.path().to_owned();
        let removed = blocking(move || install::remove_dir(&path)).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "cannot remove what a build has left");
        }
        let binary = outcome?;
        let seconds = binary.build_seconds;
        Ok(response(binary, seconds))
    }

    /// An installed binary that the request accepts, unless it asks for a new one.
    async fn installed(
        self: &Arc<Self>,
        request: &ProvisionRequest,
        package: Option<&Package>,
    ) -> Result<Option<InstalledBinary>, Diagnostic> {
        if request.force_rebuild {
            return Ok(None);
        }
        let (this, request) = (Arc::clone(self), request.clone());
        let package = package.cloned();
        let wanted = move || {
            let accepts = |binary: &InstalledBinary| accepts(&request, package.as_ref(), binary);
            this.catalog.select(&request.worker_type, accepts)
        };
        blocking(wanted).await
    }

    async fn create_staging(&self) -> Result<StagingDir, Diagnostic> {
        let name = Uuid::now_v7().simple().to_string();
        let staging = self.catalog.dirs().staging(&name);
        let dirs = [staging.work(), staging.installation().files()];
        blocking(move || {
            for dir in dirs {
                fs::create_dir_all(&dir).map_err(|e| errors::storage(&dir, &e))?;
            }
            Ok(())
        })
        .await?;
        Ok(staging)
    }

    /// Makes, verifies and installs a binary.
    async fn obtain(
        self: &Arc<Self>,
        request: &ProvisionRequest,
        package: Option<&Package>,
        staging: &StagingDir,
        context: &JobContext,
    ) -> Result<InstalledBinary, Diagnostic> {
        let worker_type = &request.worker_type;
        let kind = source_of(request).unwrap_or(BinarySource::Git);
        let from_catalog = package.map(|package| CatalogBuild {
            build: &self.package,
            packages: &self.packages,
            package,
            approval: request
                .catalog_package
                .as_ref()
                .and_then(|wanted| wanted.approval.as_ref()),
        });
        let source: &dyn Source = match kind {
            BinarySource::Local => {
                let dir = self.catalog.release_dir();
                return Err(errors::not_found(worker_type, dir));
            }
            BinarySource::Git if self.git.place(request).is_none() => {
                return Err(errors::no_source(worker_type));
            }
            BinarySource::Git => &self.git,
            BinarySource::Download => &self.download,
            BinarySource::Package => match &from_catalog {
                Some(package) => package,
                None => &self.package,
            },
        };
        let staged = source.stage(request, staging, context).await?;
        let program = staging.installation().files().join(&staged.entry);
        context
            .reporter
            .info("verify", format!("verifying {worker_type} by running it"));
        let engine = package.and_then(|package| Some((package.engine.as_ref()?, package)));
        let verifier = Verifier {
            worker_type,
            program: &program,
            staging,
            tools: &self.tools,
            cancel: &context.cancel,
        };
        let version = match engine {
            Some((engine, package)) => {
                verifier.engine(&engine.check).await?;
                package.version.clone()
            }
            None => verifier.worker().await?,
        };
        if let Some(wanted) = &request.version
            && *wanted != version
        {
            return Err(errors::wrong_version(worker_type, wanted, &version));
        }
        let mut record = BinaryRecord {
            worker_type: worker_type.clone(),
            version,
            features: request.features.clone(),
            entry: staged.entry,
            files: Vec::new(),
            source: kind.as_str().to_owned(),
            origin: staged.origin,
            build_seconds: staged.build_seconds,
            installed_at: Timestamp::now(),
        };
        if context.cancel.is_cancelled() {
            return Err(errors::cancelled(&format!(
                "the provisioning of {worker_type}"
            )));
        }
        let (this, dir) = (Arc::clone(self), staging.installation());
        let binary = blocking(move || {
            if let Some(package) = staged.package {
                let entry = serde_json::to_vec(&package).map_err(Diagnostic::internal)?;
                write_atomically(&dir.package(), &entry)?;
            }
            record.files = install::files(&dir)?;
            this.catalog.install(&dir, &record)
        })
        .await?;
        let message = format!("{worker_type} {} is ready", binary.installation);
        context.reporter.info("ready", message);
        Ok(binary)
    }
}

fn response(binary: InstalledBinary, build_time_seconds: f64) -> ProvisionResponse {
    ProvisionResponse {
        worker_type: binary.worker_type,
        version: binary.version,
        installation: binary.installation,
        binary_path: binary.binary_path,
        build_time_seconds,
        status: BinaryStatus::Ready,
    }
}

#[cfg(test)]
#[path = "provisioner_tests.rs"]
mod tests;
