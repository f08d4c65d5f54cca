//! Repositories with a small worker, which starts the mock worker of this release.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use bdd::{World, binary};
use cucumber::{given, when};

/// What is wrong with a worker.
fn fault(text: &str) -> (&'static str, &'static str, &'static str) {
    // The value of `self_test`, a line of `main`, and a line of the build script.
    match text {
        "" | " that needs the feature gpu" => ("0", "", ""),
        " that does not compile" => ("0", "let _ = absent;", ""),
        " whose self-test fails" => ("9", "", ""),
        " whose build does not end" => (
            "0",
            "",
            r#"let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::write(concat!(env!("MARKS"), "/running"), child.id().to_string()).unwrap();
    child.wait().unwrap();"#,
        ),
        other => panic!("no worker{other}"),
    }
}

#[given(regex = r"^a repository with the worker (\S+) (\S+?)( that .*| whose .*)?$")]
#[when(regex = r"^the repository has the worker (\S+) (\S+?)( that .*| whose .*)?$")]
fn repository(world: &mut World, name: String, version: String, how: String) {
    let dir = world.dir().join("repository");
    let is_new = !dir.exists();
    fs::create_dir_all(dir.join("src")).unwrap();
    let (self_test, line, in_build) = fault(&how);
    let marks = world.dir().display().to_string();
    let in_build = in_build.replace("env!(\"MARKS\")", &format!("{marks:?}"));
    let mut manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n[workspace]\n"
    );
    if how == " that needs the feature gpu" {
        manifest.push_str("[features]\ngpu = []\n[[bin]]\npath = \"src/main.rs\"\n");
        manifest.push_str("required-features = [\"gpu\"]\nname = \"");
        manifest.push_str(&name);
        manifest.push_str("\"\n");
    }
    let main = format!(
        r#"use std::os::unix::process::CommandExt as _;
fn main() {{
    {line}
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {{
        Some("--version") => println!("{name} {{}}", env!("CARGO_PKG_VERSION")),
        Some("--self-test") => {{
            if {self_test} != 0 {{ eprintln!("the numbers are wrong"); }}
            std::process::exit({self_test})
        }}
        _ => panic!("{{}}", std::process::Command::new({mock:?}).args(args).exec()),
    }}
}}
"#,
        mock = binary("mock-worker-rbee").to_str().unwrap()
    );
    let build = format!(
        r#"use std::io::Write as _;
fn main() {{
    let file = std::fs::OpenOptions::new().create(true).append(true).open("{marks}/builds");
    file.unwrap().write_all(b"{version}\n").unwrap();
    {in_build}
}}
"#
    );
    for (file, text) in [
        ("Cargo.toml", manifest),
        ("src/main.rs", main),
        ("build.rs", build),
    ] {
        fs::write(dir.join(file), text).unwrap();
    }
    if is_new {
        git(&dir, &["init", "--quiet", "--initial-branch", "main"]);
    }
    git(&dir, &["add", "."]);
    git(&dir, &["commit", "--quiet", "--message", &version]);
}

fn git(dir: &Path, args: &[&str]) {
    let done = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args(args)
        .status();
    assert!(done.unwrap().success(), "git {args:?}");
}

#[when("the repository is moved away")]
fn moved(world: &mut World) {
    let dir = world.dir().join("repository");
    fs::rename(&dir, world.dir().join("moved")).unwrap();
}

#[given("this workspace as the repository")]
fn workspace(world: &mut World) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap();
    let target = world.dir().join("repository");
    let (root, target) = (root.to_str().unwrap(), target.to_str().unwrap());
    git(
        Path::new("/"),
        &[
            "clone",
            "--quiet",
            "--depth",
            "1",
            &format!("file://{root}"),
            target,
        ],
    );
}

#[given("a running queen whose hive has no worker binaries and builds them from the repository")]
async fn builds(world: &mut World) {
    let repository = format!("file://{}/repository", world.dir().display());
    world
        .environment
        .push(("RBEE_WORKER_REPOSITORY".into(), repository));
    world
        .environment
        .push(("RBEE_WORKER_PROFILE".into(), "dev".into()));
    without_workers(world).await;
}

/// The hive's own directory has no worker binaries, as after an installation without them.
#[given("a running queen whose hive has no worker binaries")]
async fn without_workers(world: &mut World) {
    let dir = world.dir().join("hive");
    fs::create_dir(&dir).unwrap();
    // A link would lead to the directory with the workers.
    let wrapper = format!(
        "#!/bin/sh\nexec '{}' --worker-dir '{}' \"$@\"\n",
        binary("rbee-hive").display(),
        dir.join("none").display()
    );
    let script = dir.join("rbee-hive");
    let written = Command::new("sh")
        .args(["-c", r#"printf '%s' "$2" > "$1" && chmod +x "$1""#, "sh"])
        .arg(&script)
        .arg(wrapper)
        .status();
    assert!(written.unwrap().success());
    let queen = world.start("queen-rbee --hive-binary {dir}/hive/rbee-hive");
    world.running.insert("queen".to_owned(), queen);
    world.await_daemon("queen").await;
}

#[given(regex = r"^the hive finds only (.*)$")]
fn finds_only(world: &mut World, names: String) {
    let dir = world.dir().join("programs");
    fs::create_dir(&dir).unwrap();
    let names = names.replace(" and ", ", ");
    for name in names.split(", ").chain(["rustc", "env"]) {
        if name == "rustc" && names == "sh" {
            continue;
        }
        symlink(find(name), dir.join(name)).unwrap();
    }
    let path = dir.display().to_string();
    for (name, value) in [
        ("PATH", path.clone()),
        ("HOME", path.clone()),
        ("CUDA_HOME", path),
    ] {
        world.environment.push((name.into(), value));
    }
}

fn find(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap();
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("no {name}"))
}
