//! The scripts that run in the sandbox.

/// Evaluates the PKGBUILD `$1`, and prints its functions and values. What it prints itself is
/// dropped.
pub(crate) const EVALUATE: &str = r#"exec 3>&1 >/dev/null
shopt -u extglob
source "$1" </dev/null || true
for name in ${!source*} ${!sha256sums*} ${!sha512sums*} ${!b2sums*} ${!depends*} ${!makedepends*} pkgbase pkgname pkgver pkgrel epoch pkgdesc url arch license noextract; do
    builtin declare -p "$name" 2>/dev/null | while IFS= read -r line; do
        line=${line#declare -}
        builtin printf '%s\n' "${line#* }" >&3
    done
done
builtin printf 'functions\n' >&3
builtin declare -F | while read -r _ _ name; do builtin printf '%s\n' "$name" >&3; done
"#;

/// Runs the function `$2` of the PKGBUILD `$1`, as makepkg(8) does: with errors, and in `srcdir`.
/// `$3` is the package that was chosen of several.
pub(crate) const STEP: &str = r#"exec 3>&1 1>&2
shopt -u extglob
cd -- "$startdir"
source "$1"
if [ -n "$3" ]; then pkgname=$3; fi
cd -- "$srcdir"
set -o errexit -o errtrace
"$2" >&3
"#;
