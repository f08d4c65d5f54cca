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
    Answer, Finished, ReservedPort, Running, TakenPort, binary, eventually, processes::Family,
};

/// Longest a command in the foreground may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The state of one scenario: a home of its own, its processes, and what was seen last.
/// Crates keep their own state in it by type ([`World::get`]).
#[derive(Debug, cucumber::World)]
#[world(init = Self::new)]
pub struct World {
    dir: TempDir,
    family: Family,
    /// The last command that ended.
    pub finished: Option<Finished>,
    /// Commands in the background, by name.
    pub running: HashMap<String, Running>,
    /// The last HTTP answer.
    pub answer: Option<Answer>,
    /// Values that steps remember for later steps, by name.
    pub noted: HashMap<String, String>,
    /// Extra environment for the commands of this scenario.
    pub environment: Vec<(String, String)>,
    /// Processes of daemons that were signalled, by name.
    pub signalled: HashMap<String, ProcessIdentity>,
    /// Ports that stay reserved until the end of the scenario.
    pub reserved_ports: Vec<ReservedPort>,
    /// Ports that stay taken until the end of the scenario.
    pub taken_ports: Vec<TakenPort>,
    tasks: JoinSet<()>,
    extensions: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::Builder::new()
                .prefix("rbee-bdd-")
                .tempdir()
                .unwrap(),
            family: Family::new(),
            finished: None,
            running: HashMap::new(),
            answer: None,
            noted: HashMap::new(),
            environment: Vec::new(),
            signalled: HashMap::new(),
            reserved_ports: Vec::new(),
            taken_ports: Vec::new(),
            tasks: JoinSet::new(),
            extensions: HashMap::new(),
        }
    }

    /// A crate's own state of this type, made on first use.
    pub fn get<T: Any + Send + Sync + Default>(&mut self) -> &mut T {
        self.extensions
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::new(T::default()))
            .downcast_mut()
            .unwrap()
    }

    /// A folder of this scenario; gone at its end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `RBEE_HOME` of this scenario.
    pub fn home(&self) -> PathBuf {
        self.dir().join("home")
    }

    /// Runs a task of the scenario. A panic in it fails the scenario at its end.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Stops the tasks of the scenario. Panics if one of them panicked, finished or not.
    pub(crate) async fn check_tasks(&mut self) {
        self.tasks.abort_all();
        let mut panics = Vec::new();
        while let Some(result) = self.tasks.join_next().await {
            match result {
                Err(error) if error.is_panic() => panics.push(error.to_string()),
                _ => {}
            }
        }
        assert!(panics.is_empty(), "tasks of this scenario: {panics:?}");
    }

    /// A command of one of the project's programs: this scenario's home, any free port.
    pub fn command(&self, program: &str, args: &[String]) -> Command {
        let mut command = Command::new(binary(program));
        command
            .args(args)
            .current_dir(self.dir())
            .env("RBEE_HOME", self.home())
            .env("RBEE_QUEEN_PORT", "0")
            .env("RBEE_HIVE_PORT", "0")
            .env("RBEE_WORKER_PORTS", "0")
            .env("NO_COLOR", "1")
            .env_remove("RBEE_QUEEN_URL")
            .envs(self.environment.iter().cloned());
        self.family.adopt(&mut command);
        command
    }

    /// What every program of this scenario inherits, for those that are started otherwise.
    pub fn inherited(&self) -> BTreeMap<String, String> {
        let (name, value) = self.family.variable();
        let mut all: BTreeMap<String, String> = self.environment.iter().cloned().collect();
        all.insert(name.to_owned(), value.to_owned());
        all
    }

    /// Runs a command line to its end.
    pub async fn run(&mut self, line: &str) -> &Finished {
        let running = self.start(line);
        self.finished = Some(running.finish(COMMAND_LIMIT).await);
        self.finished.as_ref().unwrap()
    }

    /// Starts a command line.
    pub fn start(&self, line: &str) -> Running {
        let words = shell_words::split(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let (program, args) = words.split_first().expect("a command line");
        let args: Vec<String> = args.iter().map(|a| self.fill(a)).collect();
        Running::start(&mut self.command(program, &args))
    }

    /// Text with `{home}`, `{dir}` and every noted `{name}` filled in.
    pub fn fill(&self, text: &str) -> String {
        let mut text = text
            .replace("{home}", &self.home().to_string_lossy())
            .replace("{dir}", &self.dir().to_string_lossy());
        for (name, value) in &self.noted {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    /// The command that ended last.
    pub fn last(&self) -> &Finished {
        self.finished.as_ref().expect("no command was run")
    }

    /// The HTTP answer that came last.
    pub fn last_answer(&self) -> &Answer {
        self.answer.as_ref().expect("no HTTP call was made")
    }

    /// The files in the home.
    pub fn files(&self) -> Home {
        Home::at(self.home())
    }

    /// The record file of a daemon (`queen`, `hive`).
    pub fn daemon_record(&self, name: &str) -> PathBuf {
        match name {
            "queen" => self.files().queen_record(),
            "hive" => self.files().hive_record(),
            other => panic!("no daemon is named {other}"),
        }
    }

    /// The record of a living daemon (`queen`, `hive`) of this home.
    pub fn daemon(&self, name: &str) -> Option<DaemonRecord> {
        DaemonRecord::read_alive(&self.daemon_record(name)).unwrap()
    }

    /// The record of a daemon, once it is there.
    pub async fn await_daemon(&self, name: &str) -> DaemonRecord {
        eventually(Duration::from_secs(20), || async {
            let said = || self.running.get(name).map(Running::stderr);
            let missing = || format!("no {name} runs here: {}", said().unwrap_or_default());
            self.daemon(name).ok_or_else(missing)
        })
        .await
    }

    /// The token of this home's hive and workers.
    pub fn node_token(&self) -> String {
        let token = Token::load(&self.files().node_token(&NodeName::local())).unwrap();
        token.expose().to_owned()
    }

    /// A client of this home's queen, with the control token.
    pub fn queen(&self) -> QueenClient {
        let record = self.daemon("queen").expect("no queen runs here");
        let token = Token::load(&self.files().queen_token()).unwrap();
        QueenClient::new(&record.url, Some(token.expose().to_owned())).unwrap()
    }

    /// Processes of this scenario that live, with their command lines.
    pub fn processes(&self) -> HashMap<ProcessIdentity, String> {
        self.family.members()
    }

    /// The living processes of one program.
    pub fn processes_of(&self, program: &str) -> Vec<ProcessIdentity> {
        let path = binary(program);
        self.processes()
            .into_iter()
            .filter(|(_, line)| line.split(' ').next().map(Path::new) == Some(path.as_path()))
            .map(|(identity, _)| identity)
            .collect()
    }

    /// Kills a process of this scenario and waits until it is gone.
    pub async fn kill(&self, identity: ProcessIdentity) {
        self.family.kill(identity).await;
    }

    /// Waits until no process of this scenario is left.
    pub async fn nothing_left(&self) {
        self.family.gone(Duration::from_secs(20)).await;
    }
}

/// The rows of a step's table. Panics if there are none, because the step would check nothing.
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
    async fn a_panic_of_any_task_fails_the_scenario() {
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
        assert!(panics(world).await, "a task that panicked");

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
        assert!(panics(world).await, "a task that was not finished");
    }
}
