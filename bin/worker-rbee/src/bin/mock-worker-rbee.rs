//! The worker without a model, for tests and benchmarks.

fn main() -> std::process::ExitCode {
    worker_rbee::mock::main()
}
