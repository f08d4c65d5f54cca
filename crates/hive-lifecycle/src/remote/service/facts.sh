# Prints what this machine says about services of the user, as lines `key=value`. `$1` is rbee's
# directory.
say() { printf '%s=%s\n' "$1" "$2"; }
say directory "$(at "$1")"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
say manager "$(systemctl --user is-system-running 2>/dev/null </dev/null)"
say linger "$(loginctl show-user "$(id -un)" --property=Linger --value 2>/dev/null </dev/null)"
unit=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/rbee-hive.service
if [ -e "$unit" ]; then say unit "$(sed -n 's/^# Directory: //p' "$unit")"; fi
exit 0
