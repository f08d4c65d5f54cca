use std::time::{Duration, Instant};

use worker_contract::{MetricsEvent, Timings};

/// Times of the events of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestTimes {
    arrived: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

impl RequestTimes {
    pub fn arrived_now() -> Self {
        Self {
            arrived: Instant::now(),
            started: None,
            first_token: None,
            last_token: None,
        }
    }

    pub fn record_start(&mut self) {
        self.started = Some(Instant::now());
    }

    /// Records a token. Returns the time since the request's arrival if it is the first token.
    pub fn record_token(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.last_token = Some(now);
        if self.first_token.is_some() {
            return None;
        }
        self.first_token = Some(now);
        Some(now.saturating_duration_since(self.arrived))
    }

    pub fn metrics(&self, tokens: u32) -> MetricsEvent {
        MetricsEvent {
            time_to_first_token_ms: ms_between(Some(self.arrived), self.first_token),
            tokens_per_second: self.tokens_per_second(tokens),
        }
    }

    pub fn timings(&self, tokens: u32) -> Timings {
        Timings {
            queue_ms: ms_between(Some(self.arrived), self.started),
            prefill_ms: ms_between(self.started, self.first_token),
            decode_ms: ms_between(self.first_token, self.last_token),
            tokens_per_second: self.tokens_per_second(tokens),
        }
    }

    fn tokens_per_second(&self, tokens: u32) -> f64 {
        let decode_ms = ms_between(self.first_token, self.last_token);
        if tokens < 2 || decode_ms <= 0.0 {
            return 0.0;
        }
        f64::from(tokens - 1) * 1000.0 / decode_ms
    }
}

/// Returns the milliseconds between two times, or 0 if one of them is missing.
fn ms_between(from: Option<Instant>, to: Option<Instant>) -> f64 {
    match (from, to) {
        (Some(from), Some(to)) => to.saturating_duration_since(from).as_secs_f64() * 1000.0,
        _ => 0.0,
    }
}
