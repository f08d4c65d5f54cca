use std::{str::FromStr, time::Duration};

use diagnostics::{Code, Diagnostic, excerpt};

/// What goes wrong, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Loading fails.
    Load,
    /// Every step fails.
    Step,
    /// The first step loses the device.
    Device,
    /// The first step panics.
    Panic,
}

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Words chosen by the prompt.
    Words,
    /// The last message.
    Echo,
}

/// How the mock engine behaves, written as `key=value,…`; nothing written costs no time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MockSettings {
    /// `tokens_per_second`: the duration of a step, as that of a device; 0 is none.
    pub step: Duration,
    /// `load_ms`: how long loading takes.
    pub load: Duration,
    /// `slots`: requests at once.
    pub slots: u32,
    /// `context`: longest prompt plus answer, in tokens.
    pub context: u32,
    /// `kv`: tokens in the KV cache; absent, `slots` times `context`.
    pub kv_tokens: Option<u32>,
    /// `length`: tokens of an answer before its end token.
    pub length: u32,
    /// `answer`: `words` or `echo`.
    pub answer: Manner,
    /// `memory_mb`: memory held.
    pub memory_mb: u32,
    /// `crash_after`: tokens after which the process aborts.
    pub crash_after: Option<u64>,
    /// `stall_after`: tokens after which a step never returns.
    pub stall_after: Option<u64>,
    /// `fail`: `load`, `step`, `device` or `panic`.
    pub fail: Option<Fault>,
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
            answer: Manner::Words,
            memory_mb: 0,
            crash_after: None,
            stall_after: None,
            fail: None,
        }
    }
}

const KEYS: &str = "tokens_per_second, load_ms, slots, context, kv, length, answer, memory_mb, \
                    crash_after, stall_after, fail";

impl FromStr for MockSettings {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        let mut settings = Self::default();
        for entry in text.split(',').filter(|entry| !entry.is_empty()) {
            let refused = || {
                Diagnostic::new(
                    Code::InvalidModelRef,
                    format!(
                        "not a setting of the mock engine: \"{}\"",
                        excerpt(entry, 80)
                    ),
                )
                .hint(format!("settings are `key=value,…` with the keys {KEYS}"))
            };
            // A bare word is a name that tells models apart, such as `mock:a`.
            let Some((key, value)) = entry.split_once('=') else {
                continue;
            };
            settings.set(key, value).ok_or_else(refused)?;
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
                self.answer = match value {
                    "words" => Manner::Words,
                    "echo" => Manner::Echo,
                    _ => return None,
                };
            }
            "memory_mb" => self.memory_mb = number(value)?,
            "crash_after" => self.crash_after = Some(number(value)?),
            "stall_after" => self.stall_after = Some(number(value)?),
            "fail" => {
                self.fail = Some(match value {
                    "load" => Fault::Load,
                    "step" => Fault::Step,
                    "device" => Fault::Device,
                    "panic" => Fault::Panic,
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
    fn settings_are_read_or_refused_by_name() {
        let settings: MockSettings =
            "tokens_per_second=50,load_ms=100,slots=2,answer=echo,fail=load,a"
                .parse()
                .unwrap();
        assert_eq!(settings.step, Duration::from_millis(20));
        assert_eq!(settings.load, Duration::from_millis(100));
        assert_eq!((settings.slots, settings.fail), (2, Some(Fault::Load)));
        assert_eq!(settings.answer, Manner::Echo);
        assert_eq!("".parse::<MockSettings>(), Ok(MockSettings::default()));
        for bad in [
            "answer=x",
            "slots=0",
            "slots=x",
            "speed=1",
            "fail=maybe",
            "load_ms=-1",
        ] {
            let error = bad.parse::<MockSettings>().unwrap_err();
            assert!(error.message.contains(bad), "{error}");
        }
    }
}
