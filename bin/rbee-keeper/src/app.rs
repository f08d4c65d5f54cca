use clap::CommandFactory as _;
use diagnostics::ExitCode;

use crate::{
    cli::{Cli, Command, Model, Queen, Worker},
    failure::Failure,
    infer,
    interrupt::Interrupts,
    queen,
    render::{Format, Screen, text},
    target::Target,
};

/// Runs a command and tells how it ended. Every error becomes an exit code here.
pub async fn run(cli: Result<Cli, clap::Error>) -> ExitCode {
    let cli = match cli {
        Ok(cli) => cli,
        Err(refused) => return not_run(&refused).await,
    };
    let format = match (cli.global.json, &cli.command) {
        (false, _) => Format::Text,
        (true, Command::Infer(_)) => Format::Events,
        (true, _) => Format::Document,
    };
    let mut screen = Screen::new(format, cli.global.quiet);
    let interrupts = match Interrupts::catch() {
        Ok(interrupts) => interrupts,
        Err(error) => return ended(&mut screen, Err(error.into())).await,
    };
    tokio::select! {
        biased;
        () = interrupts.second() => ExitCode::Interrupted,
        code = async {
            let outcome = command(cli, &mut screen, &interrupts).await;
            ended(&mut screen, outcome).await
        } => code,
    }
}

/// A wrong command line, or one that asked for help.
async fn not_run(refused: &clap::Error) -> ExitCode {
    let mut screen = Screen::new(Format::Text, false);
    if refused.use_stderr() {
        screen.usage(&refused.to_string()).await;
        return ExitCode::Usage;
    }
    let help = refused.to_string();
    let outcome = screen.own_text(help.as_bytes()).await;
    ended(&mut screen, outcome).await
}

async fn ended(screen: &mut Screen, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::Success,
        Err(failure) => {
            screen.failure(&failure).await;
            failure.exit_code()
        }
    }
}

async fn command(cli: Cli, screen: &mut Screen, interrupts: &Interrupts) -> Result<(), Failure> {
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "rbee-keeper", &mut script);
        return screen.own_text(&script).await;
    }
    let target = Target::choose(&cli.global)?;
    match cli.command {
        // These two start a queen, and an interrupt must not leave half of one behind.
        Command::Infer(args) => infer::run(*args, &target, screen, interrupts).await,
        Command::Queen(Queen::Start) => queen::start(&target, screen).await,
        Command::Queen(command) => interrupts.or(queen::run(command, &target, screen)).await,
        Command::Worker(command) => interrupts.or(worker(command, &target, screen)).await,
        Command::Model(Model::List) => interrupts.or(models(&target, screen)).await,
        Command::Status => interrupts.or(status(&target, screen)).await,
        // Answered above.
        Command::Completions { .. } => Ok(()),
    }
}

async fn worker(command: Worker, target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let queen = target.running().await?;
    match command {
        Worker::List => {
            let list = queen.workers().await?;
            screen
                .document(&list, || text::workers(&list.workers))
                .await
        }
        Worker::Show { worker } => {
            let entry = queen.worker(&worker).await?;
            screen.document(&entry, || text::worker(&entry)).await
        }
        Worker::Logs { worker, lines } => {
            let log = queen.worker_logs(&worker, lines.lines).await?;
            screen.log(&log).await
        }
        Worker::Stop { worker, drain } => {
            queen.stop_worker(&worker, drain).await?;
            let stopped = serde_json::json!({ "stopped": [worker] });
            screen
                .document(&stopped, || format!("stopped worker {worker}\n"))
                .await
        }
    }
}

async fn models(target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let list = target.running().await?.catalog().await?;
    screen.document(&list, || text::models(&list.models)).await
}

async fn status(target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let queen = target.running().await?;
    let status = queen.status().await?;
    screen
        .document(&status, || text::status(&status, queen.base()))
        .await
}
