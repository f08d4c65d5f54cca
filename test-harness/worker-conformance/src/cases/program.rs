//! The program, before and while it starts.

use std::{net::TcpListener, time::Duration};

use anyhow::Error;

use super::case;
use crate::{
    bench::Bench,
    case::Case,
    launch::{PORT_TAKEN, free_port},
    verdict::{Checked, Verdict, expect, miss},
};

/// No queen listens on this port, and a worker does not need one.
const NO_QUEEN: &str = "http://127.0.0.1:1";
/// Time within which a worker that cannot start exits.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

pub(super) const CASES: &[Case] = &[
    case!(
        Command,
        "version",
        version,
        "prints its name and version with `--version` and exits with 0"
    ),
    case!(
        Command,
        "self-test",
        self_test,
        "infers with a generated model with `--self-test` and exits with 0"
    ),
    case!(
        Command,
        "port-taken",
        port_taken,
        "exits with 98 if its port is taken"
    ),
    case!(
        Command,
        "no-token",
        no_token,
        "does not start without its tokens"
    ),
];

fn failed(error: &Error) -> Verdict {
    miss("the program runs", format_args!("{error:#}"))
}

async fn version(bench: &mut Bench) -> Checked {
    let output = bench.started()?.launcher.run_with("--version").await;
    let output = output.map_err(|e| failed(&e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let has_number = text.lines().count() == 1 && text.chars().any(|c| c.is_ascii_digit());
    expect(
        output.status.success() && has_number,
        "one line with a version, exit code 0",
        format_args!("{}, \"{text}\"", output.status),
    )
}

async fn self_test(bench: &mut Bench) -> Checked {
    let output = bench.started()?.launcher.run_with("--self-test").await;
    let output = output.map_err(|e| failed(&e))?;
    let text = String::from_utf8_lossy(&output.stderr);
    expect(
        output.status.success(),
        "exit code 0",
        format_args!("{}, \"{text}\"", output.status),
    )
}

async fn port_taken(bench: &mut Bench) -> Checked {
    let launcher = &bench.started()?.launcher;
    let occupied = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| failed(&e.into()))?;
    let port = occupied.local_addr().map_err(|e| failed(&e.into()))?.port();
    let started = launcher.spawn(port, NO_QUEEN, true);
    let (mut process, ..) = started.map_err(|e| failed(&e))?;
    let status = process.exit(EXIT_LIMIT).await.map_err(|e| failed(&e))?;
    expect(
        status.is_some_and(|status| status.code() == Some(PORT_TAKEN)),
        format_args!("exit code {PORT_TAKEN}"),
        status.map_or_else(
            || format!("it runs after {} s", EXIT_LIMIT.as_secs()),
            |status| format!("{status}: {}", process.last_lines()),
        ),
    )
}

async fn no_token(bench: &mut Bench) -> Checked {
    let launcher = &bench.started()?.launcher;
    let port = free_port().map_err(|e| failed(&e))?;
    let started = launcher.spawn(port, NO_QUEEN, false);
    let (mut process, ..) = started.map_err(|e| failed(&e))?;
    let status = process.exit(EXIT_LIMIT).await.map_err(|e| failed(&e))?;
    expect(
        status.is_some_and(|status| !status.success()),
        "an exit code other than 0",
        status.map_or_else(
            || {
                format!(
                    "it runs after {} s without its tokens",
                    EXIT_LIMIT.as_secs()
                )
            },
            |status| status.to_string(),
        ),
    )
}
