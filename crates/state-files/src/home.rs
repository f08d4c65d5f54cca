use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use input_validation::{NodeName, WorkerType};

use crate::{
    BinaryDirs, ModelDirs, WorkerDirs,
    errors::{no_home_directory, unusable},
};

/// Base names of the files in this crate. `cargo xtask tidy` rejects them in any other crate.
pub const FILE_NAMES: &[&str] = &[
    "queen.json",
    "hive.json",
    "spawn.json",
    "queen.lock",
    "queen-start.lock",
    "hive.lock",
    "queen.token",
    "node-local.token",
    "queen.log",
    "hive.log",
    "worker.log",
    "beehives.db",
    "queen.db",
    "models.db",
    "workers.db",
    "model.json",
    "binary.json",
    "catalog.json",
    "build.json",
    "pull.lock",
    "ssh-hosts",
    "queen.pem",
    "hive.pem",
    "join.json",
    "node-joined.token",
    "join-attempt.token",
    "policy.rhai",
];

/// The directory that holds all state: `RBEE_HOME`, else `~/.rbee`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// [`queen_token`](Self::queen_token), relative to the home, for messages.
    pub const QUEEN_TOKEN: &str = "keys/queen.token";
    /// Token of a hive that was not started by a queen of another machine, relative to its home,
    /// for messages.
    pub const NODE_TOKEN: &str = "keys/node-local.token";
    /// [`hive_log`](Self::hive_log), relative to the home, for messages.
    pub const HIVE_LOG: &str = "logs/hive.log";

    /// Opens `dir`, or `~/.rbee` if it is `None`. Creates missing directories with mode 0700.
    pub fn open(dir: Option<PathBuf>) -> Result<Self, Diagnostic> {
        let dir = match dir {
            Some(dir) => dir,
            None => env::home_dir().ok_or_else(no_home_directory)?.join(".rbee"),
        };
        let home = Self(std::path::absolute(&dir).map_err(|e| unusable(&dir, &e))?);
        for dir in [
            "",
            "run",
            "run/workers",
            "logs",
            "keys",
            "models",
            "workers",
        ] {
            let dir = home.0.join(dir);
            create_private(&dir).map_err(|e| unusable(&dir, &e))?;
        }
        Ok(home)
    }

    /// The layout below `dir`. Creates nothing.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Directory of the model files.
    pub fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    /// One directory for each model that was fetched.
    pub fn model_dirs(&self) -> ModelDirs {
        ModelDirs::new(self.models())
    }

    /// One directory for each installed version of each worker binary.
    pub fn binary_dirs(&self) -> BinaryDirs {
        BinaryDirs::new(self.0.join("workers"))
    }

    /// The hive's SQLite database of worker binaries.
    pub fn binary_database(&self) -> PathBuf {
        self.0.join("workers.db")
    }

    /// Directory of the newest index of each catalog of packages that was read.
    pub fn package_catalogs(&self) -> PathBuf {
        self.0.join("catalogs")
    }

    /// Log of the last build of a worker binary on this machine.
    pub fn binary_build_log(&self, worker_type: &WorkerType) -> PathBuf {
        self.0.join(format!("logs/build-{worker_type}.log"))
    }

    /// The descriptions of engines: one file `NAME.toml` for each, which the user writes.
    pub fn engines(&self) -> PathBuf {
        self.0.join("engines")
    }

    /// The script of the policy, which the user writes.
    pub fn policy(&self) -> PathBuf {
        self.0.join("policy.rhai")
    }

    /// One directory for each worker of this machine.
    pub fn worker_dirs(&self) -> WorkerDirs {
        WorkerDirs::new(self.0.join("run/workers"))
    }

    /// [`DaemonRecord`](crate::DaemonRecord) of the running queen.
    pub fn queen_record(&self) -> PathBuf {
        self.0.join("run/queen.json")
    }

    /// [`DaemonRecord`](crate::DaemonRecord) of the running hive.
    pub fn hive_record(&self) -> PathBuf {
        self.0.join("run/hive.json")
    }

    /// Lock that the running queen holds.
    pub fn queen_lock(&self) -> PathBuf {
        self.0.join("run/queen.lock")
    }

    /// Lock under which keepers start and stop the queen.
    pub fn queen_start_lock(&self) -> PathBuf {
        self.0.join("run/queen-start.lock")
    }

    /// Lock that the running hive holds.
    pub fn hive_lock(&self) -> PathBuf {
        self.0.join("run/hive.lock")
    }

    /// Token of the queen's control endpoints.
    pub fn queen_token(&self) -> PathBuf {
        self.0.join(Self::QUEEN_TOKEN)
    }

    /// Token of a node: its hive and its workers accept it, and they send it to the queen.
    pub fn node_token(&self, node: &NodeName) -> PathBuf {
        self.0.join(format!("keys/node-{node}.token"))
    }

    /// Certificate of the queen and its key, in the format PEM.
    pub fn queen_certificate(&self) -> PathBuf {
        self.0.join("keys/queen.pem")
    }

    /// Certificate of a hive that listens on an address of its machine, and its key, in the format
    /// PEM.
    pub fn hive_certificate(&self) -> PathBuf {
        self.0.join("keys/hive.pem")
    }

    /// [`JoinRecord`](crate::JoinRecord) of a hive that has joined a queen.
    pub fn join_record(&self) -> PathBuf {
        self.0.join("join.json")
    }

    /// Token of the node that this machine is for the queen that its hive has joined.
    pub fn joined_token(&self) -> PathBuf {
        self.0.join("keys/node-joined.token")
    }

    /// Random text that a hive sends while it joins, until it has the response.
    pub fn join_attempt(&self) -> PathBuf {
        self.0.join("keys/join-attempt.token")
    }

    /// Host keys of SSH servers that the user accepted for rbee, in the format of sshd(8).
    pub fn ssh_hosts(&self) -> PathBuf {
        self.0.join("keys/ssh-hosts")
    }

    /// Directory of the sockets of the queen's SSH connections.
    pub fn ssh_sockets(&self) -> PathBuf {
        self.0.join("run/ssh")
    }

    /// Port of a node's loopback interface that leads to the queen: in the home of the queen for
    /// nodes that it reaches by SSH, else in that of the hive.
    pub fn queen_port_on(&self, node: &NodeName) -> PathBuf {
        self.0.join(format!("run/queen-port-{node}"))
    }

    /// Log of a queen that the keeper started.
    pub fn queen_log(&self) -> PathBuf {
        self.0.join("logs/queen.log")
    }

    /// Log of a hive that the queen started.
    pub fn hive_log(&self) -> PathBuf {
        self.0.join(Self::HIVE_LOG)
    }

    /// Log of the last build of rbee on a node.
    pub fn build_log(&self) -> PathBuf {
        self.0.join("logs/build.log")
    }

    /// The queen's SQLite database of nodes.
    pub fn node_database(&self) -> PathBuf {
        self.0.join("beehives.db")
    }

    /// The queen's SQLite database of deployments.
    pub fn queen_database(&self) -> PathBuf {
        self.0.join("queen.db")
    }

    /// The hive's SQLite database of models.
    pub fn model_database(&self) -> PathBuf {
        self.0.join("models.db")
    }
}

fn create_private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _};

    use diagnostics::Code;

    use super::*;

    #[test]
    fn directories_are_private_to_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().join("state"))).unwrap();
        let token = home.queen_token();
        for dir in [home.path(), token.parent().unwrap(), &home.models()] {
            let mode = fs::metadata(dir).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", dir.display());
        }
    }

    #[test]
    fn rejects_a_home_that_is_a_file_and_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Home::open(Some(file.path().to_owned())).unwrap_err();
        assert_eq!(error.code, Code::StateUnusable);
        assert!(error.message.contains(file.path().to_str().unwrap()));
    }

    #[test]
    fn files_stay_where_earlier_releases_put_them() {
        let home = Home::at("/h");
        let node: NodeName = "gpu-box".parse().unwrap();
        for (path, expected) in [
            (home.queen_record(), "/h/run/queen.json"),
            (home.hive_record(), "/h/run/hive.json"),
            (home.queen_lock(), "/h/run/queen.lock"),
            (home.queen_start_lock(), "/h/run/queen-start.lock"),
            (home.hive_lock(), "/h/run/hive.lock"),
            (home.queen_token(), "/h/keys/queen.token"),
            (
                home.node_token(&NodeName::local()),
                "/h/keys/node-local.token",
            ),
            (home.node_token(&node), "/h/keys/node-gpu-box.token"),
            (home.ssh_hosts(), "/h/keys/ssh-hosts"),
            (home.queen_certificate(), "/h/keys/queen.pem"),
            (home.hive_certificate(), "/h/keys/hive.pem"),
            (home.join_record(), "/h/join.json"),
            (home.joined_token(), "/h/keys/node-joined.token"),
            (home.join_attempt(), "/h/keys/join-attempt.token"),
            (home.ssh_sockets(), "/h/run/ssh"),
            (home.queen_port_on(&node), "/h/run/queen-port-gpu-box"),
            (home.queen_log(), "/h/logs/queen.log"),
            (home.hive_log(), "/h/logs/hive.log"),
            (home.build_log(), "/h/logs/build.log"),
            (home.node_database(), "/h/beehives.db"),
            (home.queen_database(), "/h/queen.db"),
            (home.model_database(), "/h/models.db"),
            (home.binary_database(), "/h/workers.db"),
            (
                home.binary_build_log(&"llm-cpu-worker-rbee".parse().unwrap()),
                "/h/logs/build-llm-cpu-worker-rbee.log",
            ),
            (
                home.binary_dirs()
                    .of(&"a".parse().unwrap(), &"0.1.0-2".parse().unwrap())
                    .record(),
                "/h/workers/a/0.1.0-2/binary.json",
            ),
        ] {
            assert_eq!(path, Path::new(expected));
        }
    }

    #[test]
    fn every_file_name_is_listed_for_tidy() {
        let home = Home::at("/h");
        let worker = home.worker_dirs().of(&"w-1".parse().unwrap());
        let model = home.model_dirs().named("hf/a");
        let used: BTreeSet<String> = [
            home.queen_record(),
            home.hive_record(),
            home.queen_lock(),
            home.queen_start_lock(),
            home.hive_lock(),
            home.queen_token(),
            home.node_token(&NodeName::local()),
            home.queen_log(),
            home.hive_log(),
            home.node_database(),
            home.queen_database(),
            home.model_database(),
            home.binary_database(),
            home.binary_dirs()
                .of(&"a".parse().unwrap(), &"1".parse().unwrap())
                .record(),
            home.binary_dirs()
                .of(&"a".parse().unwrap(), &"1".parse().unwrap())
                .package(),
            home.binary_dirs().staging("1").record(),
            model.record(),
            model.lock(),
            worker.spawn_record(),
            worker.log(),
            home.ssh_hosts(),
            home.queen_certificate(),
            home.hive_certificate(),
            home.join_record(),
            home.joined_token(),
            home.join_attempt(),
            home.policy(),
        ]
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
        let listed = FILE_NAMES.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(used, listed);
    }
}
