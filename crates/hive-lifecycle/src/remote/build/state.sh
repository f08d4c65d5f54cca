# Prints how the build in `build` of `$1` is: `running`, `lost`, or its status; then the commit, and
# the last line of the log `$2`.
log=$(at "$2")
cd "$(at "$1")/build" || exit 1
state=lost
if [ -e process ] && read -r pid start <process && runs "$pid" "$start"; then state=running; fi
# It may have ended since.
if [ -e status ]; then state=$(cat status); fi
echo "$state"
if [ -e commit ]; then cat commit; else echo; fi
tail -n 1 "$log"
