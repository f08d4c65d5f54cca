# Starts the program `$1` by systemd with the unit `$6`, as START does: its token is written from
# standard input to `$2`, its log is `$3`. Prints the record `$4` when the process has written it,
# within `$5` tenths of a second; else the log.
umask 077
program=$(at "$1") token=$(at "$2") log=$(at "$3") record=$(at "$4") tenths=$5 text=$6
[ -x "$program" ] || exit 66
mkdir -p "${token%/*}" "${log%/*}" || exit 1
cat >"$token.new" && mv -f "$token.new" "$token" || exit 1
if [ -e "$log" ] && [ "$(wc -c <"$log")" -gt 8388608 ]; then mv -f "$log" "${log%.log}.log.1"; fi
touch "$log" || exit 1
size=$(wc -c <"$log")
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
mkdir -p "$units" && printf %s "$text" >"$units/rbee-hive.service.new" || exit 1
mv -f "$units/rbee-hive.service.new" "$units/rbee-hive.service" || exit 1
systemctl --user daemon-reload </dev/null >&2 || exit 1
systemctl --user --quiet enable rbee-hive.service </dev/null >&2 || exit 1
systemctl --user restart rbee-hive.service </dev/null >&2 || exit 1
status=71
while [ "$tenths" -gt 0 ]; do
  pid=$(systemctl --user show --property=MainPID --value rbee-hive.service </dev/null)
  if [ "${pid:-0}" = 0 ]; then
    status=70
    break
  fi
  if grep -q "\"pid\": *$pid[,}]" "$record" 2>/dev/null; then
    cat "$record"
    exit 0
  fi
  sleep 0.1 || exit 1
  tenths=$((tenths - 1))
done
systemctl --user stop rbee-hive.service </dev/null >&2
tail -c +$((size + 1)) "$log" | tail -c 8192
exit "$status"
