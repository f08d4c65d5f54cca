//! The worker without a model, for tests and benches.

fn main() -> std::process::ExitCode {
    worker_rbee::mock::main()
}
