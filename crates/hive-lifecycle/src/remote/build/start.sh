# Begins to build the repository `$2`, its branch `$3` if that is not empty, in the directory
# `build` of `$1`, independent of the session. The log is `$4`; the programs are those from `$5`
# on. Prints `under way` if the same build is running; status 73 if another one is.
dir=$(at "$1") repository=$2 branch=$3 log=$(at "$4")
shift 4
umask 077
mkdir -p "$dir/build" "${log%/*}" && cd "$dir/build" || exit 1
request=$(printf '%s\n%s\n' "$repository" "$branch")
if [ -e process ] && read -r pid start <process && runs "$pid" "$start"; then
  [ "$(cat request)" = "$request" ] || exit 73
  echo 'under way'
  exit 0
fi
rm -f status commit process
printf '%s\n' "$request" >request && : >"$log" || exit 1
setsid=
if command -v setsid >/dev/null; then setsid=setsid; fi
trap '' HUP
$setsid sh -c '
repository=$1 branch=$2
shift 2
build() {
  rm -rf source || return
  if [ -n "$branch" ]; then
    git clone --depth 1 --branch "$branch" -- "$repository" source || return
  else
    git clone --depth 1 -- "$repository" source || return
  fi
  target=$PWD/target
  cd source && git rev-parse HEAD >../commit || return
  for program in "$@"; do
    shift
    set -- "$@" --bin "$program"
  done
  CARGO_TARGET_DIR=$target cargo build --release --locked "$@"
}
PATH=$PATH:$HOME/.cargo/bin
export GIT_TERMINAL_PROMPT=0 GIT_ALLOW_PROTOCOL=https:http:ssh:git:file
export GIT_SSH_COMMAND="ssh -o BatchMode=yes" CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never
(build "$@")
echo $? >status.new && mv -f status.new status
' sh "$repository" "$branch" "$@" </dev/null >>"$log" 2>&1 &
pid=$!
line=$(cat "/proc/$pid/stat") || exit 1
set -- ${line##*)}
echo "$pid ${20}" >process
