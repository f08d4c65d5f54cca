# Lets the services of the user run while nobody is logged in. Fails if that needs a password.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
loginctl --no-ask-password enable-linger </dev/null >&2 || exit 1
[ "$(loginctl show-user "$(id -un)" --property=Linger --value </dev/null)" = yes ]
