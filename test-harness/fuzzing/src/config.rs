use proptest::test_runner::Config;

/// Returns a test configuration with `cases` cases, or the number in `PROPTEST_CASES`.
pub fn cases(cases: u32) -> Config {
    let requested = std::env::var("PROPTEST_CASES").ok();
    Config {
        cases: requested.and_then(|n| n.parse().ok()).unwrap_or(cases),
        // Shrinking a large damaged file takes long and helps little.
        max_shrink_iters: 2000,
        // Failing inputs are added to the corpus by hand; tests do not write to the checkout.
        failure_persistence: None,
        ..Config::default()
    }
}
