//! `rbee-keeper worker-binary`.

use std::{collections::BTreeMap, fs, io, path::Path};

use diagnostics::Diagnostic;
use hive_contract::{
    CatalogApproval, CatalogPackageRequest, PackageRequest, ProvisionRequest, ProvisionResponse,
    RollbackRequest,
};

use crate::{
    binary_cli::{OfNode, OfPackage, OfType, OfVersion, Provision, WorkerBinary},
    errors,
    failure::Failure,
    interrupt::Interrupts,
    models::follow,
    render::{Screen, binaries as text, packages},
    target::Target,
};

/// Maximum size of a local file of a PKGBUILD, in bytes.
const MAX_LOCAL_FILE: u64 = 1 << 20;

/// Runs a subcommand of `rbee-keeper worker-binary`.
pub(crate) async fn run(
    command: WorkerBinary,
    target: &Target,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    match command {
        WorkerBinary::Provision(args) => provision(*args, target, screen, interrupts).await,
        command => {
            interrupts
                .unless_interrupted(short(command, target, screen))
                .await
        }
    }
}

async fn short(command: WorkerBinary, target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let (queen, _) = target.ensure_running().await?;
    match command {
        WorkerBinary::List(OfNode { node }) => {
            let list = queen.binaries(node.as_ref(), None).await?;
            screen.document(&list, || text::list(&list)).await
        }
        WorkerBinary::Show(OfType { worker_type, node }) => {
            let node = node.node.as_ref();
            let list = queen.binaries(node, Some(&worker_type)).await?;
            screen.document(&list, || text::versions(&list)).await
        }
        WorkerBinary::Catalog(OfPackage { package, node }) => {
            let node = node.node.as_ref();
            match package {
                None => {
                    let list = queen.packages(node).await?;
                    screen.document(&list, || packages::list(&list)).await
                }
                Some(id) => {
                    let details = queen.package(node, &id).await?;
                    screen
                        .document(&details, || packages::details(&details))
                        .await
                }
            }
        }
        WorkerBinary::Remove(OfVersion { of, version }) => {
            let node = of.node.node.as_ref();
            let removed = queen.remove_binary(node, &of.worker_type, version.as_ref());
            let removed = removed.await?;
            screen.document(&removed, || text::removed(&removed)).await
        }
        WorkerBinary::Rollback(OfVersion { of, version }) => {
            let node = of.node.node.as_ref();
            let request = RollbackRequest {
                installation: version,
            };
            let selected = queen.roll_back_binary(node, &of.worker_type, &request);
            let selected = selected.await?;
            let versions = queen.binaries(node, Some(&of.worker_type)).await?;
            screen
                .document(&selected, || text::selected(&selected, &versions))
                .await
        }
        // Handled by `run`.
        WorkerBinary::Provision(_) => Ok(()),
    }
}

/// Makes a binary available and shows how far it is. An interrupt cancels the job.
async fn provision(
    args: Provision,
    target: &Target,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    let signature = match &args.signature {
        Some(file) => Some(
            std::fs::read_to_string(file).map_err(|e| errors::unreadable_signature(file, &e))?,
        ),
        None => None,
    };
    let (package, catalog_package) = match &args.package {
        None => (None, None),
        Some(file) if file.is_file() => (Some(local_package(file, &args)?), None),
        Some(named) => (None, Some(catalog_package(named, &args)?)),
    };
    let request = ProvisionRequest {
        features: args.features,
        force_rebuild: args.force_rebuild,
        version: args.version,
        repository: args.repository,
        branch: args.branch,
        url: args.url,
        sha256: args.sha256,
        signature,
        package,
        catalog_package,
        ..ProvisionRequest::of(args.of.worker_type)
    };
    let node = args.of.node.node.as_ref();
    let (queen, _) = target.ensure_running().await?;
    let job = interrupts
        .unless_interrupted(queen.provision(node, &request))
        .await?;
    let cancelled = errors::provision_cancelled(&request.worker_type);
    let provisioned: ProvisionResponse =
        follow(&queen, node, &job, cancelled, screen, interrupts).await?;
    let versions = queen.binaries(node, Some(&request.worker_type));
    let versions = interrupts.unless_interrupted(versions).await?;
    screen
        .document(&provisioned, || text::provisioned(&provisioned, &versions))
        .await
}

/// The package of a PKGBUILD.
fn local_package(file: &Path, args: &Provision) -> Result<PackageRequest, Failure> {
    let approval = match &args.approve {
        Some(None) => return Err(Failure::Usage(errors::approval_without_hash(file))),
        approve => approve.clone().flatten(),
    };
    Ok(PackageRequest {
        approval,
        name: args.package_name.clone(),
        allow_unverified: args.allow_unverified,
        ..read_package(file).map_err(Failure::Usage)?
    })
}

/// The package of the catalog with this name.
fn catalog_package(named: &Path, args: &Provision) -> Result<CatalogPackageRequest, Failure> {
    let unreadable = || errors::unreadable_pkgbuild(named, &io::ErrorKind::NotFound.into());
    let id = named.to_str().and_then(|name| name.parse().ok());
    let id = id.ok_or_else(|| Failure::Usage(unreadable()))?;
    if args.package_name.is_some() || args.allow_unverified {
        return Err(Failure::Usage(errors::option_of_a_file(&id)));
    }
    let approval = args.approve.clone().map(|hash| match hash {
        Some(sha256) => CatalogApproval::Pkgbuild { sha256 },
        None => CatalogApproval::Publisher {},
    });
    Ok(CatalogPackageRequest { id, approval })
}

/// Reads a PKGBUILD and the text files beside it that are small enough to be its local sources.
fn read_package(file: &Path) -> Result<PackageRequest, Diagnostic> {
    let unreadable = |error: io::Error| errors::unreadable_pkgbuild(file, &error);
    let pkgbuild = fs::read_to_string(file).map_err(unreadable)?;
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let size = entry.metadata().map_err(unreadable)?.len();
        let name = entry.file_name().into_string();
        if let Ok(name) = name
            && pkgbuild.contains(&name)
            && entry.path() != file
            && size <= MAX_LOCAL_FILE
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            files.insert(name, text);
        }
    }
    Ok(PackageRequest {
        pkgbuild,
        files,
        approval: None,
        name: None,
        allow_unverified: false,
    })
}
