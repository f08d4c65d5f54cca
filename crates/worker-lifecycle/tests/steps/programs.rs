use std::net::TcpListener;

use bdd::{World, binary};
use cucumber::given;
use tokio::process::Command;

use super::Seen;

/// Writes a shell script in the place of the worker program. Another process writes it: a
/// descriptor of ours that is open for writing could be inherited by a process that starts
/// at the same time, and the script could not run.
pub async fn write_program(world: &World, script: &str) {
    let dir = world.dir().join("workers");
    // Processes of the scenario carry its name in their environment.
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

#[given("a worker program that loses its first port")]
async fn loses_port(world: &mut World) {
    let script = format!(
        "if [ ! -e \"$0.tried\" ]; then : > \"$0.tried\"; exit 98; fi\n{}",
        real_worker()
    );
    write_program(world, &script).await;
}

#[given(regex = r"^a worker program that prints `(.*)` and exits with (\d+)$")]
async fn prints(world: &mut World, lines: String, code: u8) {
    let lines: Vec<String> = lines.split('|').map(|l| format!("'{l}'")).collect();
    let script = format!("printf '%b\\n' {}\nexit {code}", lines.join(" "));
    write_program(world, &script).await;
}

#[given("a worker program that starts another and never listens")]
async fn never_listens(world: &mut World) {
    write_program(world, "sleep 600 & wait").await;
}

#[given("a worker program that does not start beside the one before")]
async fn alone(world: &mut World) {
    // A zombie is gone as far as memory and devices are concerned.
    let script = format!(
        r#"
if [ -e "$0.pid" ]; then
    case "$(cut -d' ' -f3 "/proc/$(cat "$0.pid")/stat" 2>/dev/null)" in
        ''|Z|X) ;;
        *) echo 'the one before still runs'; exit 5 ;;
    esac
fi
echo $$ > "$0.pid"
{}"#,
        real_worker()
    );
    write_program(world, &script).await;
}

#[given("a port that another program listens on")]
fn held_port(world: &mut World) {
    // Two in a row, the second free.
    let (held, next) = loop {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let next = held.local_addr().unwrap().port().checked_add(1);
        if let Some(next) = next
            && TcpListener::bind(("127.0.0.1", next)).is_ok()
        {
            break (held, next);
        }
    };
    let port = held.local_addr().unwrap().port();
    world.noted.insert("port".into(), port.to_string());
    world.noted.insert("next_port".into(), next.to_string());
    world.get::<Seen>().held.push(held);
}
