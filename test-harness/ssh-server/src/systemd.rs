//! A service manager of the user, which systemd is on a real machine: `systemctl` and `loginctl`
//! as far as rbee calls them. It starts the command of a unit with the output of a unit, and
//! signals its main process only (`KillMode=process`).

use std::{fs, path::Path};

use anyhow::Result;

use crate::files;

const SYSTEMCTL: &str = r#"#!/bin/sh
state=STATE
echo "systemctl $*" >>"$state/calls"
units=$HOME/.config/systemd/user
alive() { pid=$(cat "$state/pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$pid/status"; }
quit() {
  ! alive || kill -s TERM "$pid"
  while alive; do sleep 0.05; done
}
[ "$1" = --user ] || exit 1
shift
[ "$1" != --quiet ] || shift
value() { sed -n "s/^$1=//p" "$units/rbee-hive.service"; }
case "$*" in
  is-system-running) echo running;;
  daemon-reload) :;;
  'enable rbee-hive.service')
    mkdir -p "$units/default.target.wants"
    ln -sf ../rbee-hive.service "$units/default.target.wants/rbee-hive.service";;
  'disable rbee-hive.service') rm -f "$units/default.target.wants/rbee-hive.service";;
  'restart rbee-hive.service')
    if grep -q broken "$state/linger"; then echo 'Failed to connect to bus' >&2; exit 1; fi
    quit
    [ "$(value KillMode)" = process ] || exit 1
    output=$(value StandardOutput)
    eval "set -- $(value ExecStart)"
    cd /
    setsid "$@" </dev/null >>"${output#append:}" 2>&1 &
    echo $! >"$state/pid";;
  'show --property=MainPID --value rbee-hive.service') if alive; then echo "$pid"; else echo 0; fi;;
  'stop rbee-hive.service') quit;;
  'stop --no-block rbee-hive.service') ! alive || kill -s TERM "$pid";;
  *) echo "unknown: $*" >&2; exit 1;;
esac
"#;

const LOGINCTL: &str = r#"#!/bin/sh
state=STATE
echo "loginctl $*" >>"$state/calls"
case "$*" in
  show-user*--property=Linger*) sed 's/denied/no/; s/broken/yes/' "$state/linger";;
  '--no-ask-password enable-linger')
    if grep -q denied "$state/linger"; then echo 'Interactive authentication required.' >&2; exit 1; fi
    echo yes >"$state/linger";;
  *) exit 1;;
esac
"#;

pub(crate) fn write(dir: &Path, linger: &str) -> Result<()> {
    let state = dir.join("systemd");
    fs::create_dir_all(&state)?;
    fs::write(state.join("linger"), format!("{linger}\n"))?;
    for (name, script) in [("systemctl", SYSTEMCTL), ("loginctl", LOGINCTL)] {
        let script = script.replace("STATE", &state.display().to_string());
        files::program(dir, name, &script)?;
    }
    Ok(())
}

pub(crate) fn calls(dir: &Path) -> String {
    fs::read_to_string(dir.join("systemd/calls")).unwrap_or_default()
}
