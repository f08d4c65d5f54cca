/// The environment that a worker process is started with so that nothing in it uses more
/// than `threads` threads, and threads without work park instead of spinning.
///
/// The engine's own threads are [`crate::LoadOptions::threads`]. These settings are for what
/// else candle and the tokenizer bring along, which read them when they are first used:
/// candle has a pool whose threads spin 25 000 rounds before they park unless told
/// otherwise, and rayon's global pool takes every core.
pub fn thread_environment(threads: usize) -> Vec<(&'static str, String)> {
    let threads = threads.max(1).to_string();
    vec![
        ("CANDLE_NUM_THREADS", threads.clone()),
        ("RAYON_NUM_THREADS", threads),
        ("CANDLE_BARRIER_POOL_SPIN_LIMIT", "0".to_owned()),
        ("TOKENIZERS_PARALLELISM", "false".to_owned()),
    ]
}
