//! The worker that computes on the CPU with candle.

fn main() -> std::process::ExitCode {
    worker_rbee::cpu::main()
}
