# Copies the programs from `$3` on, which were built in `$1`, to the version `$2`.
cd "$(at "$1")" || exit 1
version=bin/$2
shift 2
umask 077
mkdir -p "$version" || exit 1
for program in "$@"; do
  cp "build/target/release/$program" "$version/$program.new" || exit 1
  chmod 755 "$version/$program.new" && mv -f "$version/$program.new" "$version/$program" || exit 1
done
rm -rf build/source
