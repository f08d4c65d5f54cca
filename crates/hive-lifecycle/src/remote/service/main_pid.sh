# Exits with 0 if systemd started the process `$1`, else with 1. `$2` is `stop` to stop it: that
# keeps systemd from starting it again.
command -v systemctl >/dev/null || exit 1
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
pid=$(systemctl --user show --property=MainPID --value rbee-hive.service 2>/dev/null </dev/null)
[ "$pid" = "$1" ] || exit 1
[ "$2" != stop ] || systemctl --user stop --no-block rbee-hive.service </dev/null >&2
