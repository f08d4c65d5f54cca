//! Runs a server that speaks the protocol of an engine, until it is stopped:
//!
//! ```text
//! engine-sim PROTOCOL --port PORT [--slots N] [--load-ms N] [--log FILE] [--key KEY]
//!     [--helper FILE]
//! ```
//!
//! With the protocol `rpc`, it is the RPC server of llama.cpp: it accepts connections, and keeps
//! them. With `--rpc HOST:PORT,…`, the server of llama.cpp connects with such ones before it serves,
//! and ends if it cannot. As the real one, it notices a loss only when it computes.
//!
//! With `--helper`, it starts a process in a session of its own that runs as long as nobody ends
//! it, and writes its process id to the file.
#![allow(clippy::print_stdout, reason = "the output of an engine")]

use std::{
    collections::BTreeMap,
    env, fs, io,
    process::{Command, Stdio},
    time::Duration,
};

use sim::engine::{Options, Protocol, serve};

const DEFAULT_SLOTS: u32 = 2;

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut words = env::args().skip(1);
    let name = words.next();
    let is_part = name.as_deref() == Some("rpc");
    let protocol = if is_part {
        Some(Protocol::LlamaCpp)
    } else {
        name.and_then(|name| Protocol::parse(&name))
    };
    let protocol = protocol.ok_or_else(|| wrong("the first argument is the protocol"))?;
    let mut options = BTreeMap::<String, String>::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        options.insert(name, value);
    }
    let number = |name: &str| {
        options
            .get(name)
            .and_then(|value| value.parse::<u64>().ok())
    };
    if let Some(file) = options.get("--helper") {
        let helper = Command::new("setsid")
            .args(["sleep", "1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        fs::write(file, helper.id().to_string())?;
    }
    if is_part {
        let port = options.get("--port").and_then(|port| port.parse().ok());
        return sim::engine::serve_parts(port.ok_or_else(|| wrong("--port is missing"))?).await;
    }
    let parts = options.get("--rpc").map_or("", String::as_str);
    let _connections = sim::engine::connect_with_parts(parts).await?;
    let log = options
        .get("--log")
        .map(|path| fs::OpenOptions::new().create(true).append(true).open(path));
    let port = number("--port").and_then(|port| u16::try_from(port).ok());
    serve(
        protocol,
        port.ok_or_else(|| wrong("--port is missing"))?,
        Options {
            slots: number("--slots")
                .and_then(|slots| u32::try_from(slots).ok())
                .unwrap_or(DEFAULT_SLOTS),
            load: Duration::from_millis(number("--load-ms").unwrap_or(0)),
            log: log.transpose()?,
            key: options.get("--key").cloned(),
        },
    )
    .await
}

fn wrong(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
