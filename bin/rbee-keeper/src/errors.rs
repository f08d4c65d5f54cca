//! The errors of the keeper. Each constructor returns a message and a hint.

use std::{io, path::Path};

use diagnostics::{Code, Diagnostic, excerpt};
use input_validation::{ModelRef, NodeName, PackageId, WorkerType};
use state_files::Home;

/// Message of [`no_queen`], which is also the result of `queen stop` without a queen.
pub(crate) const NO_QUEEN: &str = "no queen is running";

const PASS_PROMPT: &str =
    "pass a prompt, for example `rbee-keeper infer \"Write a haiku\"`, or pipe one in";

/// Hint for a queen that left hives and workers behind.
const STOP_LEFT_BEHIND: &str = "run `rbee-keeper queen stop` to stop them";

fn usage(message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, message)
}

fn unreachable(message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Code::QueenUnreachable, message)
}

pub(crate) fn invalid_queen_url(text: &str) -> Diagnostic {
    usage(format!("not a queen address: \"{}\"", excerpt(text, 120)))
        .hint("use an address such as `http://127.0.0.1:8500`")
}

pub(crate) fn invalid_number(text: &str, min: f32, max: f32) -> Diagnostic {
    usage(format!("invalid number: \"{}\"", excerpt(text, 40)))
        .hint(format!("use a number between {min} and {max}"))
}

pub(crate) fn pull_cancelled(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::Cancelled,
        format!("the download of {model} was cancelled"),
    )
    .hint(continue_pull(model))
}

pub(crate) fn provision_cancelled(worker_type: &WorkerType) -> Diagnostic {
    Diagnostic::new(
        Code::Cancelled,
        format!("the provisioning of {worker_type} was cancelled"),
    )
    .hint("nothing was changed; the version that was used before stays in use")
}

pub(crate) fn unreadable_signature(file: &Path, error: &io::Error) -> Diagnostic {
    usage(format!(
        "cannot read the signature {}: {error}",
        file.display()
    ))
    .hint("name the `.minisig` file of the download")
}

pub(crate) fn unreadable_policy(file: &Path, error: &io::Error) -> Diagnostic {
    let file = excerpt(&file.display().to_string(), 200);
    usage(format!("cannot read the script {file}: {error}"))
        .hint("name a file with a script, or leave it out to test the one in use")
}

pub(crate) fn unreadable_pkgbuild(file: &Path, error: &io::Error) -> Diagnostic {
    usage(format!(
        "cannot read the package {}: {error}",
        file.display()
    ))
    .hint("name its PKGBUILD, or a package that `rbee-keeper worker-binary catalog` lists")
}

pub(crate) fn approval_without_hash(file: &Path) -> Diagnostic {
    usage(format!(
        "`--approve` needs the SHA-256 of {}, which nobody has signed",
        file.display()
    ))
    .hint("read it, and pass what `sha256sum PKGBUILD` prints")
}

pub(crate) fn option_of_a_file(id: &PackageId) -> Diagnostic {
    usage(format!(
        "`--package-name` and `--allow-unverified` are for a PKGBUILD; {id} is a package of the \
         catalog"
    ))
    .hint("leave them out")
}

/// What happens with an incomplete download.
pub(crate) fn unreadable_deployments(file: &Path, reason: &str) -> Diagnostic {
    let file = excerpt(&file.display().to_string(), 200);
    Diagnostic::new(
        Code::InvalidRequest,
        format!(
            "cannot read the deployments in {file}: {}",
            reason.trim_end()
        ),
    )
    .hint("`rbee-keeper deploy --help` shows an example of a file")
}

pub(crate) fn only_without_file() -> Diagnostic {
    usage("`--only` removes all deployments that a file does not describe")
        .hint("pass the file with `--file`, or leave out `--only`")
}

pub(crate) fn not_deployed(model: &ModelRef, state: &str, reason: &str) -> Diagnostic {
    Diagnostic::new(
        Code::WorkerStartFailed,
        format!("{model} is deployed, but not all of its workers run ({state}): {reason}"),
    )
    .hint(format!(
        "rbee tries again; `rbee-keeper deployments` shows the state, `rbee-keeper why {model}` the reasons, and `rbee-keeper undeploy {model}` ends it"
    ))
}

pub(crate) fn continue_pull(model: &ModelRef) -> String {
    format!("what was fetched is kept; `rbee-keeper pull {model}` continues it")
}

pub(crate) fn change_continues(node: &NodeName) -> String {
    format!("the queen completes what it began; `rbee-keeper node show {node}` shows the result")
}

pub(crate) fn unreadable_result(error: &serde_json::Error) -> Diagnostic {
    unreachable(format!("cannot parse the result of the job: {error}"))
}

pub(crate) fn no_alias_target() -> Diagnostic {
    usage("no model for the name").hint(
        "pass a model, for example `rbee-keeper model alias small hf:org/repo`, or `--remove`",
    )
}

pub(crate) fn damaged_files(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::ChecksumMismatch,
        format!("files of {model} are damaged or missing"),
    )
    .hint(format!("`rbee-keeper pull {model}` fetches them again"))
}

pub(crate) fn unusable_model_path(text: &str, reason: &io::Error) -> Diagnostic {
    let path = excerpt(text, 200);
    let message = format!("cannot use the model path \"{path}\": {reason}");
    Diagnostic::new(Code::InvalidModelRef, message)
        .hint("pass the path of an existing GGUF file or of a directory with safetensors")
}

pub(crate) fn model_is_url(text: &str) -> Diagnostic {
    let message = format!("a model cannot be a URL: \"{}\"", excerpt(text, 200));
    Diagnostic::new(Code::InvalidModelRef, message)
        .hint("download the file and pass its path, for example `--model ./model.gguf`")
}

/// Names paths in the hint of a text that is not a model reference.
pub(crate) fn with_path_hint(error: Diagnostic) -> Diagnostic {
    error.hint(
        "use `hf:org/repo`, `ollama:name:tag`, `builtin:haiku`, or a path such as `./model.gguf`",
    )
}

pub(crate) fn no_prompt() -> Diagnostic {
    usage("no prompt").hint(PASS_PROMPT)
}

pub(crate) fn empty_prompt() -> Diagnostic {
    usage("the prompt is empty").hint(PASS_PROMPT)
}

pub(crate) fn stdin_unreadable(error: &io::Error) -> Diagnostic {
    usage(format!("cannot read standard input: {error}")).hint("pass the prompt as an argument")
}

pub(crate) fn prompt_too_long(limit_bytes: usize) -> Diagnostic {
    usage(format!("the prompt is longer than {limit_bytes} bytes")).hint("shorten the prompt")
}

/// The error for a prompt that is valid UTF-8 only up to `offset`.
pub(crate) fn prompt_not_utf8(offset: usize) -> Diagnostic {
    usage(format!(
        "the prompt is not valid UTF-8: invalid byte at offset {offset}"
    ))
    .hint("convert it to UTF-8, for example with `iconv -t UTF-8`")
}

pub(crate) fn invalid_schema_file(path: &Path, reason: &str) -> Diagnostic {
    let path = excerpt(&path.display().to_string(), 200);
    usage(format!("cannot use `--json-schema {path}`: {reason}"))
        .hint("pass a file that contains a JSON schema, for example `{\"type\": \"object\"}`")
}

pub(crate) fn queen_not_managed(url: &str) -> Diagnostic {
    usage(format!(
        "cannot manage the queen at {url}, which was specified with `--queen` or `RBEE_QUEEN_URL`"
    ))
    .hint("leave out `--queen` and unset `RBEE_QUEEN_URL` to manage the queen of `--home`")
}

pub(crate) fn ssh_key_not_found(path: &Path) -> Diagnostic {
    let shown = excerpt(&path.display().to_string(), 200);
    Diagnostic::new(
        Code::SshKeyNotFound,
        format!("the key file {shown} does not exist"),
    )
    .hint("`ls ~/.ssh` lists your keys; without `--key`, ssh tries those of its configuration and of `ssh-add -l`")
}

pub(crate) fn option_of_other_link(option: &str, link: &str) -> Diagnostic {
    usage(format!("the link {link} has no option `{option}`"))
        .hint("leave it out, or choose the other link with `--link ssh` or `--link direct`")
}

pub(crate) fn invalid_expiry(text: &str) -> Diagnostic {
    usage(format!("not a time: \"{}\"", excerpt(text, 40)))
        .hint("use a whole number and a unit, at most 30 days, for example 30m, 2h or 7d")
}

pub(crate) fn invalid_sleep_time(text: &str) -> Diagnostic {
    usage(format!("not a time: \"{}\"", excerpt(text, 40)))
        .hint("use a whole number and a unit, at most 30 days, for example 30m or 2h, or `never`")
}

/// An invitation is written to a new file only, so that no other file is lost.
pub(crate) fn invitation_not_written(path: &Path, cause: &io::Error) -> Diagnostic {
    let path = excerpt(&path.display().to_string(), 200);
    usage(format!("cannot create {path}: {cause}"))
        .hint("choose the name of a file that does not exist, in a directory that does")
}

pub(crate) fn no_hive_url() -> Diagnostic {
    usage("the link direct requires the address of the hive")
        .hint("pass it with `--url`, for example `--url http://127.0.0.1:9300`")
}

pub(crate) fn call_ended_early() -> Diagnostic {
    unreachable("the response of the queen ended before its result")
        .hint("`rbee-keeper node list` shows the nodes, `rbee-keeper queen logs` why it ended")
}

pub(crate) fn no_queen() -> Diagnostic {
    unreachable(NO_QUEEN)
        .hint("start a queen with `rbee-keeper queen start`; `rbee-keeper infer` also starts one")
}

pub(crate) fn queen_binary_not_located(error: &io::Error) -> Diagnostic {
    Diagnostic::internal(format!("cannot locate the queen-rbee binary: {error}"))
        .hint("pass its absolute path with `--queen-binary`")
}

pub(crate) fn response_ended_early(url: &str) -> Diagnostic {
    with_default_hint(unreachable(format!(
        "the stream from the queen at {url} ended before the response was complete"
    )))
}

/// The error for a queen that was started for one request and exited during the request.
pub(crate) fn ephemeral_queen_exited() -> Diagnostic {
    unreachable(
        "the queen started for this request has exited; its hives and workers may still be running",
    )
    .hint(format!(
        "see `rbee-keeper queen logs` for the cause; {STOP_LEFT_BEHIND}"
    ))
}

/// The error for a queen that had to be stopped with a signal instead of stopping its
/// workers and hives first.
pub(crate) fn queen_killed(pid: u32, signal: &str, reason: &Diagnostic) -> Diagnostic {
    unreachable(format!(
        "the queen (pid {pid}) had to be stopped with {signal}; its hives and workers may still \
         be running: {reason}"
    ))
    .hint(STOP_LEFT_BEHIND)
}

/// Adds a hint to an error from the queen specified with `--queen`, if it has none.
pub(crate) fn with_address_hint(error: Diagnostic) -> Diagnostic {
    match error {
        Diagnostic {
            code: Code::QueenUnreachable,
            hint: None,
            ..
        } => error.hint("check the address in `--queen` or `RBEE_QUEEN_URL`"),
        _ => error,
    }
}

/// Replaces hints that address other clients of the queen, and adds a hint to errors whose
/// code allows one.
pub(crate) fn with_default_hint(error: Diagnostic) -> Diagnostic {
    match (error.code, &error.hint) {
        (Code::MissingApiKey | Code::InvalidApiKey, _) => error.hint(format!(
            "pass the queen's token with `--token-file`; on the queen's machine the token is in \
             `{}` in rbee's home directory",
            Home::QUEEN_TOKEN
        )),
        (Code::QueenUnreachable, None) => {
            error.hint("check with `rbee-keeper queen status` whether the queen is still running")
        }
        (Code::NoChatTemplate, _) => error.hint(
            "leave out `--system`, and the model continues the prompt as it is, as with `--raw`",
        ),
        (Code::Internal, None) => error.hint("report this as a bug in rbee"),
        _ => error,
    }
}

/// The error of an interrupted command in JSON output. It has no hint: the user stopped the
/// command.
pub(crate) fn interrupted() -> Diagnostic {
    Diagnostic::new(Code::Cancelled, "interrupted")
}

pub(crate) fn no_runtime(error: &io::Error) -> Diagnostic {
    Diagnostic::internal(format!("cannot start the async runtime: {error}"))
        .hint("raise the limits of open files and processes: `ulimit -n`, `ulimit -u`")
}

pub(crate) fn no_signal_handler(error: &io::Error) -> Diagnostic {
    with_default_hint(Diagnostic::internal(format!(
        "cannot install a signal handler: {error}"
    )))
}

pub(crate) fn output_failed(error: &io::Error) -> Diagnostic {
    let (code, hint) = match error.kind() {
        io::ErrorKind::StorageFull => (Code::DiskFull, "free disk space for the output"),
        _ => (
            Code::Internal,
            "check the file or device that standard output is redirected to",
        ),
    };
    Diagnostic::new(code, format!("cannot write the output: {error}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_except_an_interrupt_has_a_hint() {
        let io_error = io::Error::other("e");
        for error in [
            invalid_queen_url("x"),
            invalid_number("x", 0.0, 1.0),
            unusable_model_path("x", &io_error),
            model_is_url("x"),
            no_prompt(),
            empty_prompt(),
            stdin_unreadable(&io_error),
            prompt_too_long(1),
            prompt_not_utf8(0),
            invalid_schema_file(Path::new("x"), "r"),
            queen_not_managed("u"),
            no_queen(),
            queen_binary_not_located(&io_error),
            response_ended_early("u"),
            ephemeral_queen_exited(),
            queen_killed(1, "SIGKILL", &unreachable("r")),
            no_runtime(&io_error),
            no_signal_handler(&io_error),
            output_failed(&io_error),
        ] {
            assert!(error.hint.is_some(), "{error}");
        }
        assert_eq!(interrupted().hint, None);
    }

    #[test]
    fn errors_get_the_hint_of_their_code() {
        let hint = |code, hint: Option<&str>| {
            let mut error = Diagnostic::new(code, "m");
            error.hint = hint.map(str::to_owned);
            with_default_hint(error).hint
        };
        let token = format!(
            "pass the queen's token with `--token-file`; on the queen's machine the token is in \
             `{}` in rbee's home directory",
            Home::QUEEN_TOKEN
        );
        let token = Some(token.as_str());
        let keep = Some("keep");
        for (code, before, after) in [
            (Code::MissingApiKey, Some("send a header"), token),
            (Code::InvalidApiKey, None, token),
            (
                Code::QueenUnreachable,
                None,
                Some("check with `rbee-keeper queen status` whether the queen is still running"),
            ),
            (Code::QueenUnreachable, keep, keep),
            (Code::Internal, None, Some("report this as a bug in rbee")),
            (Code::Internal, keep, keep),
            (Code::WorkerStalled, None, None),
        ] {
            assert_eq!(hint(code, before).as_deref(), after, "{code:?}");
        }
    }

    #[test]
    fn only_errors_without_a_hint_get_the_address_hint() {
        let error = with_address_hint(unreachable("m"));
        let hint = "check the address in `--queen` or `RBEE_QUEEN_URL`";
        assert_eq!(error, unreachable("m").hint(hint));
        for other in [unreachable("m").hint("keep"), usage("m")] {
            assert_eq!(with_address_hint(other.clone()), other);
        }
    }

    #[test]
    fn output_errors_name_the_cause() {
        let error = |kind| output_failed(&io::Error::new(kind, "e"));
        let full = error(io::ErrorKind::StorageFull);
        assert_eq!(full.code, Code::DiskFull);
        assert_eq!(full.message, "cannot write the output: e");
        assert_eq!(full.hint.as_deref(), Some("free disk space for the output"));
        assert_eq!(error(io::ErrorKind::Other).code, Code::Internal);
    }
}
