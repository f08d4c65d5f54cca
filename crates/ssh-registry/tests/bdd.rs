//! Feature 010 with the real binaries.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    bdd::run(&["010-ssh-registry-management"]).await
}
