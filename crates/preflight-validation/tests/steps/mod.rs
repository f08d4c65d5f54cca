mod checks;
mod hive;
mod machine;
mod rules;

use hive_contract::{PreflightCheck, PreflightReport};
use serde_json::Value;

/// State of these steps in addition to the shared World.
#[derive(Default)]
pub struct State {
    /// The mock machine, in the format of the hive's file.
    pub machine: Value,
    /// The last request for checks.
    pub request: Value,
    /// The last report.
    pub report: PreflightReport,
    /// The check that was named last.
    pub named: Option<PreflightCheck>,
}

/// Parses a size such as `20 MiB`.
pub fn bytes(text: &str) -> u64 {
    let (number, unit) = text.split_once(' ').expect("a number and a unit");
    let shift = match unit {
        "MiB" => 20,
        "GiB" => 30,
        other => panic!("no unit {other}"),
    };
    number.parse::<u64>().unwrap() << shift
}
