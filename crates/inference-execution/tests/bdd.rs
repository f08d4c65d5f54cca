//! Feature 110, run with the real binaries. The steps are defined in `test-harness/bdd`.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    bdd::run(&["110-inference-execution"]).await
}
