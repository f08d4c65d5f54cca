//! Scripts for the POSIX shell of a node. They are constants: what varies are their arguments.
//! `at` replaces `~/` ([`RemoteCommand`]).

use std::time::Duration;

use daemon_shell::{ProcessIdentity, Signal};
use ssh_link::RemoteCommand;

/// `runs PID START`: whether this process runs (proc(5)). See `daemon_shell::ProcessIdentity`.
macro_rules! with_runs {
    ($($script:tt)+) => {
        concat!(
            r#"
runs() {
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  start=$2
  set -- ${line##*)}
  { [ "$start" = any ] || [ "${20}" = "$start" ]; } || return 1
  case $1 in X) return 1;; Z) [ "${18}" -gt 1 ];; esac
}
"#,
            $($script)+
        )
    };
}
pub(super) use with_runs;

/// Status of [`start`] if the hive's binary is missing.
pub(super) const NOT_INSTALLED: i32 = 66;
/// Status of [`start`] if the hive exited.
pub(super) const EXITED: i32 = 70;
/// Status of [`start`] if the hive did not write its record in time.
pub(super) const TOO_SLOW: i32 = 71;

/// Prints the file `$1`, if it exists.
pub(super) fn read_file(name: &'static str, file: &str) -> RemoteCommand {
    let script = r#"file=$(at "$1"); [ ! -e "$file" ] || cat "$file""#;
    RemoteCommand::new(name, script).arg(file)
}

/// Exits with 0 if the process runs, else with 1.
pub(super) fn runs(process: ProcessIdentity) -> RemoteCommand {
    identity("find the hive", with_runs!(r#"runs "$1" "$2""#), process)
}

/// Ends when the process has exited, or when nobody reads its output any more.
pub(super) fn watch(process: ProcessIdentity) -> RemoteCommand {
    let script = with_runs!(r#"while runs "$1" "$2"; do sleep 1; printf .; done"#);
    // As long as the hive runs.
    identity("watch the hive", script, process).limit(Duration::from_secs(u32::MAX.into()))
}

/// Signals the process if it runs.
pub(super) fn signal(process: ProcessIdentity, signal: Signal) -> RemoteCommand {
    let script = with_runs!(r#"! runs "$1" "$2" || kill -s "$3" "$1""#);
    identity("signal the hive", script, process).arg(match signal {
        Signal::Term => "TERM",
        Signal::Kill => "KILL",
        Signal::Int => "INT",
    })
}

fn identity(name: &'static str, script: &'static str, process: ProcessIdentity) -> RemoteCommand {
    RemoteCommand::new(name, script)
        .arg(process.pid.to_string())
        .arg(process.start_time.to_string())
}

/// Starts the program `$1` with the arguments from `$6` on, independent of the session. Its
/// token is written from standard input to `$2`, its output to the log `$3`. Prints the record
/// `$4` when the process has written it, within `$5` tenths of a second; else the log.
pub(super) const START: &str = with_runs!(
    r#"
umask 077
program=$(at "$1") token=$(at "$2") log=$(at "$3") record=$(at "$4") tenths=$5
shift 5
[ -x "$program" ] || exit 66
mkdir -p "${token%/*}" "${log%/*}" || exit 1
cat >"$token.new" && mv -f "$token.new" "$token" || exit 1
if [ -e "$log" ] && [ "$(wc -c <"$log")" -gt 8388608 ]; then mv -f "$log" "${log%.log}.log.1"; fi
touch "$log" || exit 1
size=$(wc -c <"$log")
for argument in "$@"; do
  shift
  set -- "$@" "$(at "$argument")"
done
unset RBEE_HOME RBEE_LOG RBEE_HIVE_PORT RBEE_WORKER_PORTS
cd /
setsid=
if command -v setsid >/dev/null; then setsid=setsid; fi
trap '' HUP
$setsid "$program" "$@" </dev/null >>"$log" 2>&1 &
pid=$!
while [ "$tenths" -gt 0 ]; do
  if ! runs "$pid" any; then
    tail -c +$((size + 1)) "$log" | tail -c 8192
    exit 70
  fi
  if grep -q "\"pid\": *$pid[,}]" "$record" 2>/dev/null; then
    cat "$record"
    exit 0
  fi
  sleep 0.1 || exit 1
  tenths=$((tenths - 1))
done
kill -s KILL "$pid"
tail -c +$((size + 1)) "$log" | tail -c 8192
exit 71
"#
);

/// Prints the last `$2` lines of the log `$1`.
pub(super) fn tail(log: &str, lines: u32) -> RemoteCommand {
    let script = r#"log=$(at "$1"); [ ! -e "$log" ] || tail -n "$2" "$log""#;
    RemoteCommand::new("read a log", script)
        .arg(log)
        .arg(lines.to_string())
}

/// Prints the names of the files of the directory `$1` whose SHA-256 is as given: `$2` is the
/// name and `$3` the checksum of the first one, and so on.
pub(super) const HAVE: &str = r#"
dir=$(at "$1")
shift
while [ $# -gt 1 ]; do
  if [ -x "$dir/$1" ] && [ "$(sha256sum <"$dir/$1" 2>/dev/null)" = "$2  -" ]; then echo "$1"; fi
  shift 2
done
"#;

/// Prints the version of each program after `$1` in the directory `$1`.
pub(super) const VERSIONS: &str = r#"
dir=$(at "$1")
shift
for program in "$@"; do "$dir/$program" --version </dev/null || exit 1; done
"#;

/// Makes `$2` the current version in the directory `$1`, and the current one the previous one.
/// Removes other versions.
pub(super) const SWITCH: &str = r#"
cd "$(at "$1")" || exit 1
old=$(readlink current)
if [ "$old" != "$2" ]; then
  ln -sfn "$2" current.new && mv -fT current.new current || exit 1
  echo switched
  if [ -n "$old" ]; then ln -sfn "$old" previous.new && mv -fT previous.new previous; fi
fi
keep=$(readlink previous)
for version in *; do
  case $version in
    current|previous|"$2"|"$keep") ;;
    *) rm -rf "./$version" ;;
  esac
done
"#;

/// Makes the previous version in the directory `$1` the current one, and prints its name.
pub(super) const ROLL_BACK: &str = r#"
cd "$(at "$1")" 2>/dev/null || exit 66
new=$(readlink previous) && [ -x "$new/$2" ] || exit 66
old=$(readlink current)
ln -sfn "$new" current.new && mv -fT current.new current || exit 1
ln -sfn "$old" previous.new && mv -fT previous.new previous
echo "$new"
"#;

/// Removes what rbee has in the directory `$1`: the names after it. Removes the directory if it
/// is empty then.
pub(super) const REMOVE: &str = r#"
dir=$(at "$1")
shift
[ -d "$dir" ] || exit 0
cd "$dir" || exit 1
for name in "$@"; do rm -rf "./$name" || exit 1; done
cd / && rmdir "$dir" 2>/dev/null
exit 0
"#;
