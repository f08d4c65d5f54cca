use std::os::unix::fs::PermissionsExt as _;

use diagnostics::Code;
use jiff::Timestamp;
use state_files::Home;

use super::*;

struct Machine {
    dir: tempfile::TempDir,
    catalog: BinaryCatalog,
}

fn settings(dir: &Path) -> ProvisionSettings {
    let home = Home::open(Some(dir.join("home"))).unwrap();
    ProvisionSettings::new(home, dir.join("release"), "0.1.0")
}

fn machine() -> Machine {
    let dir = tempfile::tempdir().unwrap();
    let catalog = BinaryCatalog::open(&settings(dir.path())).unwrap();
    Machine { dir, catalog }
}

fn a() -> WorkerType {
    "a".parse().unwrap()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Machine {
    fn install(&self, version: &str, seconds: i64) -> InstalledBinary {
        let staged = self.catalog.dirs().staging("x").installation();
        write(&staged.files().join("a"), version);
        let record = BinaryRecord {
            worker_type: a(),
            version: version.parse().unwrap(),
            features: Vec::new(),
            entry: "a".into(),
            files: install::files(&staged).unwrap(),
            source: "git".into(),
            origin: "r c".into(),
            build_seconds: 1.0,
            installed_at: Timestamp::from_second(seconds).unwrap(),
        };
        self.catalog.install(&staged, &record).unwrap()
    }

    fn program(&self) -> Result<String, Diagnostic> {
        let lease = self.catalog.lease(&a())?;
        let path = lease.program().strip_prefix(self.dir.path());
        Ok(path.unwrap().display().to_string())
    }

    fn reopen(&mut self) {
        self.catalog = BinaryCatalog::open(&settings(self.dir.path())).unwrap();
    }

    fn remove(&self, installation: &str, in_use: &InUse) -> Result<RemovedBinaries, Diagnostic> {
        let id = installation.parse().unwrap();
        self.catalog.remove(&a(), Some(&id), in_use)
    }
}

const FIRST: &str = "home/workers/a/0.1.0-1/files/a";
const SECOND: &str = "home/workers/a/0.1.0-2/files/a";

#[test]
fn new_workers_run_the_newest_version_and_a_rollback_selects_another() {
    let mut machine = machine();
    assert_eq!(
        machine.program().unwrap_err().code,
        Code::WorkerBinaryNotFound
    );
    write(&machine.dir.path().join("release/a"), "");
    assert_eq!(machine.program().unwrap(), "release/a");
    machine.install("0.1.0", 1);
    assert_eq!(machine.program().unwrap(), FIRST);
    assert_eq!(machine.install("0.1.0", 2).installation.as_str(), "0.1.0-2");
    assert_eq!(machine.program().unwrap(), SECOND);
    for expected in [FIRST, "release/a"] {
        machine.catalog.roll_back(&a(), None).unwrap();
        assert_eq!(machine.program().unwrap(), expected);
        machine.reopen();
        assert_eq!(
            machine.program().unwrap(),
            expected,
            "also for the next hive"
        );
    }
    let error = machine.catalog.roll_back(&a(), None).unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    let second = "0.1.0-2".parse().unwrap();
    machine.catalog.roll_back(&a(), Some(&second)).unwrap();
    assert_eq!(machine.program().unwrap(), SECOND);
}

#[test]
fn a_version_in_use_is_not_removed() {
    let machine = machine();
    let path = machine.install("0.1.0", 1).binary_path;
    let lease = machine.catalog.lease(&a()).unwrap();
    let error = machine.remove("0.1.0-1", &Vec::new()).unwrap_err();
    assert_eq!(error.code, Code::WorkerBinaryInUse, "a worker is starting");
    drop(lease);
    let user = vec![("w-1".parse().unwrap(), PathBuf::from(&path))];
    let error = machine.remove("0.1.0-1", &user).unwrap_err();
    assert!(error.message.contains("w-1"), "{error}");
    machine.install("0.1.0", 2);
    let removed = machine.remove("0.1.0-2", &user).unwrap();
    assert_eq!(removed.removed.len(), 1);
    assert_eq!(machine.program().unwrap(), FIRST, "the newest that is left");
    machine.remove("0.1.0-1", &Vec::new()).unwrap();
    assert!(!Path::new(&path).exists());
    let error = machine.remove("0.1.0-1", &Vec::new()).unwrap_err();
    assert_eq!(error.code, Code::NotFound);
}

#[test]
fn a_changed_binary_is_refused_and_one_that_was_only_touched_is_not() {
    let machine = machine();
    let path = PathBuf::from(machine.install("0.1.0", 1).binary_path);
    fs::write(&path, "0.1.0").unwrap();
    assert_eq!(machine.program().unwrap(), FIRST, "its hash is the same");
    fs::write(&path, "changed").unwrap();
    let error = machine.program().unwrap_err();
    assert_eq!(error.code, Code::BinaryVerificationFailed);
    let list = machine.catalog.list(Some(&a())).unwrap();
    assert_eq!(list.binaries[0].status, BinaryStatus::Damaged);
}

#[test]
fn a_damaged_database_is_rebuilt_and_unfinished_builds_are_removed() {
    let machine = machine();
    machine.install("0.1.0", 1);
    machine.install("0.1.0", 2);
    let staged = machine.catalog.dirs().staging("half").installation();
    write(&staged.files().join("a"), "half");
    let home = Home::at(machine.dir.path().join("home"));
    let Machine { dir, catalog } = machine;
    drop(catalog);
    fs::write(home.binary_database(), vec![7; 9000]).unwrap();
    let catalog = BinaryCatalog::open(&settings(dir.path())).unwrap();
    let mut machine = Machine { dir, catalog };
    assert_eq!(machine.program().unwrap(), SECOND, "the newest");
    let list = machine.catalog.list(Some(&a())).unwrap();
    assert_eq!(list.binaries.len(), 2);
    assert!(list.notices[0].contains("was damaged"), "{list:?}");
    assert_eq!(machine.catalog.dirs().staged(), Ok(Vec::new()));

    fs::remove_dir_all(machine.dir.path().join("home/workers/a/0.1.0-2")).unwrap();
    machine.reopen();
    assert_eq!(
        machine.program().unwrap(),
        FIRST,
        "what is gone is not current"
    );
}

#[test]
fn what_a_rebuild_cannot_read_is_named() {
    let machine = machine();
    machine.install("0.1.0", 1);
    machine.install("0.2.0", 2);
    let Machine { dir, catalog } = machine;
    drop(catalog);
    let home = Home::at(dir.path().join("home"));
    fs::write(home.binary_database(), vec![7; 9000]).unwrap();
    let of = |version: &str| home.binary_dirs().of(&a(), &version.parse().unwrap());
    fs::write(of("0.1.0-1").record(), "{}").unwrap();
    fs::remove_file(of("0.2.0-1").files().join("a")).unwrap();
    let catalog = BinaryCatalog::open(&settings(dir.path())).unwrap();
    let list = catalog.list(Some(&a())).unwrap();
    assert_eq!(list.binaries, Vec::new());
    let [damaged, incomplete, rebuilt] = &list.notices[..] else {
        panic!("{list:?}");
    };
    let record = of("0.1.0-1").record().display().to_string();
    assert!(damaged.starts_with(&format!("{record} cannot be read and is ignored")));
    assert!(
        incomplete.contains("a 0.2.0-1 is ignored: "),
        "{incomplete}"
    );
    assert!(rebuilt.contains("rebuilt with 0 worker binaries"));
}

#[test]
fn versions_are_compatible_with_the_same_minor_number() {
    let compatible = |a: &str, b: &str| are_compatible(&a.parse().unwrap(), &b.parse().unwrap());
    assert!(compatible("0.1.0", "0.1.9-rc.1"));
    assert!(!compatible("0.1.0", "0.2.0"));
    assert!(!compatible("0.1.0", "1.1.0"));
}
