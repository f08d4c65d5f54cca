//! File systems that are too small. They are mounted where only the processes of the scenario
//! see them, which needs the permission to create a mount namespace.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bdd::World;
use cucumber::{given, when};
use tokio::{process::Command, sync::oneshot, task::JoinHandle, time::interval};

/// Mounts a file system with options (`$1`) over a directory (`$2`), and runs the rest.
const MOUNT: &str = r#"mkdir -p "$2" && mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@""#;

#[given(regex = r"^a running queen whose models are on a disk of (\d+) bytes$")]
async fn small_disk(world: &mut World, bytes: u64) {
    queen_with_models_on(world, &format!("size={bytes}")).await;
}

#[given("a running queen whose models are on a read-only disk")]
async fn read_only_disk(world: &mut World) {
    queen_with_models_on(world, "ro").await;
}

async fn queen_with_models_on(world: &mut World, options: &str) {
    let words = ["--port", "0", "--hive-port", "0", "--worker-ports", "0"];
    let queen = world.command("queen-rbee", &words.map(str::to_owned));
    let queen = queen.as_std();
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        MOUNT,
        "sh",
    ]);
    command.arg(options).arg(world.files().models());
    command.arg(queen.get_program()).args(queen.get_args());
    for (name, value) in queen.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(world.dir());
    let running = world.start_command(&mut command);
    world.running.insert("queen".into(), running);
    world.await_daemon("queen").await;
    world.await_daemon("hive").await;
}

/// The directory of the models, as the hive sees it.
pub(super) fn models(world: &World) -> PathBuf {
    let hive = world.daemon("hive").expect("a hive is running");
    let root = PathBuf::from(format!("/proc/{}/root", hive.process.pid));
    root.join(world.files().models().strip_prefix("/").unwrap())
}

/// All files below a directory.
pub(super) fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.to_str().unwrap().to_owned());
        }
    }
    found
}

/// Another program that uses all space of the disk, also what the hive frees meanwhile.
#[derive(Default)]
struct Filler(Option<JoinHandle<()>>);

#[when("the disk of the models is filled")]
async fn fill(world: &mut World) {
    let path = models(world).join("other");
    let mut file = fs::File::create(path).unwrap();
    let (filled, is_full) = oneshot::channel();
    let filler = tokio::spawn(async move {
        let mut filled = Some(filled);
        let mut ticks = interval(Duration::from_millis(2));
        loop {
            while file.write_all(&[0; 4096]).is_ok() {}
            filled.take().map(|filled| filled.send(()));
            ticks.tick().await;
        }
    });
    is_full.await.unwrap();
    world.get::<Filler>().0 = Some(filler);
}

#[when("the disk of the models has space again")]
async fn free(world: &mut World) {
    let filler = world.get::<Filler>().0.take().expect("the disk was filled");
    filler.abort();
    assert!(filler.await.is_err(), "it was aborted");
    fs::remove_file(models(world).join("other")).unwrap();
}
