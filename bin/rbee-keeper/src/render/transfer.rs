use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use diagnostics::{Narration, bytes, escape};
use hive_contract::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::LocalModes;
use tokio::time::Instant;

use super::{Format, Screen};
use crate::failure::Failure;

/// How often progress is printed where no bars can be.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// With more files than this, bars of complete files disappear.
const MAX_BARS: usize = 8;
/// Width of a terminal that does not tell.
const USUAL_WIDTH: usize = 80;
/// Width from which amounts are shown, and not only a percentage.
const WIDE: usize = 80;
/// Width below which there is no rate.
const NARROW: usize = 50;
/// Longest amounts: `1023 MiB / 1023 MiB`.
const AMOUNT_WIDTH: usize = 19;
/// Longest rate and time left: `1023 KiB/s, 59 min left`.
const PACE_WIDTH: usize = 23;
/// Least and greatest width of a bar.
const BAR_WIDTH: (usize, usize) = (6, 24);
/// Greatest width of a name.
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
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let shows_bars = screen.format == Format::Text
            && !screen.quiet
            && io::stderr().is_terminal()
            && !is_dumb;
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
        match &self.bars {
            Some(bars) => {
                let text = screen.narration(narration);
                let write = || io::stderr().write_all(text.as_bytes());
                let _ = bars.multi.suspend(write);
                Ok(())
            }
            None => screen.narrate(narration).await,
        }
    }

    /// Removes the bars. `by_key` says that the user has pressed Ctrl+C.
    pub(crate) fn end(self, by_key: bool) {
        if let Some(bars) = self.bars {
            let _ = bars.multi.clear();
            // The terminal has written `^C` behind the last bar, which fills its line.
            if by_key && bars.total.is_some() && echoes_control_characters() {
                let _ = io::stderr().write_all(b"\x1b[1A\r\x1b[2K");
            }
            // Bars that are dropped would be drawn once more.
            bars.multi.set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

impl Bars {
    fn update(&mut self, progress: &Progress) {
        let files = self.files.len();
        let (bar, name) = if let Some(file) = &progress.item {
            let bar = self.files.entry(file.clone()).or_insert_with(|| {
                let bar = new_bar();
                match &self.total {
                    Some(total) => self.multi.insert_before(total, bar),
                    None => self.multi.add(bar),
                }
            });
            (bar, file)
        } else {
            let new = || self.multi.add(new_bar());
            (self.total.get_or_insert_with(new), &progress.phase)
        };
        bar.set_message(bar_line(name, progress, terminal_width()));
        let is_complete = progress.item.is_some() && progress.total == Some(progress.done);
        if is_complete && files > MAX_BARS {
            bar.finish_and_clear();
        }
    }
}

fn new_bar() -> ProgressBar {
    // The line is as long as the terminal is wide, which templates cannot do for all of it.
    let style = ProgressStyle::with_template("{msg}");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn echoes_control_characters() -> bool {
    let echoes = LocalModes::ECHO | LocalModes::ECHOCTL;
    let attributes = rustix::termios::tcgetattr(io::stderr());
    attributes.is_ok_and(|attributes| attributes.local_modes.contains(echoes))
}

fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { USUAL_WIDTH } else { columns }
}

/// A line with name, bar, amounts, rate and time left, as far as the terminal is wide enough.
fn bar_line(name: &str, progress: &Progress, width: usize) -> String {
    let share = progress.total.map(|total| match total {
        0 => 1.0,
        total => (progress.done as f64 / total as f64).min(1.0),
    });
    let amount = match (progress.total, share) {
        (Some(total), _) if width >= WIDE => {
            let amount = format!(
                "{} / {}",
                amount(progress, progress.done),
                amount(progress, total)
            );
            format!("{amount:>AMOUNT_WIDTH$}")
        }
        (None, _) if width >= WIDE => format!("{:>AMOUNT_WIDTH$}", amount(progress, progress.done)),
        (_, Some(share)) => format!("{:>3.0} %", (share * 100.0).floor()),
        (_, None) => format!("{:>5}", ""),
    };
    let right = if width < NARROW {
        amount
    } else {
        format!("{amount}  {:PACE_WIDTH$}", pace(progress))
    };
    // A character in the last column would wrap the line in some terminals.
    let left = width.saturating_sub(right.chars().count() + 2);
    let bar_width = match left / 3 {
        third if third < BAR_WIDTH.0 => 0,
        third => third.min(BAR_WIDTH.1),
    };
    let name_width = left.saturating_sub(bar_width + 1).min(NAME_WIDTH);
    let name = shortened(name, name_width);
    let line = format!("{name:name_width$} {} {right}", bar(share, bar_width));
    line.trim_end()
        .chars()
        .take(width.saturating_sub(1))
        .collect()
}

fn bar(share: Option<f64>, width: usize) -> String {
    let Some(inner) = width.checked_sub(2) else {
        return String::new();
    };
    let filled = (share.unwrap_or(0.0) * inner as f64) as usize;
    let mut bar = "=".repeat(filled);
    if filled < inner {
        bar.push('>');
    }
    format!("[{bar:inner$}]")
}

/// A name that is too long without its extension, and at last only its end, which distinguishes
/// the parts of a model.
fn shortened(name: &str, width: usize) -> String {
    let full = escape(name);
    if full.chars().count() <= width {
        return full;
    }
    let name = full.rsplit_once('.').map_or(&*full, |(stem, _)| stem);
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length + 1 - width.max(1)).collect();
    format!("…{end}")
}

/// Rate and time left, as far as they are known.
fn pace(progress: &Progress) -> String {
    let rate = progress
        .rate
        .map(|rate| format!("{}/s", amount(progress, rate as u64)));
    let left = progress
        .eta_seconds
        .map(|seconds| format!("{} left", rounded(seconds.ceil() as u64)));
    let known: Vec<String> = rate.into_iter().chain(left).collect();
    known.join(", ")
}

/// A duration in its largest unit.
fn rounded(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds.div_ceil(60).min(59)),
        3600..86400 => format!("{} h", seconds.div_ceil(3600).min(23)),
        _ => format!("{} d", seconds / 86400),
    }
}

/// A number of what is counted: bytes, or others such as crates.
fn amount(progress: &Progress, n: u64) -> String {
    match progress.unit.as_str() {
        "bytes" => bytes(n),
        unit => format!("{n} {}", escape(unit)),
    }
}

fn line(progress: &Progress) -> String {
    let done = amount(progress, progress.done);
    let amounts = match progress.total {
        Some(total) if total > 0 => {
            let percent = progress.done as f64 * 100.0 / total as f64;
            format!("{percent:.0} %, {done} of {}", amount(progress, total))
        }
        _ => done,
    };
    let pace = pace(progress);
    let phase = escape(&progress.phase);
    match pace.as_str() {
        "" => format!("{phase}: {amounts}"),
        pace => format!("{phase}: {amounts}, {pace}"),
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
        assert_eq!(shortened("a\u{1b}", 9), "a\\u{1b}");
        let long = format!("{}-00001-of-00002.gguf", "x".repeat(60));
        let short = shortened(&long, 30);
        assert_eq!(short.chars().count(), 30);
        assert!(short.ends_with("x-00001-of-00002"), "{short}");
        let name = "model-00001-of-00002.safetensors";
        assert_eq!(shortened(name, 20), "model-00001-of-00002");
    }

    #[test]
    fn a_bar_fits_into_its_terminal() {
        let gibibyte = 1 << 30;
        let mut progress = Progress {
            phase: "download".into(),
            item: Some("model.gguf".into()),
            sha256: None,
            done: gibibyte,
            total: Some(4 * gibibyte),
            unit: "bytes".into(),
            rate: Some(12.5 * 1024.0 * 1024.0),
            eta_seconds: Some(75.0),
        };
        let line = |progress: &Progress, width| bar_line("model.gguf", progress, width);
        for (width, expected) in [
            (
                110,
                "model.gguf                           [====>              ]   1.0 GiB / 4.0 GiB  12.5 MiB/s, 2 min left",
            ),
            (
                80,
                "model.gguf             [==>      ]   1.0 GiB / 4.0 GiB  12.5 MiB/s, 2 min left",
            ),
            (
                60,
                "model.gguf         [=>     ]  25 %  12.5 MiB/s, 2 min left",
            ),
            (40, "model.gguf            [==>      ]  25 %"),
        ] {
            assert_eq!(line(&progress, width), expected, "{width}");
        }
        for width in 0..200 {
            for (done, total) in [(0, None), (7, Some(7)), (0, Some(0)), (9, Some(1 << 60))] {
                (progress.done, progress.total) = (done, total);
                let line = line(&progress, width);
                assert!(line.chars().count() < width.max(1), "{width}: {line}");
            }
        }
    }
}
