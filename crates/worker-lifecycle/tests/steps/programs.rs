use bdd::{World, binary, eventually};
use cucumber::{given, then};
use daemon_shell::ProcessIdentity;
use tokio::process::Command;

/// Writes a shell script in place of the worker binary. Another process writes it: a descriptor
/// of this process that is open for writing could be inherited by a process that starts at the
/// same time, and the script could not run.
pub async fn write_program(world: &World, script: &str) {
    let dir = world.dir().join("workers");
    // Processes of the scenario are recognized by their environment.
    let exports: Vec<String> = world
        .inherited()
        .iter()
        .map(|(name, value)| format!("export {name}='{value}'"))
        .collect();
    let exports = exports.join("\n");
    let written = Command::new("sh")
        .arg("-c")
        .arg(r#"mkdir -p "$1" && printf '%s\n' "$2" > "$1/mock-worker-rbee" && chmod +x "$1/mock-worker-rbee""#)
        .arg("sh")
        .arg(dir)
        .arg(format!("#!/bin/sh\n{exports}\n{script}"))
        .status()
        .await;
    assert!(written.unwrap().success());
}

/// The line by which a script becomes the real worker.
pub fn real_worker() -> String {
    format!("exec '{}' \"$@\"", binary("mock-worker-rbee").display())
}

#[given("a worker binary that loses its first port")]
async fn loses_port(world: &mut World) {
    let script = format!(
        "if [ ! -e \"$0.tried\" ]; then : > \"$0.tried\"; exit 98; fi\n{}",
        real_worker()
    );
    write_program(world, &script).await;
}

#[given(regex = r"^a worker binary that prints `(.*)` and exits with (\d+)$")]
async fn prints(world: &mut World, lines: String, code: u8) {
    let lines: Vec<String> = lines.split('|').map(|l| format!("'{l}'")).collect();
    let script = format!("printf '%b\\n' {}\nexit {code}", lines.join(" "));
    write_program(world, &script).await;
}

#[given(regex = r"^a worker binary that prints `(.*)` and aborts$")]
async fn aborts(world: &mut World, line: String) {
    write_program(world, &format!("echo '{line}'\nkill -ABRT $$")).await;
}

#[given("a worker binary that starts a child process and never listens")]
async fn never_listens(world: &mut World) {
    write_program(world, "sleep 600 & echo $! > \"$0.child\"; wait").await;
}

#[then("the child process of the worker is gone")]
async fn child_is_gone(world: &mut World) {
    let file = world.dir().join("workers/mock-worker-rbee.child");
    let pid: u32 = std::fs::read_to_string(file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    eventually(std::time::Duration::from_secs(10), || async move {
        ProcessIdentity::of(pid).map_or(Ok(()), |p| Err(format!("{p:?}")))
    })
    .await;
}

#[given("a worker binary that fails while the previous process is running")]
async fn fails_next_to_another(world: &mut World) {
    // A zombie holds neither memory nor devices.
    let script = format!(
        r#"
if [ -e "$0.pid" ]; then
    case "$(cut -d' ' -f3 "/proc/$(cat "$0.pid")/stat" 2>/dev/null)" in
        ''|Z|X) ;;
        *) echo 'the previous process is running'; exit 5 ;;
    esac
fi
echo $$ > "$0.pid"
{}"#,
        real_worker()
    );
    write_program(world, &script).await;
}
