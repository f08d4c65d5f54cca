//! Recipes and builds.

use std::{
    fs, mem,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use bdd::{World, eventually, within};
use cucumber::{gherkin::Step, given, then, when};
use diagnostics::{Code, Diagnostic};
use file_transfer::TransferSettings;
use package_builder::{Approval, BuildEvent, BuildRequest, BuiltPackage, PackageBuilder, Settings};
use pkgbuild::Architecture;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub type BuildResult = Result<BuiltPackage, Diagnostic>;

/// The build of a scenario.
#[derive(Default)]
pub struct BuildState {
    text: String,
    settings: Settings,
    events: Arc<Mutex<Vec<BuildEvent>>>,
    cancel: CancellationToken,
    running: Option<JoinHandle<BuildResult>>,
    result: Option<BuildResult>,
    builds: usize,
}

impl BuildState {
    pub fn built(&self) -> &BuiltPackage {
        match self.result.as_ref().expect("the package was built") {
            Ok(package) => package,
            Err(error) => panic!("{error:#?}\nevents: {:#?}", self.events()),
        }
    }

    pub fn events(&self) -> Vec<BuildEvent> {
        self.events.lock().unwrap().clone()
    }

    fn error(&self) -> &Diagnostic {
        let result = self.result.as_ref().expect("the package was built");
        result.as_ref().expect_err("the build fails")
    }
}

/// Replaces the names of values, and `{sha256 of NAME}` by the checksum of a file beside the
/// recipe or on the file server.
fn fill(world: &World, text: &str) -> String {
    const MARK: &str = "{sha256 of ";
    let mut text = world.fill(text);
    while let Some(at) = text.find(MARK) {
        let rest = &text[at + MARK.len()..];
        let name = rest[..rest.find('}').unwrap()].to_owned();
        let path = world.dir().join("recipe").join(&name);
        let sum = world.noted.get(&format!("sha256 of {name}"));
        let sum = sum
            .cloned()
            .unwrap_or_else(|| hex::encode(Sha256::digest(fs::read(path).unwrap())));
        text = text.replace(&format!("{MARK}{name}}}"), &sum);
    }
    text
}

#[given("the recipe")]
fn recipe(world: &mut World, step: &Step) {
    let text = fill(world, step.docstring.as_deref().expect("a text"));
    world.get::<BuildState>().text = text;
}

/// A recipe with the values that all need, and a function `package` if it has none.
#[given("a recipe of tool with")]
fn recipe_of_tool(world: &mut World, step: &Step) {
    let marker = format!("build-in-{}", world.dir().file_name().unwrap().display());
    world.noted.insert("marker".to_owned(), marker);
    let text = fill(world, step.docstring.as_deref().expect("a text"));
    let mut recipe = format!("pkgname=tool\npkgver=1\npkgrel=1\narch=(any)\n{text}\n");
    if !text.contains("package() ") {
        recipe.push_str("package() { echo x > \"$pkgdir/file\"; }\n");
    }
    world.get::<BuildState>().text = recipe;
}

#[given(
    regex = r"^builds may use (\d+) (processes|MiB of memory|MiB of disk|files|MiB of log|second)$"
)]
fn limit(world: &mut World, amount: u64, unit: String) {
    let limits = &mut world.get::<BuildState>().settings.limits;
    match unit.as_str() {
        "processes" => limits.processes = amount,
        "MiB of memory" => limits.memory = amount << 20,
        "MiB of disk" => limits.disk = amount << 20,
        "files" => limits.files = amount,
        "MiB of log" => limits.log = amount << 20,
        _ => limits.step = Duration::from_secs(amount),
    }
}

#[given("builds may use the Rust toolchain of this user")]
fn rust(world: &mut World) {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = String::from_utf8(output.unwrap().stdout).unwrap();
    world.get::<BuildState>().settings.toolchains = vec![sysroot.trim().into()];
}

#[given(regex = r"^the GPU of this machine has the compute capability (\S+)$")]
fn gpu_generation(world: &mut World, capability: String) {
    world.get::<BuildState>().settings.compute_capability = Some(capability);
}

#[given("bubblewrap does not work on this machine")]
fn no_bubblewrap(world: &mut World) {
    use std::os::unix::fs::PermissionsExt as _;
    let toolchain = world.dir().join("toolchain");
    let program = toolchain.join("bin/bwrap");
    fs::create_dir_all(toolchain.join("bin")).unwrap();
    fs::write(
        &program,
        "#!/bin/sh\necho no permission for namespaces >&2\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    world.get::<BuildState>().settings.toolchains = vec![toolchain];
}

/// How a build is requested.
#[derive(Default)]
struct Ask {
    package: Option<String>,
    allows_unverified: bool,
    is_approved: Approved,
    /// The phase at whose beginning the build is cancelled.
    last: Option<String>,
}

#[derive(Default, PartialEq)]
enum Approved {
    #[default]
    Text,
    Other,
    Nothing,
}

fn work(world: &World) -> PathBuf {
    world.dir().join("builds/work")
}

fn log(world: &World) -> PathBuf {
    world.dir().join("builds/log")
}

fn start(world: &mut World, ask: Ask) {
    let (work, log) = (work(world), log(world));
    let local_files = Some(world.dir().join("recipe"));
    let private = vec![world.home()];
    let state = world.get::<BuildState>();
    let text = state.text.clone().into_bytes();
    let request = BuildRequest {
        approval: match ask.is_approved {
            Approved::Text => Some(Approval::of(&text)),
            Approved::Other => Some(Approval::of(b"another")),
            Approved::Nothing => None,
        },
        text,
        local_files,
        package: ask.package,
        machine: Architecture::X86_64,
        allows_unverified: ask.allows_unverified,
        work,
        log,
    };
    let builder = PackageBuilder::new(Settings {
        private,
        transfer: TransferSettings {
            reserve_bytes: 0,
            first_delay: Duration::from_millis(1),
            proxies: false,
            ..TransferSettings::default()
        },
        ..state.settings.clone()
    });
    state.builds += 1;
    state.cancel = CancellationToken::new();
    state.events = Arc::default();
    let (events, cancel) = (Arc::clone(&state.events), state.cancel.clone());
    state.running = Some(tokio::spawn(async move {
        let token = cancel.clone();
        let listener = Arc::new(move |event| {
            if let BuildEvent::Phase(phase) = &event
                && Some(phase.to_string()) == ask.last
            {
                token.cancel();
            }
            events.lock().unwrap().push(event);
        });
        builder.build(request, listener, &cancel).await
    }));
}

async fn build(world: &mut World, ask: Ask) {
    let old = work(world);
    if old.exists() {
        fs::remove_dir_all(old).unwrap();
    }
    start(world, ask);
    let state = world.get::<BuildState>();
    let running = state.running.take().unwrap();
    let limit = Duration::from_secs(180);
    state.result = Some(within(limit, "the build", running).await.unwrap());
}

#[when("the package is built")]
async fn built(world: &mut World) {
    build(world, Ask::default()).await;
}

#[when(regex = r"^the package (\S+) is built$")]
async fn one_built(world: &mut World, name: String) {
    let package = Some(name);
    build(
        world,
        Ask {
            package,
            ..Ask::default()
        },
    )
    .await;
}

#[when("the package is built, and files without a checksum are permitted")]
async fn built_unverified(world: &mut World) {
    let allows_unverified = true;
    build(
        world,
        Ask {
            allows_unverified,
            ..Ask::default()
        },
    )
    .await;
}

#[when("the package is built without approval")]
async fn built_without_approval(world: &mut World) {
    let is_approved = Approved::Nothing;
    build(
        world,
        Ask {
            is_approved,
            ..Ask::default()
        },
    )
    .await;
}

#[when("the package is built with the approval of another text")]
async fn built_with_another(world: &mut World) {
    let is_approved = Approved::Other;
    build(
        world,
        Ask {
            is_approved,
            ..Ask::default()
        },
    )
    .await;
}

#[when("the build is started")]
fn started(world: &mut World) {
    start(world, Ask::default());
}

#[when("the build is started, and files without a checksum are permitted")]
fn started_unverified(world: &mut World) {
    let allows_unverified = true;
    start(
        world,
        Ask {
            allows_unverified,
            ..Ask::default()
        },
    );
}

#[when(regex = r"^the build is started, and is cancelled when the phase (\w+) begins$")]
fn started_until(world: &mut World, phase: String) {
    let last = Some(phase);
    start(
        world,
        Ask {
            last,
            ..Ask::default()
        },
    );
}

#[then(regex = r"^the last phase was (\w+)$")]
fn last_phase(world: &mut World, expected: String) {
    let events = world.get::<BuildState>().events();
    let last = events.iter().rev().find_map(|event| match event {
        BuildEvent::Phase(phase) => Some(phase.to_string()),
        _ => None,
    });
    assert_eq!(last, Some(expected));
}

#[when(regex = r"^the build has written into (\S+)$")]
async fn has_written(world: &mut World, path: String) {
    let path = work(world).join(path);
    eventually(Duration::from_secs(60), || async {
        let length = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        (length > 0).then_some(()).ok_or("nothing is written")
    })
    .await;
}

#[when(regex = r"^the build reads (\S+)$")]
async fn reads(world: &mut World, path: String) {
    let path = work(world).join(path);
    eventually(Duration::from_secs(60), || async {
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        open.any(|file| file == path)
            .then_some(())
            .ok_or("it is not open")
    })
    .await;
}

#[when("the build is cancelled")]
fn cancelled(world: &mut World) {
    world.get::<BuildState>().cancel.cancel();
}

#[when("the caller of the build goes away")]
fn abandoned(world: &mut World) {
    world.get::<BuildState>().running.take().unwrap().abort();
}

#[then("the build ends within 2 s as cancelled")]
async fn ends(world: &mut World) {
    let running = world.get::<BuildState>().running.take().unwrap();
    let limit = Duration::from_secs(2);
    let result = within(limit, "the end of the build", running)
        .await
        .unwrap();
    assert_eq!(result.unwrap_err().code, Code::Cancelled);
}

#[then("the build fails")]
fn fails(world: &mut World) {
    world.get::<BuildState>().error();
}

#[then(regex = r"^the build fails with (\S+)$")]
fn fails_with(world: &mut World, code: String) {
    let error = world.get::<BuildState>().error();
    assert_eq!(error.code.as_str(), code, "{error:#?}");
}

#[then(regex = r"^the error of the build contains `(.*)`$")]
fn error_contains(world: &mut World, text: String) {
    let error = world.get::<BuildState>().error();
    let shown = format!("{error}\n{}", error.hint.as_deref().unwrap_or_default());
    assert!(shown.contains(&text), "{error:#?}");
}

#[then("the error of the build contains the SHA-256 of the recipe")]
fn error_has_digest(world: &mut World) {
    let state = world.get::<BuildState>();
    let digest = hex::encode(Sha256::digest(&state.text));
    assert!(state.error().message.contains(&digest), "{}", state.error());
    assert!(state.error().hint.as_ref().unwrap().contains(&digest));
}

#[then(regex = r"^the log of the build (contains|does not contain) `(.*)`$")]
fn log_contains(world: &mut World, verb: String, text: String) {
    let log = fs::read_to_string(log(world)).unwrap();
    assert_eq!(log.contains(&text), verb == "contains", "{log}");
}

#[then(regex = r"^the file `(.*)` contains `(.*)`$")]
fn file_contains(world: &mut World, path: String, text: String) {
    let content = fs::read_to_string(world.fill(&path)).unwrap();
    assert_eq!(content.trim(), text);
}

#[then("nothing of the build is left")]
async fn nothing_left(world: &mut World) {
    let work = work(world);
    eventually(Duration::from_secs(5), || async {
        if work.exists() {
            Err("the work folder exists")
        } else {
            Ok(())
        }
    })
    .await;
    let names = fs::read_dir(world.dir().join("builds"))
        .into_iter()
        .flatten();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == "log"), "{names:?}");
}

#[then("neither log nor error nor events contain a control character")]
fn no_control_characters(world: &mut World) {
    let log = fs::read_to_string(log(world)).unwrap();
    let state = world.get::<BuildState>();
    let mut texts = vec![log, state.error().to_string()];
    for event in mem::take(&mut *state.events.lock().unwrap()) {
        if let BuildEvent::Line(text) | BuildEvent::Message(text) = event {
            assert!(!text.contains('\n'), "{text:?}");
            texts.push(text);
        }
    }
    for text in texts {
        let is_hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(is_hidden), "{text:?}");
    }
}
