use std::{
    collections::HashMap,
    io::{self, IsTerminal as _},
    time::Duration,
};

use diagnostics::{Narration, escape};
use hive_contract::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::{
    Format, Screen,
    text::{bytes, duration},
};
use crate::failure::Failure;

/// How often progress is printed where no bars can be.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// With more files than this, bars of complete files disappear.
const MAX_BARS: usize = 8;
/// Width of a file's name before its bar.
const NAME_WIDTH: usize = 36;

/// The progress of a job: bars on a terminal, otherwise a line every few seconds.
pub(crate) struct Transfer {
    bars: Option<Bars>,
    last_line: Option<Instant>,
    /// Whether the last line showed the end of a phase.
    ended: bool,
}

struct Bars {
    multi: MultiProgress,
    files: HashMap<String, ProgressBar>,
    total: Option<ProgressBar>,
}

impl Transfer {
    pub(crate) fn new(screen: &Screen) -> Self {
        let shows_bars =
            screen.format == Format::Text && !screen.quiet && io::stderr().is_terminal();
        Self {
            bars: shows_bars.then(|| Bars {
                multi: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
                files: HashMap::new(),
                total: None,
            }),
            last_line: None,
            ended: false,
        }
    }

    /// Shows how far the job is.
    pub(crate) async fn progress(
        &mut self,
        progress: &Progress,
        screen: &mut Screen,
    ) -> Result<(), Failure> {
        screen.event("progress", progress).await?;
        if let Some(bars) = &mut self.bars {
            bars.update(progress);
            return Ok(());
        }
        if progress.item.is_some() || screen.format == Format::Events {
            return Ok(());
        }
        // The end of a phase is shown once, whenever it comes.
        let ended = progress.total == Some(progress.done);
        let is_due = self
            .last_line
            .is_none_or(|last| last.elapsed() >= LINE_INTERVAL);
        if ended == self.ended && (ended || !is_due) {
            return Ok(());
        }
        self.ended = ended;
        self.last_line = Some(Instant::now());
        let line = Narration::info("hive", &progress.phase, line(progress));
        screen.narrate(&line).await
    }

    /// Prints a narration above the bars.
    pub(crate) async fn narrate(
        &mut self,
        narration: &Narration,
        screen: &mut Screen,
    ) -> Result<(), Failure> {
        if let Some(bars) = &self.bars {
            let _ = bars.multi.clear();
        }
        screen.narrate(narration).await
    }

    /// Removes the bars.
    pub(crate) fn end(self) {
        if let Some(bars) = self.bars {
            let _ = bars.multi.clear();
        }
    }
}

impl Bars {
    fn update(&mut self, progress: &Progress) {
        let files = self.files.len();
        let bar = match &progress.item {
            Some(file) => self.files.entry(file.clone()).or_insert_with(|| {
                let bar = match &self.total {
                    Some(total) => self.multi.insert_before(total, new_bar()),
                    None => self.multi.add(new_bar()),
                };
                bar.with_prefix(shortened(file))
            }),
            None => self.total.get_or_insert_with(|| {
                let bar = self.multi.add(new_bar());
                bar.with_prefix(progress.phase.clone())
            }),
        };
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        bar.set_message(pace(progress));
        bar.set_position(progress.done);
        if progress.item.is_some() && progress.total == Some(progress.done) {
            if files > MAX_BARS {
                bar.finish_and_clear();
            } else {
                bar.finish();
            }
        }
    }
}

fn new_bar() -> ProgressBar {
    let template = "{prefix:36} {bar:24} {binary_bytes:>11} / {binary_total_bytes:>11}  {msg}";
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::no_length().with_style(style)
}

/// The end of a name that is too long, which distinguishes the parts of a model.
fn shortened(name: &str) -> String {
    let name = escape(name);
    let length = name.chars().count();
    if length <= NAME_WIDTH {
        return name;
    }
    let end: String = name.chars().skip(length - NAME_WIDTH + 1).collect();
    format!("…{end}")
}

/// Rate and time left, as far as they are known.
fn pace(progress: &Progress) -> String {
    let rate = progress
        .rate
        .map(|rate| format!("{}/s", bytes(rate as u64)));
    let left = progress
        .eta_seconds
        .map(|seconds| format!("{} left", duration(seconds.ceil() as u64)));
    let known: Vec<String> = rate.into_iter().chain(left).collect();
    known.join(", ")
}

fn line(progress: &Progress) -> String {
    let done = bytes(progress.done);
    let amount = match progress.total {
        Some(total) if total > 0 => {
            let percent = progress.done as f64 * 100.0 / total as f64;
            format!("{percent:.0} %, {done} of {}", bytes(total))
        }
        _ => done,
    };
    let pace = pace(progress);
    let phase = escape(&progress.phase);
    match pace.as_str() {
        "" => format!("{phase}: {amount}"),
        pace => format!("{phase}: {amount}, {pace}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_amounts_rate_and_time_left() {
        let mut progress = Progress {
            phase: "download".into(),
            item: None,
            sha256: None,
            done: 1 << 20,
            total: Some(4 << 20),
            unit: "bytes".into(),
            rate: Some(1024.0 * 1024.0),
            eta_seconds: Some(3.0),
        };
        assert_eq!(
            line(&progress),
            "download: 25 %, 1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3 s left"
        );
        progress.rate = None;
        progress.eta_seconds = None;
        progress.total = None;
        assert_eq!(line(&progress), "download: 1.0 MiB");
    }

    #[test]
    fn the_end_of_a_long_name_is_shown() {
        assert_eq!(shortened("a\u{1b}"), "a\\u{1b}");
        let long = format!("{}-00001-of-00002.gguf", "x".repeat(60));
        let short = shortened(&long);
        assert_eq!(short.chars().count(), NAME_WIDTH);
        assert!(short.ends_with("-00001-of-00002.gguf"));
    }
}
