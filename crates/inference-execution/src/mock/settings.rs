use std::{str::FromStr, time::Duration};

use diagnostics::Diagnostic;
use worker_contract::limits::TEMPERATURE;

use crate::errors;

/// An injected fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MockFault {
    Load,
    Step,
    /// The first step fails and the device is lost.
    Device,
    Panic,
}

/// The text that the mock engine generates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MockOutput {
    /// Words that depend on the prompt.
    Words,
    /// The last message of the prompt.
    Echo,
    /// Reasoning between `<think>` and `</think>`, then the last message of the prompt.
    Think,
    /// As [`Self::Think`], but the prompt contains the opening mark.
    ThinkOpened,
    /// A call of the first tool, and after its result the result.
    Call,
}

/// Behavior of the mock engine, parsed from `key=value,…`. By default no step takes any time.
#[derive(Debug, Clone, PartialEq)]
pub struct MockSettings {
    /// Duration of a step. Key `tokens_per_second`; 0 means no duration.
    pub step: Duration,
    /// Duration of loading. Key `load_ms`.
    pub load: Duration,
    /// Maximum number of concurrent requests. Key `slots`.
    pub slots: u32,
    /// Context length in tokens. Key `context`.
    pub context: u32,
    /// Size of the KV cache in tokens, by default `slots` times `context`. Key `kv`.
    pub kv_tokens: Option<u32>,
    /// Number of output tokens before the end token. Key `length`.
    pub length: u32,
    /// Generated text. Key `answer`, with the values `words`, `echo`, `think`, `think_opened` and
    /// `call`.
    pub output: MockOutput,
    /// Temperature that the model recommends. Key `temperature`.
    pub temperature: Option<f32>,
    /// Memory to occupy in MiB. Key `memory_mb`.
    pub memory_mb: u32,
    /// Number of tokens after which the process aborts. Key `crash_after`.
    pub crash_after: Option<u64>,
    /// Number of tokens after which a step never returns. Key `stall_after`.
    pub stall_after: Option<u64>,
    /// Fault to inject. Key `fail`, with the values `load`, `step`, `device` and `panic`.
    pub fail: Option<MockFault>,
}

impl Default for MockSettings {
    fn default() -> Self {
        Self {
            step: Duration::ZERO,
            load: Duration::ZERO,
            slots: 4,
            context: 4096,
            kv_tokens: None,
            length: 64,
            output: MockOutput::Words,
            temperature: None,
            memory_mb: 0,
            crash_after: None,
            stall_after: None,
            fail: None,
        }
    }
}

const KEYS: &str = "tokens_per_second, load_ms, slots, context, kv, length, answer, temperature, \
                    memory_mb, crash_after, stall_after, fail";

impl FromStr for MockSettings {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        let mut settings = Self::default();
        for entry in text.split(',').filter(|entry| !entry.is_empty()) {
            // A bare word such as `a` in `mock:a` only distinguishes models.
            let Some((key, value)) = entry.split_once('=') else {
                continue;
            };
            settings
                .set(key, value)
                .ok_or_else(|| errors::invalid_mock_setting(entry, KEYS))?;
        }
        Ok(settings)
    }
}

impl MockSettings {
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        fn number<T: FromStr + PartialOrd + From<u8>>(value: &str) -> Option<T> {
            value.parse().ok()
        }
        fn positive(value: &str) -> Option<u32> {
            number(value).filter(|n| *n > 0)
        }
        match key {
            "tokens_per_second" => {
                let rate = f64::from(number::<u32>(value)?);
                self.step = if rate > 0.0 {
                    Duration::from_secs_f64(1.0 / rate)
                } else {
                    Duration::ZERO
                };
            }
            "load_ms" => self.load = Duration::from_millis(number(value)?),
            "slots" => self.slots = positive(value)?,
            "context" => self.context = positive(value)?,
            "kv" => self.kv_tokens = Some(positive(value)?),
            "length" => self.length = positive(value)?,
            "answer" => {
                self.output = match value {
                    "words" => MockOutput::Words,
                    "echo" => MockOutput::Echo,
                    "think" => MockOutput::Think,
                    "think_opened" => MockOutput::ThinkOpened,
                    "call" => MockOutput::Call,
                    _ => return None,
                };
            }
            "temperature" => {
                let in_range = |t: &f32| TEMPERATURE.contains(&f64::from(*t));
                self.temperature = Some(value.parse().ok().filter(in_range)?);
            }
            "memory_mb" => self.memory_mb = number(value)?,
            "crash_after" => self.crash_after = Some(number(value)?),
            "stall_after" => self.stall_after = Some(number(value)?),
            "fail" => {
                self.fail = Some(match value {
                    "load" => MockFault::Load,
                    "step" => MockFault::Step,
                    "device" => MockFault::Device,
                    "panic" => MockFault::Panic,
                    _ => return None,
                });
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_parsed_or_refused() {
        let settings: MockSettings =
            "tokens_per_second=50,load_ms=100,slots=2,answer=echo,fail=load,a"
                .parse()
                .unwrap();
        assert_eq!(settings.step, Duration::from_millis(20));
        assert_eq!(settings.load, Duration::from_millis(100));
        assert_eq!((settings.slots, settings.fail), (2, Some(MockFault::Load)));
        assert_eq!(settings.output, MockOutput::Echo);
        assert_eq!("".parse::<MockSettings>(), Ok(MockSettings::default()));
        for bad in [
            "answer=x",
            "slots=0",
            "slots=x",
            "speed=1",
            "fail=maybe",
            "load_ms=-1",
            "temperature=-1",
        ] {
            let error = bad.parse::<MockSettings>().unwrap_err();
            assert_eq!(
                error.message,
                format!("invalid mock engine setting: \"{bad}\"")
            );
        }
    }
}
