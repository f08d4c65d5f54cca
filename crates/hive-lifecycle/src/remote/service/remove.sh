# Removes the unit, if it is that of the directory `$1`, and the directories that are empty then.
units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
unit=$units/rbee-hive.service
[ -e "$unit" ] && [ "$(sed -n 's/^# Directory: //p' "$unit")" = "$(at "$1")" ] || exit 0
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
systemctl --user --quiet disable rbee-hive.service </dev/null >&2
rm -f "$unit" "$units/default.target.wants/rbee-hive.service" || exit 1
systemctl --user daemon-reload </dev/null >&2
for empty in "$units/default.target.wants" "$units" "${units%/*}" "${units%/*/*}"; do
  [ ! -d "$empty" ] || rmdir "$empty" 2>/dev/null || break
done
exit 0
