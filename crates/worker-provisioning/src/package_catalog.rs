//! Packages of the hive's catalog.

use std::{fs, sync::Arc};

use daemon_shell::blocking;
use diagnostics::Diagnostic;
use futures_util::{FutureExt as _, future::BoxFuture};
use hive_contract::{
    BinarySource, CatalogApproval, CatalogPackage, CatalogPackageRequest, InstalledBinary,
    PackageDetails, PackageList, ProvisionRequest,
};
use hive_jobs::JobContext;
use input_validation::PackageId;
use package_builder::Approval;
use state_files::StagingDir;
use worker_catalog::{Catalog, Package, PackageFile, RECIPE};

use crate::{
    catalog::BinaryCatalog,
    database::ApprovalRow,
    errors,
    package::{Order, PackageBuild, local_files},
    package_entry::{self, OnMachine},
    source::{Source, Staged},
};

/// The catalog of packages, and what the user has agreed to.
pub(crate) struct Packages {
    pub(crate) catalog: Option<Arc<Catalog>>,
    pub(crate) binaries: Arc<BinaryCatalog>,
}

/// Builds a package of the catalog.
pub(crate) struct CatalogBuild<'a> {
    pub(crate) build: &'a PackageBuild,
    pub(crate) packages: &'a Packages,
    pub(crate) package: &'a Package,
    pub(crate) approval: Option<&'a CatalogApproval>,
}

/// What the binary of a package is from: the same version gives the same origin.
pub(crate) fn origin(package: &Package) -> String {
    let (id, version) = (&package.id, &package.version);
    format!(
        "catalog {id} {version}, PKGBUILD {}",
        recipe(package).sha256
    )
}

/// An index whose packages have no recipe is refused.
fn recipe(package: &Package) -> PackageFile {
    package.recipe().cloned().unwrap_or(PackageFile {
        name: RECIPE.to_owned(),
        bytes: 0,
        sha256: String::new(),
    })
}

impl Packages {
    fn catalog(&self) -> Result<&Catalog, Diagnostic> {
        self.catalog.as_deref().ok_or_else(errors::no_catalog)
    }

    /// The packages of the catalog, and what this machine has of them.
    pub(crate) async fn list(&self) -> Result<PackageList, Diagnostic> {
        let catalog = self.catalog()?;
        let index = catalog.index().await?;
        let mut packages = Vec::new();
        for package in &index.packages {
            packages.push(self.described(package).await?);
        }
        packages.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(PackageList {
            catalog: catalog.location().to_string(),
            key: catalog.key().base64().to_owned(),
            sequence: index.sequence,
            packages,
        })
    }

    /// A package of the catalog with its recipe.
    pub(crate) async fn details(&self, id: &PackageId) -> Result<PackageDetails, Diagnostic> {
        let catalog = self.catalog()?;
        let index = catalog.index().await?;
        let package = index.package(id)?;
        let recipe = catalog.file(id, &recipe(package)).await?;
        let others = package.files.iter().filter(|file| file.name != RECIPE);
        Ok(PackageDetails {
            package: self.described(package).await?,
            pkgbuild: String::from_utf8_lossy(&recipe).into_owned(),
            files: others
                .map(|file| (file.name.clone(), file.sha256.clone()))
                .collect(),
        })
    }

    /// The packages of the catalog that this machine can build, and whether the user has agreed
    /// to each. The catalog is not asked again if it was read before.
    pub(crate) async fn offers(&self) -> Result<Vec<(Package, bool)>, Diagnostic> {
        let Some(catalog) = self.catalog.as_deref() else {
            return Ok(Vec::new());
        };
        let index = match catalog.newest_received().await? {
            Some(index) => index,
            None => catalog.index().await?,
        };
        let mut offers = Vec::new();
        for package in index.packages {
            if package.is_for(std::env::consts::ARCH) {
                let is_approved = self.is_approved(&package).await?;
                offers.push((package, is_approved));
            }
        }
        Ok(offers)
    }

    /// The package of the catalog that a request names, if it names one.
    ///
    /// Errors: `NOT_FOUND`, `INVALID_REQUEST` for one that provides another type of worker, and
    /// those of the catalog.
    pub(crate) async fn requested(
        &self,
        request: &ProvisionRequest,
    ) -> Result<Option<Package>, Diagnostic> {
        let Some(CatalogPackageRequest { id, .. }) = &request.catalog_package else {
            return Ok(None);
        };
        let index = self.catalog()?.index().await?;
        let package = index.package(id)?;
        if package.worker_type != request.worker_type {
            return Err(errors::package_of_another_type(
                id,
                &package.worker_type,
                &request.worker_type,
            ));
        }
        Ok(Some(package.clone()))
    }

    async fn is_approved(&self, package: &Package) -> Result<bool, Diagnostic> {
        let key = self.catalog()?.key().clone();
        let (id, digest) = (package.id.clone(), recipe(package).sha256);
        let binaries = Arc::clone(&self.binaries);
        blocking(move || binaries.is_approved(&key, &id, &digest)).await
    }

    /// Remembers what the user agrees to now, and checks that this package is part of it.
    async fn approved(
        &self,
        package: &Package,
        now: Option<&CatalogApproval>,
    ) -> Result<Approval, Diagnostic> {
        let digest = recipe(package).sha256;
        let needed = digest.parse().map_err(Diagnostic::internal)?;
        let not_approved = || errors::package_not_approved(package, &digest);
        if let Some(approval) = now {
            let pkgbuild = match approval {
                CatalogApproval::Publisher {} => None,
                CatalogApproval::Pkgbuild { sha256 } if sha256.eq_ignore_ascii_case(&digest) => {
                    Some(digest.clone())
                }
                CatalogApproval::Pkgbuild { .. } => return Err(not_approved()),
            };
            let row = ApprovalRow {
                key: self.catalog()?.key().base64().to_owned(),
                package: package.id.clone(),
                pkgbuild,
            };
            let binaries = Arc::clone(&self.binaries);
            blocking(move || binaries.approve(&row)).await?;
        }
        if self.is_approved(package).await? {
            Ok(needed)
        } else {
            Err(not_approved())
        }
    }

    async fn described(&self, package: &Package) -> Result<CatalogPackage, Diagnostic> {
        let (binaries, worker_type) = (Arc::clone(&self.binaries), package.worker_type.clone());
        let installed = blocking(move || binaries.list(Some(&worker_type))).await?;
        let prefix = format!("catalog {} ", package.id);
        let is_from_it = |binary: &&InstalledBinary| {
            binary.source == BinarySource::Package && binary.origin.starts_with(&prefix)
        };
        let newest = installed
            .binaries
            .into_iter()
            .rev()
            .find(|b| is_from_it(&b));
        let machine = OnMachine {
            approved: self.is_approved(package).await?,
            outdated: newest.as_ref().is_some_and(|b| b.origin != origin(package)),
            installation: newest.map(|binary| binary.installation),
        };
        Ok(package_entry::of(package, recipe(package).sha256, machine))
    }
}

impl Source for CatalogBuild<'_> {
    fn stage<'a>(
        &'a self,
        request: &'a ProvisionRequest,
        staging: &'a StagingDir,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Result<Staged, Diagnostic>> {
        self.run(request, staging, context).boxed()
    }
}

impl CatalogBuild<'_> {
    async fn run(
        &self,
        request: &ProvisionRequest,
        staging: &StagingDir,
        context: &JobContext,
    ) -> Result<Staged, Diagnostic> {
        let package = self.package;
        let (id, version) = (&package.id, &package.version);
        if !package.is_for(std::env::consts::ARCH) {
            return Err(errors::package_for_other_machines(package));
        }
        let approval = self.packages.approved(package, self.approval).await?;
        let message = format!("fetching {id} {version} from the catalog");
        context.reporter.info("catalog", message);
        let dir = local_files(staging);
        let created = dir.clone();
        blocking(move || fs::create_dir(&created).map_err(|e| errors::storage(&created, &e)))
            .await?;
        self.packages.catalog()?.fetch(package, &dir).await?;
        let file = dir.join(RECIPE);
        let text = blocking(move || fs::read(&file).map_err(|e| errors::storage(&file, &e)));
        let order = Order {
            text: text.await?,
            approval: Some(approval),
            name: None,
            allow_unverified: false,
            entry: package.program.clone(),
            origin: origin(package),
            package: Some(Box::new(package.clone())),
        };
        self.build
            .build(order, &request.worker_type, staging, context)
            .await
    }
}
