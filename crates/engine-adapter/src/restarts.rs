//! When a lost engine is started again.

use std::{collections::VecDeque, time::Duration};

/// Restarts within [`WINDOW`] after which the worker gives up.
const MAX: usize = 5;
const WINDOW: Duration = Duration::from_secs(600);
/// Wait before the second restart within the window. It doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The latest restarts.
#[derive(Debug, Default)]
pub(crate) struct Restarts(VecDeque<Duration>);

impl Restarts {
    /// Returns how long to wait before the engine is started again; `None` to give up. `now` is the
    /// time since any fixed moment.
    pub fn next(&mut self, now: Duration) -> Option<Duration> {
        while self
            .0
            .front()
            .is_some_and(|first| now.saturating_sub(*first) > WINDOW)
        {
            self.0.pop_front();
        }
        if self.0.len() >= MAX {
            return None;
        }
        self.0.push_back(now);
        let before = u32::try_from(self.0.len() - 1).unwrap_or(0);
        Some(match before {
            0 => Duration::ZERO,
            before => FIRST_WAIT * 2_u32.pow(before - 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_a_loop_of_crashes_ends() {
        let mut restarts = Restarts::default();
        let waits: Vec<_> = (0..6)
            .map(|second| restarts.next(Duration::from_secs(second)))
            .collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(waits, [ms(0), ms(500), ms(1000), ms(2000), ms(4000), None]);
        // A crash long after the others is like the first one.
        assert_eq!(restarts.next(Duration::from_secs(700)), ms(0));
    }
}
