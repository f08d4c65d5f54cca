//! Feature 090 with the real binaries.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    bdd::run(&["090-hive-lifecycle"]).await
}
