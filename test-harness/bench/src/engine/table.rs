use clap::ValueEnum as _;
use model_maker::{Quantization, Shape};

use super::figures::{Figure, Measured, Test};

/// Results of both engines, measured one after the other.
pub struct Round {
    pub rbee: Measured,
    pub llama_cpp: Option<Measured>,
}

/// All rounds of one model and number of threads.
pub struct Cell {
    pub shape: Shape,
    pub quantization: Quantization,
    pub threads: usize,
    pub file_bytes: u64,
    pub rounds: Vec<Round>,
}

pub fn shape_name(shape: Shape) -> String {
    let value = shape.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

pub fn print_head(compares: bool) {
    if compares {
        println!(
            "| shape | type | threads | test | rbee tokens/s | llama.cpp tokens/s | ratio | rbee tokens/CPU s | llama.cpp tokens/CPU s | ratio by CPU |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
    } else {
        println!("| shape | type | threads | test | rbee tokens/s | rbee tokens/CPU s |");
        println!("|---|---|---|---|---|---|");
    }
}

impl Cell {
    fn name(&self) -> String {
        let shape = shape_name(self.shape);
        format!(
            "| {shape} | {} | {}",
            self.quantization.name(),
            self.threads
        )
    }

    /// Prints one row for each test.
    pub fn print_speed(&self, tests: &[Test]) {
        for test in tests {
            let tokens = f64::from(test.tokens());
            let by_wall = |figure: &Figure| tokens / figure.wall;
            let by_cpu = |figure: &Figure| tokens / figure.cpu;
            print!("{} | {test} |", self.name());
            if self.rounds.iter().all(|round| round.llama_cpp.is_none()) {
                let ours = |speed: &dyn Fn(&Figure) -> f64| {
                    let figures = self.rounds.iter().filter_map(|r| r.rbee.figures.get(test));
                    speed_text(median(figures.map(speed).collect()))
                };
                println!(" {} | {} |", ours(&by_wall), ours(&by_cpu));
                continue;
            }
            let pairs: Vec<(&Figure, &Figure)> = self
                .rounds
                .iter()
                .filter_map(|round| {
                    let theirs = round.llama_cpp.as_ref()?.figures.get(test)?;
                    Some((round.rbee.figures.get(test)?, theirs))
                })
                .collect();
            let columns = |speed: &dyn Fn(&Figure) -> f64| {
                let of = |value: &dyn Fn(&(&Figure, &Figure)) -> f64| {
                    median(pairs.iter().map(value).collect())
                };
                let (ours, theirs) = (of(&|pair| speed(pair.0)), of(&|pair| speed(pair.1)));
                let ratio = of(&|pair| speed(pair.0) / speed(pair.1));
                format!(
                    " {} | {} | {ratio:.2} |",
                    speed_text(ours),
                    speed_text(theirs)
                )
            };
            println!("{}{}", columns(&by_wall), columns(&by_cpu));
        }
    }
}

/// Formats a speed with at least three digits.
fn speed_text(speed: f64) -> String {
    if speed < 100.0 {
        format!("{speed:.1}")
    } else {
        format!("{speed:.0}")
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints memory and load time, one row for each cell.
pub fn print_memory(cells: &[Cell]) {
    println!("\nMemory after prefill and decode of one sequence, KV cache included:\n");
    println!(
        "| shape | type | threads | file MB | rbee MB | of file | rbee peak MB | llama.cpp MB | of file | rbee load s | llama.cpp load s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for cell in cells {
        let file = cell.file_bytes as f64 / 1e6;
        let ours = |value: &dyn Fn(&Measured) -> f64| {
            median(cell.rounds.iter().map(|round| value(&round.rbee)).collect())
        };
        let theirs = |value: &dyn Fn(&Measured) -> f64| {
            let measured = cell.rounds.iter().filter_map(|r| r.llama_cpp.as_ref());
            median(measured.map(value).collect())
        };
        let resident = |measured: &Measured| measured.resident as f64 / 1e6;
        let optional = |number: f64, digits: usize| match number {
            number if number.is_nan() => String::new(),
            number => format!("{number:.digits$}"),
        };
        println!(
            "{} | {file:.0} | {:.0} | {:.2} | {:.0} | {} | {} | {:.2} | {} |",
            cell.name(),
            ours(&resident),
            ours(&resident) / file,
            ours(&|measured| measured.peak as f64 / 1e6),
            optional(theirs(&resident), 0),
            optional(theirs(&resident) / file, 2),
            ours(&|measured| measured.load),
            optional(theirs(&|measured| measured.load), 2),
        );
    }
}
