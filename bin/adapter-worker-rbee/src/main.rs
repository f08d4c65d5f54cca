//! `adapter-worker-rbee`: the worker in front of another engine.

mod args;
mod errors;
mod run;

use std::{env, process::ExitCode};

use clap::Parser as _;
use engine_adapter::{
    EXEC_ENGINE, GUARD_ENGINE, TEST_ENGINE, exec_engine, guard_engine, test_engine,
};
use worker_process::exit;

use crate::args::CommandLine;

fn main() -> ExitCode {
    let mut words = env::args().skip(1);
    match words.next().as_deref() {
        Some(GUARD_ENGINE) => return guard_engine(&words.collect::<Vec<_>>()),
        Some(EXEC_ENGINE) => return exit(Err(exec_engine(&words.collect::<Vec<_>>()))),
        Some(TEST_ENGINE) => return test_engine(&words.collect::<Vec<_>>()),
        _ => {}
    }
    // The options of an engine may be there as well, but nothing of them is used.
    let mut own = env::args().skip(1).take_while(|word| word != "--");
    if own.any(|word| word == "--self-test") {
        return exit(run::self_test());
    }
    let command_line = CommandLine::parse();
    exit(match (command_line.worker, command_line.engine) {
        (Some(arguments), Some(engine)) => run::run(arguments, engine),
        _ => Err(errors::no_engine()),
    })
}
