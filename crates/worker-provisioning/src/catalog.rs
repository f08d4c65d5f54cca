use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use diagnostics::Diagnostic;
use hive_contract::{
    BinarySource, BinaryStatus, InstalledBinary, InstalledBinaryList, RemovedBinaries,
};
use input_validation::{BinaryVersion, PackageId, WorkerId, WorkerType};
use jiff::Timestamp;
use state_files::{BinaryDir, BinaryDirs, BinaryRecord, Stored};
use worker_catalog::{CatalogKey, Package};

use crate::{
    cleanup,
    database::{ApprovalRow, BinaryRow, Rows, source_named},
    errors,
    fingerprint::Fingerprint,
    install,
    settings::ProvisionSettings,
    tools::is_executable,
};

/// The installation of the hive's own release.
const RELEASE: &str = "release";
/// The worker binaries of a release.
const RELEASED: [&str; 5] = [
    "llm-cpu-worker-rbee",
    "llm-cuda-worker-rbee",
    "llm-metal-worker-rbee",
    "adapter-worker-rbee",
    "mock-worker-rbee",
];

/// The programs of running workers.
pub type InUse = Vec<(WorkerId, PathBuf)>;

/// Programs of leases, with their numbers.
type Leases = Arc<Mutex<BTreeMap<PathBuf, usize>>>;

/// A program that is about to be started. It is not removed before this value is dropped.
#[derive(Debug)]
pub struct ProgramLease {
    program: PathBuf,
    leases: Leases,
}

impl ProgramLease {
    /// Path of the program.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

impl Drop for ProgramLease {
    fn drop(&mut self) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = leases.get_mut(&self.program) {
            *count -= 1;
            if *count == 0 {
                leases.remove(&self.program);
            }
        }
    }
}

/// The worker binaries of one machine.
#[derive(Debug)]
pub struct BinaryCatalog {
    dirs: BinaryDirs,
    release_dir: PathBuf,
    version: BinaryVersion,
    rows: Mutex<Rows>,
    notices: Vec<String>,
    leases: Leases,
}

impl BinaryCatalog {
    /// Opens the catalog. Removes what an earlier hive was making, and ends its builds: no other
    /// hive may use the same home. A damaged database is renamed, and rebuilt from the records of
    /// the binaries.
    ///
    /// Errors: `STATE_TOO_NEW`, `STATE_UNUSABLE`, `DISK_FULL`.
    pub fn open(settings: &ProvisionSettings) -> Result<Self, Diagnostic> {
        let dirs = settings.home.binary_dirs();
        let removed = cleanup::remove_staged(&dirs)?;
        if removed > 0 {
            tracing::warn!(removed, "removed what unfinished builds had left");
        }
        let database = settings.home.binary_database();
        let (mut rows, aside) = Rows::open(&database)?;
        let found = reconcile(&mut rows, &dirs)?;
        let mut notices = found.unreadable;
        match aside {
            None => notices.extend(found.changed),
            Some(aside) => notices.push(format!(
                "{} was damaged and is now {}; the catalog was rebuilt with {} worker binaries \
                 from disk, the newest of each type is the current one",
                errors::show(&database),
                errors::show(&aside),
                rows.all()?.len()
            )),
        }
        for notice in &notices {
            tracing::warn!("{notice}");
        }
        Ok(Self {
            dirs,
            release_dir: settings.release_dir.clone(),
            version: settings.version.parse()?,
            rows: Mutex::new(rows),
            notices,
            leases: Arc::default(),
        })
    }

    /// Remembers that the user agrees to a package.
    pub(crate) fn approve(&self, approval: &ApprovalRow) -> Result<(), Diagnostic> {
        self.rows().approve(approval, Timestamp::now())
    }

    /// Whether the user has agreed to this PKGBUILD of a package.
    pub(crate) fn is_approved(
        &self,
        key: &CatalogKey,
        package: &PackageId,
        pkgbuild: &str,
    ) -> Result<bool, Diagnostic> {
        self.rows().is_approved(key.base64(), package, pkgbuild)
    }

    /// The current installations that are from packages of a catalog, with what these declared
    /// when they were built.
    pub fn packages(&self) -> Result<Vec<(InstalledBinary, Package)>, Diagnostic> {
        let rows = self.rows();
        let types: BTreeSet<_> = rows.all()?.into_iter().map(|row| row.worker_type).collect();
        let mut found = Vec::new();
        for worker_type in types {
            if let Some(row) = current_row(&rows, &worker_type)?
                && let Some(package) = self.package_of(&row)
            {
                found.push((self.entry(row, true), package));
            }
        }
        Ok(found)
    }

    fn package_of(&self, row: &BinaryRow) -> Option<Package> {
        let file = self.dirs.of(&row.worker_type, &row.installation).package();
        // Without it, the installation is one that is from no catalog.
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    pub(crate) fn dirs(&self) -> &BinaryDirs {
        &self.dirs
    }

    /// Directory with the worker binaries of the hive's own release.
    pub fn release_dir(&self) -> &Path {
        &self.release_dir
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path_of(&self, row: &BinaryRow) -> PathBuf {
        let dir = self.dirs.of(&row.worker_type, &row.installation);
        dir.files().join(&row.entry)
    }

    fn release(&self, worker_type: &WorkerType) -> PathBuf {
        self.release_dir.join(worker_type.as_str())
    }

    /// Types of worker that can be started, sorted. Blocks only shortly.
    pub fn installed(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = RELEASED
            .into_iter()
            .filter(|name| is_executable(&self.release_dir.join(name)))
            .map(str::to_owned)
            .collect();
        match self.rows().all() {
            Ok(rows) => names.extend(rows.iter().map(|row| row.worker_type.to_string())),
            Err(error) => tracing::warn!(%error, "cannot read the database of worker binaries"),
        }
        names.into_iter().collect()
    }

    /// The program that a new worker of this type runs. Its file is compared with its hash if it
    /// has changed since it was installed.
    ///
    /// Errors: `WORKER_BINARY_NOT_FOUND`, `BINARY_VERIFICATION_FAILED`.
    pub fn lease(&self, worker_type: &WorkerType) -> Result<ProgramLease, Diagnostic> {
        // Until the lease is counted, nothing can be removed.
        let mut rows = self.rows();
        let program = match current_row(&rows, worker_type)? {
            Some(row) => {
                self.check(&mut rows, &row)?;
                self.path_of(&row)
            }
            None if is_executable(&self.release(worker_type)) => self.release(worker_type),
            None => return Err(errors::not_found(worker_type, &self.release_dir)),
        };
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        *leases.entry(program.clone()).or_default() += 1;
        Ok(ProgramLease {
            program,
            leases: Arc::clone(&self.leases),
        })
    }

    /// Checks that the file of a binary is the one that was installed.
    fn check(&self, rows: &mut Rows, row: &BinaryRow) -> Result<(), Diagnostic> {
        let path = self.path_of(row);
        let damaged = || errors::damaged(&row.worker_type, &path);
        let now = Fingerprint::of(&path).map_err(|_| damaged())?;
        if now == row.fingerprint && is_executable(&path) {
            return Ok(());
        }
        let same = install::hash(&path).is_ok_and(|(_, sha256)| sha256 == row.sha256);
        rows.checked(row, &now, same && is_executable(&path))?;
        if same && is_executable(&path) {
            Ok(())
        } else {
            Err(damaged())
        }
    }

    /// The first installed binary that `wanted` accepts: the current one, else the newest. It
    /// becomes the current one.
    pub(crate) fn select(
        &self,
        worker_type: &WorkerType,
        wanted: impl Fn(&InstalledBinary) -> bool,
    ) -> Result<Option<InstalledBinary>, Diagnostic> {
        let mut list = self.list(Some(worker_type))?.binaries;
        list.reverse();
        // The sort is stable: the newest of the others comes first.
        list.sort_by_key(|binary| !binary.current);
        let found = list
            .into_iter()
            .find(|binary| binary.status == BinaryStatus::Ready && wanted(binary));
        if let Some(binary) = &found
            && !binary.current
        {
            let mut rows = self.rows();
            rows.set_current(worker_type, Some(&binary.installation))?;
        }
        Ok(found)
    }

    /// What is installed, of one type or of all.
    pub fn list(&self, of: Option<&WorkerType>) -> Result<InstalledBinaryList, Diagnostic> {
        let rows = self.rows();
        let mut types: BTreeSet<WorkerType> = match of {
            Some(worker_type) => BTreeSet::from([worker_type.clone()]),
            None => RELEASED
                .iter()
                .map(|name| name.parse())
                .collect::<Result<_, _>>()?,
        };
        if of.is_none() {
            types.extend(rows.all()?.into_iter().map(|row| row.worker_type));
        }
        let mut binaries = Vec::new();
        for worker_type in types {
            let all = rows.of(&worker_type)?;
            let current = rows.current(&worker_type)?;
            let current = current.filter(|id| all.iter().any(|row| row.installation == *id));
            binaries.extend(self.release_entry(&worker_type, current.is_none())?);
            for row in all {
                let is_current = Some(&row.installation) == current.as_ref();
                binaries.push(self.entry(row, is_current));
            }
        }
        Ok(InstalledBinaryList {
            binaries,
            notices: self.notices.clone(),
        })
    }

    fn release_entry(
        &self,
        worker_type: &WorkerType,
        current: bool,
    ) -> Result<Option<InstalledBinary>, Diagnostic> {
        let path = self.release(worker_type);
        if !is_executable(&path) {
            return Ok(None);
        }
        Ok(Some(InstalledBinary {
            worker_type: worker_type.clone(),
            version: self.version.clone(),
            installation: RELEASE.parse()?,
            features: Vec::new(),
            size_bytes: fs::metadata(&path).map_or(0, |metadata| metadata.len()),
            binary_path: path.to_string_lossy().into_owned(),
            sha256: None,
            installed_at: None,
            source: BinarySource::Local,
            origin: self.release_dir.to_string_lossy().into_owned(),
            build_seconds: 0.0,
            status: BinaryStatus::Ready,
            current,
            compatible: true,
            workers: Vec::new(),
        }))
    }

    fn entry(&self, row: BinaryRow, current: bool) -> InstalledBinary {
        let path = self.path_of(&row);
        // The version of an engine is its own.
        let is_engine = row.source == BinarySource::Package
            && self.package_of(&row).is_some_and(|p| p.engine.is_some());
        let unchanged = Fingerprint::of(&path).is_ok_and(|now| now == row.fingerprint);
        InstalledBinary {
            compatible: is_engine || are_compatible(&row.version, &self.version),
            binary_path: path.to_string_lossy().into_owned(),
            status: if unchanged {
                BinaryStatus::Ready
            } else {
                BinaryStatus::Damaged
            },
            worker_type: row.worker_type,
            version: row.version,
            installation: row.installation,
            features: row.features,
            sha256: Some(row.sha256),
            size_bytes: row.size_bytes,
            installed_at: Some(row.installed_at),
            source: row.source,
            origin: row.origin,
            build_seconds: row.build_seconds,
            current,
            workers: Vec::new(),
        }
    }

    /// Moves a verified binary to its place; new workers run it from now on.
    pub(crate) fn install(
        &self,
        staged: &BinaryDir,
        record: &BinaryRecord,
    ) -> Result<InstalledBinary, Diagnostic> {
        let mut rows = self.rows();
        let worker_type = &record.worker_type;
        let (installation, target) = self.free_name(record)?;
        record.write(staged)?;
        let parent = self.dirs.path().join(worker_type.as_str());
        let moved = fs::create_dir_all(&parent)
            .and_then(|()| fs::rename(staged.path(), target.path()))
            // The name of the directory is on the disk before the database refers to it.
            .and_then(|()| fs::File::open(&parent)?.sync_all());
        moved.map_err(|e| errors::storage(target.path(), &e))?;
        let row = row_of(record, installation, &target)?;
        if let Err(error) = rows.add(&row, true) {
            install::remove_dir(target.path())?;
            return Err(error);
        }
        Ok(self.entry(row, true))
    }

    fn free_name(&self, record: &BinaryRecord) -> Result<(BinaryVersion, BinaryDir), Diagnostic> {
        for number in 1_u32.. {
            let name: BinaryVersion = format!("{}-{number}", record.version).parse()?;
            let dir = self.dirs.of(&record.worker_type, &name);
            if !dir.path().exists() {
                return Ok((name, dir));
            }
        }
        Err(Diagnostic::internal(
            "no number for a worker binary is free",
        ))
    }

    /// Removes one installation, or all of a type. If the current one is removed, the newest that
    /// is left becomes current, else that of the release.
    ///
    /// Errors: `NOT_FOUND`, `WORKER_BINARY_IN_USE`.
    pub fn remove(
        &self,
        worker_type: &WorkerType,
        installation: Option<&BinaryVersion>,
        in_use: &InUse,
    ) -> Result<RemovedBinaries, Diagnostic> {
        let mut rows = self.rows();
        if installation.is_some_and(|id| id.as_str() == RELEASE) {
            return Err(errors::release_is_not_removed(worker_type));
        }
        let all = rows.of(worker_type)?;
        let (chosen, kept): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|row| installation.is_none_or(|id| *id == row.installation));
        if chosen.is_empty() {
            return Err(errors::not_installed(worker_type, installation));
        }
        for row in &chosen {
            self.check_unused(row, in_use)?;
        }
        let mut removed = RemovedBinaries {
            worker_type: worker_type.clone(),
            removed: Vec::new(),
            freed_bytes: 0,
        };
        let current = rows.current(worker_type)?;
        for row in chosen {
            let dir = self.dirs.of(worker_type, &row.installation);
            removed.freed_bytes += install::size_of(dir.path());
            rows.remove(&row)?;
            if current.as_ref() == Some(&row.installation) {
                rows.set_current(worker_type, kept.last().map(|row| &row.installation))?;
            }
            install::remove_dir(dir.path())?;
            removed.removed.push(row.installation);
        }
        Ok(removed)
    }

    fn check_unused(&self, row: &BinaryRow, in_use: &InUse) -> Result<(), Diagnostic> {
        let dir = self.dirs.of(&row.worker_type, &row.installation);
        let mut users: Vec<WorkerId> = in_use
            .iter()
            .filter(|(_, program)| program.starts_with(dir.path()))
            .map(|(id, _)| id.clone())
            .collect();
        users.dedup();
        let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let is_leased = leases.keys().any(|program| program.starts_with(dir.path()));
        if users.is_empty() && !is_leased {
            Ok(())
        } else {
            Err(errors::in_use(&row.worker_type, &users))
        }
    }

    /// Selects what new workers run: an installation, else the one before the current one, else
    /// that of the release.
    ///
    /// Errors: `NOT_FOUND`, `BINARY_VERIFICATION_FAILED`.
    pub fn roll_back(
        &self,
        worker_type: &WorkerType,
        installation: Option<&BinaryVersion>,
    ) -> Result<InstalledBinary, Diagnostic> {
        let list = self.list(Some(worker_type))?.binaries;
        if list.is_empty() {
            return Err(errors::not_installed(worker_type, None));
        }
        let target = match installation {
            Some(id) => list
                .iter()
                .find(|binary| binary.installation == *id)
                .ok_or_else(|| errors::not_installed(worker_type, Some(id)))?,
            None => list
                .iter()
                .take_while(|binary| !binary.current)
                .last()
                .ok_or_else(|| errors::no_previous(worker_type))?,
        };
        let mut rows = self.rows();
        if let Some(row) = rows
            .of(worker_type)?
            .iter()
            .find(|row| row.installation == target.installation)
        {
            self.check(&mut rows, row)?;
        }
        rows.set_current(worker_type, Some(&target.installation))?;
        Ok(InstalledBinary {
            current: true,
            status: BinaryStatus::Ready,
            ..target.clone()
        })
    }
}

/// Whether two versions have the same major and minor number.
fn are_compatible(a: &BinaryVersion, b: &BinaryVersion) -> bool {
    let numbers = |version: &BinaryVersion| -> Vec<String> {
        let parts = version.as_str().split('.');
        parts.take(2).map(str::to_owned).collect()
    };
    numbers(a) == numbers(b)
}

fn row_of(
    record: &BinaryRecord,
    installation: BinaryVersion,
    dir: &BinaryDir,
) -> Result<BinaryRow, Diagnostic> {
    let path = dir.files().join(&record.entry);
    let program = record.program().ok_or_else(|| {
        let error = io::Error::other("the record does not list the program");
        errors::storage(&path, &error)
    })?;
    Ok(BinaryRow {
        fingerprint: Fingerprint::of(&path).map_err(|e| errors::storage(&path, &e))?,
        sha256: program.sha256.clone(),
        size_bytes: program.size_bytes,
        worker_type: record.worker_type.clone(),
        installation,
        version: record.version.clone(),
        features: record.features.clone(),
        entry: record.entry.clone(),
        installed_at: record.installed_at,
        source: source_named(&record.source).unwrap_or(BinarySource::Local),
        origin: record.origin.clone(),
        build_seconds: record.build_seconds,
    })
}

/// What users should know of the directories on disk.
#[derive(Default)]
struct Findings {
    /// Rows that were added or removed.
    changed: Vec<String>,
    /// Installations that are on disk and cannot be used.
    unreadable: Vec<String>,
}

/// Brings the database in line with the directories on disk.
fn reconcile(rows: &mut Rows, dirs: &BinaryDirs) -> Result<Findings, Diagnostic> {
    let mut findings = Findings::default();
    let existing = dirs.existing()?;
    for row in rows.all()? {
        let dir = dirs.of(&row.worker_type, &row.installation);
        if !dir.record().is_file() {
            rows.remove(&row)?;
            let (name, version) = (&row.worker_type, &row.installation);
            let change = format!("{name} {version} is no longer on disk");
            findings.changed.push(change);
        }
    }
    for (worker_type, installation, dir) in existing {
        let known = rows.of(&worker_type)?;
        if known.iter().any(|row| row.installation == installation) {
            continue;
        }
        match BinaryRecord::read(&dir)? {
            Stored::Intact(record) if record.worker_type == worker_type => {
                match row_of(&record, installation.clone(), &dir) {
                    Ok(row) => {
                        rows.add(&row, false)?;
                        let change = format!("found {worker_type} {installation} on disk");
                        findings.changed.push(change);
                    }
                    Err(error) => findings.unreadable.push(format!(
                        "{worker_type} {installation} is ignored: {}",
                        error.message
                    )),
                }
            }
            Stored::Intact(_) | Stored::Missing => {}
            Stored::Damaged(why) => findings.unreadable.push(format!(
                "{} cannot be read and is ignored: {why}",
                errors::show(&dir.record())
            )),
        }
    }
    let types: BTreeSet<WorkerType> = rows.all()?.into_iter().map(|row| row.worker_type).collect();
    for worker_type in types {
        let (all, current) = (rows.of(&worker_type)?, rows.current(&worker_type)?);
        let exists = current.as_ref().is_some_and(|id| {
            id.as_str() == RELEASE || all.iter().any(|row| row.installation == *id)
        });
        if !exists {
            rows.set_current(&worker_type, all.last().map(|row| &row.installation))?;
        }
    }
    Ok(findings)
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;

/// The row that new workers run; `None` is the release.
fn current_row(rows: &Rows, worker_type: &WorkerType) -> Result<Option<BinaryRow>, Diagnostic> {
    let current = rows.current(worker_type)?;
    let all = rows.of(worker_type)?;
    Ok(all
        .into_iter()
        .find(|row| Some(&row.installation) == current.as_ref()))
}
