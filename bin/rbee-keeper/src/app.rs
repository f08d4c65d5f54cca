use clap::CommandFactory as _;
use clap_complete::Shell;
use diagnostics::{ExitCode, Narration};
use input_validation::{ModelRef, WorkerId};
use queen_contract::{Deployment, QueenClient, SpawnCall};
use rest_client::CallError;

use crate::{
    binaries,
    cli::{Cli, Command, Queen, SpawnArgs, Worker, WorkerArg},
    deploy, doctor,
    failure::Failure,
    infer,
    interrupt::Interrupts,
    models, node, policy, queen,
    render::{Format, Screen, decisions, engines, text},
    target::Target,
    values::{DrainArg, LinesArg},
};

/// Runs a command, prints its error if it fails, and returns the exit code.
pub(crate) async fn run(cli: Result<Cli, clap::Error>) -> ExitCode {
    let cli = match cli {
        Ok(cli) => cli,
        Err(message) => return print_clap_message(&message).await,
    };
    let format = match (cli.global.json, &cli.command) {
        (false, _) => Format::Text,
        (true, Command::Infer(_)) => Format::Events,
        (true, _) => Format::Document,
    };
    let mut screen = Screen::new(format, cli.global.quiet);
    let interrupts = match Interrupts::install() {
        Ok(interrupts) => interrupts,
        Err(error) => return report(&mut screen, Err(error.into())).await,
    };
    tokio::select! {
        biased;
        interrupt = interrupts.second() => interrupt.exit_code(),
        code = async {
            let outcome = Box::pin(execute(cli, &mut screen, &interrupts)).await;
            report(&mut screen, outcome).await
        } => code,
    }
}

/// Prints a usage error, or the help or version that was requested.
async fn print_clap_message(message: &clap::Error) -> ExitCode {
    let mut screen = Screen::new(Format::Text, false);
    let text = message.to_string();
    if message.use_stderr() {
        screen.usage_error(&text).await;
        return ExitCode::Usage;
    }
    let outcome = screen.plain(text.as_bytes()).await;
    report(&mut screen, outcome).await
}

async fn report(screen: &mut Screen, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::Success,
        Err(failure) => {
            screen.failure(&failure).await;
            failure.exit_code()
        }
    }
}

async fn execute(cli: Cli, screen: &mut Screen, interrupts: &Interrupts) -> Result<(), Failure> {
    if let Command::Completions { shell } = cli.command {
        return screen.plain(completion_script(shell).as_bytes()).await;
    }
    if let Command::Doctor(args) = cli.command {
        let examined = doctor::run(args, &cli.global, screen);
        return interrupts.unless_interrupted(examined).await;
    }
    let target = Target::select(&cli.global)?;
    match cli.command {
        // These two start a queen, and an interrupt must not leave a half-started one behind.
        Command::Infer(args) => infer::run(*args, &target, screen, interrupts).await,
        Command::Queen(Queen::Start) => queen::start(&target, screen).await,
        Command::Queen(command) => {
            interrupts
                .unless_interrupted(queen::run(command, &target, screen))
                .await
        }
        Command::Worker(command) => {
            interrupts
                .unless_interrupted(worker(command, &target, screen))
                .await
        }
        Command::Node(command) => node::run(command, &target, screen, interrupts).await,
        Command::Setup(command) => node::run(command.into(), &target, screen, interrupts).await,
        Command::Pull(args) => models::pull(args, &target, screen, interrupts).await,
        Command::Model(command) => models::run(command, &target, screen, interrupts).await,
        Command::Why { about, number } => {
            let explained = why(about.as_deref(), number, &target, screen);
            interrupts.unless_interrupted(explained).await
        }
        Command::Policy(command) => {
            let run = policy::run(command, &target, screen);
            interrupts.unless_interrupted(run).await
        }
        Command::Deploy(args) => deploy::deploy(*args, &target, screen, interrupts).await,
        Command::Undeploy(args) => {
            let undeployed = deploy::undeploy(args, &target, screen);
            interrupts.unless_interrupted(undeployed).await
        }
        Command::Deployments => {
            interrupts
                .unless_interrupted(deploy::list(&target, screen))
                .await
        }
        Command::WorkerBinary(command) => binaries::run(command, &target, screen, interrupts).await,
        Command::Status => interrupts.unless_interrupted(status(&target, screen)).await,
        // Handled above.
        Command::Completions { .. } | Command::Doctor(_) => Ok(()),
    }
}

fn completion_script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rbee-keeper", &mut script);
    let script = String::from_utf8_lossy(&script);
    match shell {
        // clap_complete replaces the hyphen of the command name in two different ways
        // (clap-rs/clap#6421), which breaks the completion of everything after a subcommand.
        Shell::Bash => script.replace("rbee__subcmd__keeper", "rbee__keeper"),
        _ => script.into_owned(),
    }
}

async fn worker(command: Worker, target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    match command {
        Worker::Spawn(args) => return spawn(args, target, screen).await,
        Worker::Engines { node } => {
            let (queen, _) = target.ensure_running().await?;
            let list = queen.engines(node.as_ref()).await?;
            return screen.document(&list, || engines::list(&list)).await;
        }
        _ => {}
    }
    let queen = target.running().await?;
    match command {
        // Handled above.
        Worker::Spawn(_) | Worker::Engines { .. } => Ok(()),
        Worker::List => {
            let list = queen.workers().await?;
            screen
                .document(&list, || text::workers(&list.workers))
                .await?;
            // The list says nothing of devices without workers.
            for node in queen
                .nodes()
                .await
                .map(|list| list.nodes)
                .unwrap_or_default()
            {
                for left in node.yielded {
                    let message = format!("node {}: {}", node.name, left.reason);
                    let note = Narration::info("queen", "yield", message);
                    screen.narrate(&note).await?;
                }
            }
            Ok(())
        }
        Worker::Show(WorkerArg { worker }) => {
            let entry = queen.worker(&worker).await?;
            screen.document(&entry, || text::worker(&entry)).await
        }
        Worker::Logs {
            worker: WorkerArg { worker },
            lines: LinesArg { lines },
        } => {
            let log = queen.worker_logs(&worker, lines).await?;
            screen.log(&log).await
        }
        Worker::Stop {
            worker: WorkerArg { worker },
            drain: DrainArg { drain },
            replace,
        } => {
            queen.stop_worker(&worker, drain, replace).await?;
            let stopped = serde_json::json!({ "stopped": [worker] });
            screen
                .document(&stopped, || format!("stopped worker {worker}\n"))
                .await?;
            // The worker is stopped, whether or not this can be found out.
            let Ok(Some(model)) = deployed_as(&worker, &queen).await else {
                return Ok(());
            };
            if replace {
                return Ok(());
            }
            let message = format!(
                "its deployment starts another worker; to end it: rbee-keeper undeploy {model}"
            );
            let note = Narration::info("queen", "deployment", message);
            screen.narrate(&note).await
        }
    }
}

/// Returns the model of a worker whose deployment replaces it when it is stopped.
async fn deployed_as(
    worker: &WorkerId,
    queen: &QueenClient,
) -> Result<Option<ModelRef>, CallError> {
    let mut deployments = queen.deployments().await?.deployments.into_iter();
    let replaces_it = |deployment: &Deployment| {
        let wanted = deployment.wanted.as_ref();
        wanted.is_some_and(|wanted| wanted.min_workers > 0)
            && (deployment.workers.iter()).any(|deployed| deployed.worker_id == *worker)
    };
    let found = deployments.find(replaces_it);
    Ok(found.map(|deployment| deployment.model))
}

async fn spawn(args: SpawnArgs, target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let (queen, _) = target.ensure_running().await?;
    let call = SpawnCall {
        model: args.model,
        node: args.node,
        backend: args.backend,
        engine: args.engine,
    };
    let spawned = queen.spawn_worker(&call).await?;
    screen.document(&spawned, || text::spawned(&spawned)).await
}

async fn why(
    about: Option<&str>,
    limit: u32,
    target: &Target,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let queen = target.running().await?;
    let list = queen.decisions(about, limit).await?;
    screen
        .document(&list, || decisions::list(&list.decisions))
        .await
}

async fn status(target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let queen = target.running().await?;
    let status = queen.status().await?;
    screen
        .document(&status, || text::status(&status, queen.base()))
        .await
}
