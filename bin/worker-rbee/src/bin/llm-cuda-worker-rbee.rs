//! The worker that computes on a GPU of NVIDIA with candle.

fn main() -> std::process::ExitCode {
    worker_rbee::cuda::main()
}
