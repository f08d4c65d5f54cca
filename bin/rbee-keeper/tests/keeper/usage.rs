//! Invalid command lines, help and completions.

use input_validation::WorkerId;

use crate::fake::{Finished, KEEPER, isolated, keeper, run};

const TRY_HELP: &str = "For more information, try '--help'.\n";

/// Hint for a text that is neither a model reference nor a path.
const PATH: &str = "\n\nhint: use `hf:org/repo`, `ollama:name:tag`, `builtin:haiku`, or a path such as `./model.gguf`";

/// Returns message and hint of an invalid value.
fn reason<T: std::str::FromStr<Err = diagnostics::Diagnostic>>(text: &str) -> String {
    let error = text.parse::<T>().err().unwrap();
    format!("{}\n\nhint: {}", error.message, error.hint.unwrap())
}

#[tokio::test]
async fn invalid_command_lines_exit_with_2() {
    let hostile = "\u{1b}[31mx\u{7}";
    for (arguments, error) in [
        (
            &["infer", "--model", "a b", "Hi"][..],
            format!(
                "invalid value 'a b' for '--model <MODEL>': not a model reference: \"a b\"{PATH}"
            ),
        ),
        (
            &["infer", "--model", hostile, "Hi"],
            format!(
                "invalid value 'x' for '--model <MODEL>': not a model reference: \
                 \"\\u{{1b}}[31mx\\u{{7}}\"{PATH}"
            ),
        ),
        (
            &["worker", "show", "../x"],
            format!(
                "invalid value '../x' for '<WORKER>': {}",
                reason::<WorkerId>("../x")
            ),
        ),
        (
            &["infer", "--zzz", "Hi"],
            "unexpected argument '--zzz' found\n\n  \
             tip: to pass '--zzz' as a value, use '-- --zzz'\n\n\
             Usage: rbee-keeper infer [OPTIONS] [PROMPT]..."
                .to_owned(),
        ),
        (
            &["xyzzy"],
            "unrecognized subcommand 'xyzzy'\n\n\
             Usage: rbee-keeper [OPTIONS] <COMMAND>"
                .to_owned(),
        ),
    ] {
        assert_eq!(
            run(keeper(arguments)).await,
            Finished::new(2, "", format!("error: {error}\n\n{TRY_HELP}"))
        );
    }
}

#[tokio::test]
async fn variables_that_are_set_to_nothing_are_not_set() {
    let home = tempfile::tempdir().unwrap();
    let status = || {
        let mut command = keeper(&["queen", "status"]);
        command.env("HOME", home.path());
        command
    };
    let mut command = status();
    for variable in [
        "RBEE_HOME",
        "RBEE_QUEEN_URL",
        "RBEE_TOKEN_FILE",
        "RBEE_QUEEN_PORT",
        "RBEE_HIVE_PORT",
        "RBEE_WORKER_PORTS",
        "RBEE_QUEEN_BINARY",
    ] {
        command.env(variable, "");
    }
    let finished = run(command).await;
    assert_eq!(finished, run(status()).await);
    assert_ne!(finished.code, Some(2), "{}", finished.err);
}

#[tokio::test]
async fn the_usage_does_not_name_options_that_come_from_the_environment() {
    let arguments = ["deploy", "mock:a", "--file", "models.toml"];
    let plain = run(keeper(&arguments)).await;
    assert_eq!(plain.code, Some(2));
    let mut command = keeper(&arguments);
    command
        .env("RBEE_HOME", "/nowhere")
        .env("RBEE_QUEEN_PORT", "1");
    assert_eq!(run(command).await, plain);
    // A wrong value is the reason wherever it is from.
    let mut command = keeper(&["status"]);
    command.env("RBEE_QUEEN_PORT", "x");
    let wrong = run(command).await;
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong
            .err
            .contains("invalid value 'x' for '--queen-port <PORT>'"),
        "{}",
        wrong.err
    );
}

#[tokio::test]
async fn a_file_of_deployments_that_cannot_be_read_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("models.toml");
    for (path, reason) in [
        (missing.as_path(), "there is no such file"),
        (dir.path(), "it is a directory"),
    ] {
        let path = path.to_str().unwrap();
        let finished = run(keeper(&["deploy", "--file", path])).await;
        assert_eq!(finished.code, Some(1), "{}", finished.err);
        let message = format!("cannot read the deployments in {path}: {reason}");
        assert!(finished.err.contains(&message), "{}", finished.err);
    }
}

#[tokio::test]
async fn missing_command_prints_help_and_exits_with_2() {
    let help = run(keeper(&["--help"])).await;
    assert_eq!(run(keeper(&[])).await, Finished::new(2, "", help.out));
}

#[tokio::test]
async fn help_describes_every_command() {
    let root = run(keeper(&["--help"])).await.out;
    let start = root.find("Global options:\n").unwrap();
    let end = start + root[start..].find("\n\n").unwrap() + 1;
    let global = &root[start..end];
    let mut texts = vec![format!("$ rbee-keeper --help\n{root}")];
    for command in [
        "infer",
        "queen",
        "queen start",
        "queen stop",
        "queen status",
        "queen logs",
        "worker",
        "worker list",
        "worker spawn",
        "worker engines",
        "worker show",
        "worker logs",
        "worker stop",
        "node",
        "node add",
        "node list",
        "node show",
        "node update",
        "node remove",
        "node invite",
        "node invitations",
        "node uninvite",
        "node install",
        "node upgrade",
        "node uninstall",
        "node yield",
        "node resume",
        "node set",
        "node sleep",
        "node wake",
        "node logs",
        "model",
        "pull",
        "model list",
        "model show",
        "model pull",
        "model remove",
        "model verify",
        "model prune",
        "model update",
        "model alias",
        "model backup",
        "model restore",
        "worker-binary",
        "worker-binary list",
        "worker-binary show",
        "worker-binary catalog",
        "worker-binary provision",
        "worker-binary remove",
        "worker-binary rollback",
        "status",
        "why",
        "policy",
        "policy show",
        "policy test",
        "doctor",
        "completions",
    ] {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = run(keeper(&arguments)).await;
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""), "{command}");
        // Every command repeats the global options.
        let (before, after) = help.out.split_once(global).unwrap();
        texts.push(format!(
            "\n$ rbee-keeper {command} --help\n{before}[global options]\n{after}"
        ));
    }
    assert_eq!(texts.concat(), include_str!("help.txt"));
}

#[tokio::test]
async fn version_is_printed() {
    let version = format!("rbee-keeper {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        run(keeper(&["--version"])).await,
        Finished::new(0, version, "")
    );
}

#[tokio::test]
async fn bash_completes_commands() {
    let script = r#"
        source <("$0" completions bash)
        [[ $(complete -p rbee-keeper) == *" -F _rbee__keeper rbee-keeper" ]] && echo registered
        COMP_WORDS=(rbee-keeper queen st) COMP_CWORD=2
        _rbee__keeper rbee-keeper st queen
        echo "${COMPREPLY[@]}"
    "#;
    let mut bash = isolated("/bin/bash");
    bash.args(["--norc", "-c", script, KEEPER]);
    assert_eq!(
        run(bash).await,
        Finished::new(0, "registered\nstart stop status\n", "")
    );
}

#[tokio::test]
async fn missing_file_descriptors_are_an_error() {
    let mut shell = isolated("/bin/sh");
    shell.args(["-c", "ulimit -n 4; exec \"$0\" status", KEEPER]);
    assert_eq!(
        run(shell).await,
        Finished::new(
            1,
            "",
            "error: cannot start the async runtime: Too many open files (os error 24)\n\n\
             hint: raise the limits of open files and processes: `ulimit -n`, `ulimit -u`\n"
        )
    );
}
