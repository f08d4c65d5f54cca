use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, HashMap},
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use cucumber::gherkin::Step;
use daemon_shell::{ProcessIdentity, Token};
use input_validation::NodeName;
use queen_contract::QueenClient;
use state_files::{DaemonRecord, Home};
use tempfile::TempDir;
use tokio::{process::Command, task::JoinSet};

use crate::{
    Finished, HttpResponse, ReservedPort, Running, TakenPort, binary, eventually, processes::Family,
};

/// Maximum duration of a command in the foreground.
const COMMAND_LIMIT: Duration = Duration::from_secs(150);

/// The state of one scenario: its own home, its processes, and the last results. Crates keep
/// their own state in it by type ([`World::get`]).
#[derive(Debug, cucumber::World)]
#[world(init = Self::new)]
pub struct World {
    dir: TempDir,
    family: Family,
    /// The last command that has exited.
    pub finished: Option<Finished>,
    /// Commands in the background, by name.
    pub running: HashMap<String, Running>,
    /// The last HTTP response.
    pub response: Option<HttpResponse>,
    /// Values that steps note for later steps, by name.
    pub noted: HashMap<String, String>,
    /// Additional environment of all commands.
    pub environment: Vec<(String, String)>,
    /// Processes of daemons that were signalled, by name.
    pub signalled: HashMap<String, ProcessIdentity>,
    /// Ports that are reserved until the end of the scenario.
    pub reserved_ports: Vec<ReservedPort>,
    /// Ports that are taken until the end of the scenario.
    pub taken_ports: Vec<TakenPort>,
    tasks: JoinSet<()>,
    extensions: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("rbee-bdd-")
            .tempdir()
            .unwrap();
        std::fs::write(dir.path().join("ssh_config"), "").unwrap();
        Self {
            dir,
            family: Family::new(),
            finished: None,
            running: HashMap::new(),
            response: None,
            noted: HashMap::new(),
            environment: Vec::new(),
            signalled: HashMap::new(),
            reserved_ports: Vec::new(),
            taken_ports: Vec::new(),
            tasks: JoinSet::new(),
            extensions: HashMap::new(),
        }
    }

    /// Returns the state of this type, created on first use.
    pub fn get<T: Any + Send + Sync + Default>(&mut self) -> &mut T {
        self.extensions
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::new(T::default()))
            .downcast_mut()
            .unwrap()
    }

    /// Directory of the scenario; removed at its end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// SSH configuration of the scenario, so that the user's has no effect.
    pub fn ssh_config(&self) -> PathBuf {
        self.dir().join("ssh_config")
    }

    /// `RBEE_HOME` of the scenario.
    pub fn home(&self) -> PathBuf {
        self.dir().join("home")
    }

    /// Spawns a task. The scenario fails at its end if the task has panicked.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Aborts the tasks of the scenario. Panics if one of them has panicked.
    pub(crate) async fn check_tasks(&mut self) {
        self.tasks.abort_all();
        let mut panics = Vec::new();
        while let Some(result) = self.tasks.join_next().await {
            match result {
                Err(error) if error.is_panic() => panics.push(error.to_string()),
                _ => {}
            }
        }
        assert!(panics.is_empty(), "tasks of the scenario: {panics:?}");
    }

    /// Returns a command that runs an rbee binary in the scenario's home with free ports.
    pub fn command(&self, name: &str, args: &[String]) -> Command {
        let mut command = Command::new(binary(name));
        command
            .args(args)
            .current_dir(self.dir())
            .env("RBEE_HOME", self.home())
            .env("RBEE_QUEEN_PORT", "0")
            .env("RBEE_HIVE_PORT", "0")
            .env("RBEE_WORKER_PORTS", "0")
            .env("NO_COLOR", "1")
            .env("RBEE_SSH_CONFIG", self.ssh_config())
            .env_remove("RBEE_QUEEN_URL")
            .envs(self.environment.iter().cloned());
        self.family.adopt(&mut command);
        command
    }

    /// Environment that a process needs if it is started without [`World::command`].
    pub fn inherited(&self) -> BTreeMap<String, String> {
        let (name, value) = self.family.variable();
        let mut all: BTreeMap<String, String> = self.environment.iter().cloned().collect();
        all.insert(name.to_owned(), value.to_owned());
        all
    }

    /// Runs a command line until the process exits.
    pub async fn run(&mut self, line: &str) -> &Finished {
        let running = self.start(line);
        self.finished = Some(running.finish(COMMAND_LIMIT).await);
        self.finished.as_ref().unwrap()
    }

    /// Starts a command line in the background.
    pub fn start(&self, line: &str) -> Running {
        let words = shell_words::split(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let (name, args) = words.split_first().expect("a command line");
        let args: Vec<String> = args.iter().map(|a| self.fill(a)).collect();
        Running::start(&mut self.command(name, &args))
    }

    /// Starts a command in the background.
    pub fn start_command(&self, command: &mut Command) -> Running {
        Running::start(command)
    }

    /// Replaces `{home}`, `{dir}` and the name of every noted value, such as `{port}`.
    pub fn fill(&self, text: &str) -> String {
        let mut text = text
            .replace("{home}", &self.home().to_string_lossy())
            .replace("{dir}", &self.dir().to_string_lossy());
        for (name, value) in &self.noted {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    /// The last command that has exited.
    pub fn last(&self) -> &Finished {
        self.finished.as_ref().expect("a command has run")
    }

    /// The last HTTP response.
    pub fn last_response(&self) -> &HttpResponse {
        self.response.as_ref().expect("a request was sent")
    }

    /// Paths in the scenario's home.
    pub fn files(&self) -> Home {
        Home::at(self.home())
    }

    /// Path of the record of a daemon (`queen`, `hive`).
    pub fn daemon_record(&self, name: &str) -> PathBuf {
        match name {
            "queen" => self.files().queen_record(),
            "hive" => self.files().hive_record(),
            other => panic!("no daemon has the name {other}"),
        }
    }

    /// Record of a daemon (`queen`, `hive`); `None` if the daemon is not running.
    pub fn daemon(&self, name: &str) -> Option<DaemonRecord> {
        DaemonRecord::read_alive(&self.daemon_record(name)).unwrap()
    }

    /// Waits until a daemon is running.
    pub async fn await_daemon(&self, name: &str) -> DaemonRecord {
        eventually(Duration::from_secs(20), || async {
            let stderr = || self.running.get(name).map(Running::stderr);
            let missing = || format!("no {name} is running: {}", stderr().unwrap_or_default());
            self.daemon(name).ok_or_else(missing)
        })
        .await
    }

    /// Token of the hive and its workers.
    pub fn node_token(&self) -> String {
        let token = Token::load(&self.files().node_token(&NodeName::local())).unwrap();
        token.expose().to_owned()
    }

    /// Client of the queen, with the control token.
    pub fn queen(&self) -> QueenClient {
        let record = self.daemon("queen").expect("a queen is running");
        let token = Token::load(&self.files().queen_token()).unwrap();
        QueenClient::new(&record.url, Some(token.expose().to_owned())).unwrap()
    }

    /// Running processes of the scenario, with their command lines.
    pub fn processes(&self) -> HashMap<ProcessIdentity, String> {
        self.family.members()
    }

    /// Running processes of one binary.
    pub fn processes_of(&self, name: &str) -> Vec<ProcessIdentity> {
        let path = binary(name);
        self.processes()
            .into_iter()
            .filter(|(_, line)| line.split(' ').next().map(Path::new) == Some(path.as_path()))
            .map(|(identity, _)| identity)
            .collect()
    }

    /// Kills a process of the scenario and waits until it has exited.
    pub async fn kill(&self, identity: ProcessIdentity) {
        self.family.kill(identity).await;
    }

    /// Waits until all processes of the scenario have exited.
    pub async fn nothing_left(&self) {
        self.family.gone(Duration::from_secs(20)).await;
    }
}

/// Returns the rows of a step's table. Panics if it has none: the step would check nothing.
pub fn table(step: &Step) -> &[Vec<String>] {
    let rows = step.table.as_ref().map_or(&[][..], |table| &table.rows);
    assert!(!rows.is_empty(), "the step `{}` needs a table", step.value);
    rows
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    async fn panics(mut world: World) -> bool {
        let checked = std::panic::AssertUnwindSafe(world.check_tasks()).catch_unwind();
        checked.await.is_err()
    }

    #[tokio::test]
    async fn a_panic_in_any_task_fails_the_scenario() {
        let mut world = World::new();
        world.spawn(pending());
        world.spawn(async {});
        assert!(!panics(world).await);

        let mut world = World::new();
        let (started, start) = oneshot::channel();
        world.spawn(async move {
            started.send(()).unwrap();
            panic!("on purpose");
        });
        world.spawn(pending());
        start.await.unwrap();
        assert!(panics(world).await, "a task that has finished");

        /// Panics when its task is aborted.
        struct PanicOnDrop;
        impl Drop for PanicOnDrop {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let mut world = World::new();
        let (started, start) = oneshot::channel();
        world.spawn(async move {
            let _guard = PanicOnDrop;
            started.send(()).unwrap();
            pending::<()>().await;
        });
        start.await.unwrap();
        assert!(panics(world).await, "a task that is running");
    }
}
