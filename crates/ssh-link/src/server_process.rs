//! The process of the SSH server that serves a connection.
//!
//! A server that is frozen, or cut off without a message, keeps its connection and the ports that
//! it forwards. The next connection ends that process to have the ports.

use diagnostics::Diagnostic;

use crate::{RemoteCommand, SshSession};

/// Prints the pid and the start time (proc(5)) of the parent of the login shell.
const FIND: &str = r#"
line=$(cat "/proc/$PPID/stat" 2>/dev/null) || exit 0
set -- ${line##*)}
echo "$PPID ${20}"
"#;

/// Ends the process `$1` that started at `$2`, if it is an SSH server, and waits for its end.
const END: &str = r#"
runs() {
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  start=$2
  set -- ${line##*)}
  [ "${20}" = "$start" ] && [ "$1" != Z ]
}
runs "$1" "$2" || exit 0
case ${line%)*} in *"(sshd"*) ;; *) exit 0;; esac
kill -s KILL "$1" || exit 0
tenths=20
while [ "$tenths" -gt 0 ] && runs "$1" "$2"; do
  sleep 0.1
  tenths=$((tenths - 1))
done
"#;

/// Pid and start time, as the other machine prints them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerProcess(String, String);

impl SshSession {
    /// Returns the process that serves this connection. `None` if it cannot be identified.
    pub(crate) async fn server_process(&self) -> Result<Option<ServerProcess>, Diagnostic> {
        let output = self
            .run(&RemoteCommand::new("find the server", FIND))
            .await?;
        Ok(parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Ends the process that served an earlier connection, if it still runs.
    pub(crate) async fn end_server(&self, server: &ServerProcess) -> Result<(), Diagnostic> {
        let command = RemoteCommand::new("end the lost connection", END);
        let command = command.arg(&server.0).arg(&server.1);
        self.run(&command).await.map(drop)
    }
}

fn parse(text: &str) -> Option<ServerProcess> {
    let (pid, start) = text.trim().split_once(' ')?;
    let is_number = |text: &str| text.parse::<u64>().is_ok_and(|number| number > 1);
    (is_number(pid) && is_number(start)).then(|| ServerProcess(pid.to_owned(), start.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_is_accepted() {
        let found = ServerProcess("42".into(), "9000".into());
        assert_eq!(parse("42 9000\n"), Some(found));
        for text in ["", "1 9000", "-1 9000", "42", "42 x", "x 42"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
