//! `mock-worker-rbee`.

use std::{env, process::ExitCode};

use clap::Parser;
use diagnostics::Diagnostic;
use inference_execution::{
    Batch, BlockId, Chunk, Engine as _, SequenceId,
    mock::{MockEngine, MockSettings},
};
use worker_process::{HTTP_THREADS, ServedModel, WorkerArguments, WorkerKind, exit, serve};

use crate::errors;

/// An rbee worker without a model, for tests and benchmarks; `--model` has its settings, such as
/// `tokens_per_second=50,length=20`.
#[derive(Debug, Parser)]
#[command(name = "mock-worker-rbee", version)]
struct CommandLine {
    #[command(flatten)]
    worker: Option<WorkerArguments>,
    /// Compute one step in memory, and exit.
    #[arg(long, exclusive = true)]
    self_test: bool,
}

pub fn main() -> ExitCode {
    exit(match CommandLine::parse().worker {
        Some(arguments) => run(arguments),
        None => self_test(),
    })
}

fn self_test() -> Result<(), Diagnostic> {
    let mut engine = MockEngine::new(MockSettings::default());
    let chunk = Chunk {
        sequence: SequenceId(0),
        tokens: vec![u32::from(b'x')],
        position: 0,
        blocks: vec![BlockId(0)],
        wants_logits: true,
    };
    let batch = Batch {
        chunks: vec![chunk],
    };
    match engine.step(&batch)?.rows().count() {
        1 => Ok(()),
        rows => Err(errors::self_test_rows(rows)),
    }
}

fn run(arguments: WorkerArguments) -> Result<(), Diagnostic> {
    let mut settings: MockSettings = arguments.model.parse()?;
    if let Some(context) = arguments.context_length {
        settings.context = context.max(1);
    }
    if let Some(slots) = arguments.slots {
        settings.slots = slots;
    }
    let model = match &arguments.alias {
        Some(alias) => alias.clone(),
        None => format!("mock:{}", arguments.model).parse()?,
    };
    let kind = WorkerKind {
        implementation: "rbee-mock",
        model,
        slots: settings.slots,
        http_threads: HTTP_THREADS,
    };
    serve(
        arguments,
        kind,
        |name| env::var_os(name),
        move |progress| {
            let (engine, codec) = MockEngine::load(settings, &*progress)?;
            Ok(ServedModel {
                engine: Box::new(engine),
                codec,
            })
        },
    )
}
