//! The worker that computes on the processor, with candle.

fn main() -> std::process::ExitCode {
    worker_rbee::candle::main()
}
