/// Returns the environment variables for a worker process that limit the threads of candle and the
/// tokenizer to `threads` and make their idle threads park instead of spin.
///
/// The engine's own threads are set by [`crate::LoadOptions::threads`]. The libraries read these
/// variables on first use. By default, candle's idle threads spin for 25 000 rounds before they
/// park, and rayon's global pool uses every core.
pub fn thread_environment(threads: usize) -> Vec<(&'static str, String)> {
    let threads = threads.max(1).to_string();
    vec![
        ("CANDLE_NUM_THREADS", threads.clone()),
        ("RAYON_NUM_THREADS", threads),
        ("CANDLE_BARRIER_POOL_SPIN_LIMIT", "0".to_owned()),
        ("TOKENIZERS_PARALLELISM", "false".to_owned()),
    ]
}
