//! Feature 110, through the real programs; its vocabulary is shared (`test-harness/bdd`).

#[tokio::main]
async fn main() -> std::process::ExitCode {
    bdd::run(&["110-inference-execution"]).await
}
