use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use diagnostics::Diagnostic;

use crate::errors;

/// Longest command in bytes. Linux passes at most 128 KiB in one argument (`MAX_ARG_STRLEN`,
/// execve(2)), and the whole command is one argument of the login shell.
const MAX_BYTES: usize = 120 << 10;
/// Printed before the output of a command. What login scripts print comes before it.
pub(crate) const MARK: &str = "rbee:begin\n";

/// Beginning of every script: the mark, and `at PATH`, which prints a path with `~/` replaced.
const PRELUDE: &str = r#"printf 'rbee:begin\n'
at() { case $1 in "~/"*) printf %s "$HOME/${1#"~/"}";; *) printf %s "$1";; esac; }
"#;

/// A script for the POSIX shell of the other machine, with arguments.
///
/// The script is a constant; everything else is an argument, which the script reads as `$1`,
/// `$2`. `$(at "$1")` is a path in which `~/` stands for the home directory of the user. An argument arrives byte for byte, whatever it contains and whatever the login shell
/// of the user is: see `encode`.
#[derive(Debug, Clone)]
pub struct RemoteCommand {
    /// What it does, for messages: `start the hive`.
    pub(crate) name: &'static str,
    script: &'static str,
    arguments: Vec<Vec<u8>>,
    pub(crate) stdin: Input,
    pub(crate) limit: Duration,
    pub(crate) max_output: usize,
}

/// The standard input of a command.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit status; 128 and the number of the signal if a signal ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, at most its first 16 KiB.
    pub stderr: String,
}

impl RemoteCommand {
    /// Creates a command. `name` says what it does: "start the hive".
    pub fn new(name: &'static str, script: &'static str) -> Self {
        Self {
            name,
            script,
            arguments: Vec::new(),
            stdin: Input::Bytes(Vec::new()),
            limit: Duration::from_secs(30),
            max_output: 1 << 20,
        }
    }

    /// Adds an argument. Other users of the machine can see arguments: use
    /// [`stdin`](Self::stdin) for secrets.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Sets the standard input. It is empty by default.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Sets the standard input to the content of a file of this machine.
    #[must_use]
    pub fn stdin_file(mut self, file: &Path) -> Self {
        self.stdin = Input::File(file.to_owned());
        self
    }

    /// Sets the time limit. It is 30 s by default.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the longest standard output in bytes. It is 1 MiB by default.
    #[must_use]
    pub fn max_output(mut self, bytes: usize) -> Self {
        self.max_output = bytes;
        self
    }

    /// Returns the command line for the login shell.
    pub(crate) fn line(&self) -> Result<String, Diagnostic> {
        let mut text = format!("{PRELUDE}set --").into_bytes();
        for argument in &self.arguments {
            if argument.contains(&0) {
                return Err(errors::argument_with_nul(self.name));
            }
            text.extend_from_slice(b" '");
            for byte in argument {
                match byte {
                    b'\'' => text.extend_from_slice(br"'\''"),
                    byte => text.push(*byte),
                }
            }
            text.push(b'\'');
        }
        text.push(b'\n');
        text.extend_from_slice(self.script.as_bytes());
        let line = encode(&text);
        if line.len() > MAX_BYTES {
            return Err(errors::command_too_long(self.name, line.len()));
        }
        Ok(line)
    }
}

/// Encodes a script for `sh` such that every login shell passes it on unchanged.
///
/// Login shells differ in how they quote (fish has escapes within single quotes, csh replaces
/// `!` and refuses newlines there), so every character that could be special for one of them
/// becomes a number, which the `printf` of `sh` decodes (`%b` in POSIX.1).
fn encode(script: &[u8]) -> String {
    let mut line = String::from("exec sh -c 'eval \"$(printf %b \"$0\")\"' '");
    for byte in script {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b" ./:=_,-".contains(byte) => {
                line.push(char::from(*byte));
            }
            // Writing to a string cannot fail.
            byte => drop(write!(line, "\\0{byte:03o}")),
        }
    }
    line.push('\'');
    line
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn run(command: &RemoteCommand) -> Vec<u8> {
        let line = command.line().unwrap();
        let output = Command::new("/bin/sh")
            .args(["-c", &line])
            .output()
            .unwrap();
        assert_eq!(output.stderr, b"");
        output
            .stdout
            .strip_prefix(MARK.as_bytes())
            .unwrap()
            .to_vec()
    }

    proptest! {
        #[test]
        fn no_character_of_an_argument_is_special_for_any_shell(
            argument in proptest::collection::vec(1..=u8::MAX, 0..200)
        ) {
            let line = RemoteCommand::new("test", "true").arg(argument).line().unwrap();
            let quoted = line.rsplit_once("' '").unwrap().1.strip_suffix('\'').unwrap();
            let plain = |c: char| c.is_ascii_alphanumeric() || " ./:=_,-\\".contains(c);
            prop_assert!(quoted.chars().all(plain), "{quoted}");
            // fish reads `\\` and `\'` within single quotes.
            prop_assert!(quoted.split('\\').skip(1).all(|rest| rest.starts_with('0')));
        }

        #[test]
        fn arguments_arrive_unchanged(
            arguments in proptest::collection::vec(
                proptest::collection::vec(1..=u8::MAX, 0..40), 0..4)
        ) {
            let script = "for a in \"$@\"; do printf '%s\\1' \"$a\"; done";
            let mut command = RemoteCommand::new("test", script);
            let mut expected = Vec::new();
            for argument in &arguments {
                command = command.arg(argument);
                expected.extend_from_slice(argument);
                expected.push(1);
            }
            prop_assert_eq!(run(&command), expected);
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let command = RemoteCommand::new("test", "true");
        assert!(command.clone().arg([0]).line().is_err());
        assert!(command.arg(vec![b'a'; MAX_BYTES]).line().is_err());
    }
}
