use std::{collections::VecDeque, time::Duration};

/// Time over which a rate is averaged.
const WINDOW: Duration = Duration::from_secs(5);
/// Shortest time that makes a rate.
const SHORTEST: Duration = Duration::from_millis(500);

/// Rate of a transfer over the last seconds. Pure.
#[derive(Debug, Default)]
pub(crate) struct RateWindow(VecDeque<(Duration, u64)>);

impl RateWindow {
    /// Adds how many bytes there are at the time `now`, and returns the bytes per second, once
    /// known.
    pub(crate) fn add(&mut self, now: Duration, bytes: u64) -> Option<f64> {
        while let Some((at, _)) = self.0.get(1)
            && now.saturating_sub(*at) >= WINDOW
        {
            self.0.pop_front();
        }
        self.0.push_back((now, bytes));
        let (at, before) = *self.0.front()?;
        let passed = now.saturating_sub(at);
        (passed >= SHORTEST).then(|| bytes.saturating_sub(before) as f64 / passed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_that_of_the_last_seconds() {
        let mut window = RateWindow::default();
        let tenth = Duration::from_millis(100);
        assert_eq!(window.add(Duration::ZERO, 1_000_000), None);
        assert_eq!(window.add(tenth, 1_000_100), None);
        assert_eq!(window.add(tenth * 10, 1_001_000), Some(1000.0));
        for n in 1..=60 {
            window.add(tenth * (10 + n), 1_001_000);
        }
        assert_eq!(window.add(tenth * 71, 1_001_000), Some(0.0));
        assert!(window.0.len() < 60);
    }
}
