use std::time::Duration;

use tokio::time::sleep;

/// Pauses between attempts to connect: they double up to a longest one, and vary, so that many
/// nodes do not connect to a restarted queen at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Creates the pauses from the first to the longest one.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            first,
            longest,
        }
    }

    /// Waits for the next pause.
    pub async fn wait(&mut self) {
        let mut random = [0];
        // Without random numbers the pauses are the shortest ones.
        let _ = getrandom::fill(&mut random);
        sleep(self.pause(random[0])).await;
    }

    /// Returns the next pause: between half of its length and all of it, by a random number.
    fn pause(&mut self, random: u8) -> Duration {
        let longest = self.next.min(self.longest);
        self.next = longest * 2;
        longest / 2 + longest * u32::from(random) / (2 * u32::from(u8::MAX))
    }

    /// Begins again with the first pause.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// Continues with the longest pause.
    pub fn skip_to_longest(&mut self) {
        self.next = self.longest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_one_and_vary() {
        let new = || Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let pauses = |random: u8| {
            let mut backoff = new();
            let millis: Vec<u128> = (0..7).map(|_| backoff.pause(random).as_millis()).collect();
            millis
        };
        assert_eq!(
            pauses(u8::MAX),
            [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        );
        assert_eq!(pauses(0), [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
        let mut backoff = new();
        backoff.skip_to_longest();
        assert_eq!(backoff.pause(u8::MAX), Duration::from_secs(30));
        backoff.reset();
        assert_eq!(backoff.pause(u8::MAX), Duration::from_secs(1));
    }
}
