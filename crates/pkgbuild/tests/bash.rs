//! Values are those that bash computes, or bash is asked for.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, process::Command};

use pkgbuild::{NeedsBash, PkgbuildError, Script, Value, Variables};
use proptest::prelude::*;

fn preset() -> Variables {
    let mut variables = Variables::default();
    variables.set("CARCH", Value::Text("x86_64".to_owned()));
    variables
}

fn evaluate(text: &str) -> Result<Variables, Vec<NeedsBash>> {
    let script = Script::parse(text.as_bytes()).unwrap();
    script.evaluate(&preset())
}

/// Evaluates a script by bash, and reads what it prints of these variables.
fn by_bash(text: &str, names: &[&str]) -> Variables {
    let script = format!(
        "{text}\nfor v in {}; do declare -p \"$v\" 2>/dev/null | sed 's/^declare -[^ ]* //'; done",
        names.join(" ")
    );
    let output = Command::new("bash")
        .args(["--noprofile", "--norc", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("CARCH", "x86_64")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Variables::from_declarations(&output.stdout).unwrap()
}

/// Compares all variables of a script that the crate can evaluate.
fn agrees(text: &str) -> Variables {
    let ours = evaluate(text).unwrap_or_else(|needs| panic!("{text}\n{needs:?}"));
    let names: Vec<&str> = ours.names().collect();
    assert_eq!(ours, by_bash(text, &names), "{text}");
    ours
}

#[test]
fn recipes_of_many_shapes_have_the_values_of_bash() {
    let values = agrees(
        r#"
# Maintainer: somebody
pkgname=tool-bin
_name=${pkgname%-bin}
_tag=v1.2.3-rc1
pkgver=${_tag#v}
pkgver=${pkgver//-/_}
pkgrel=1
epoch=1
pkgdesc="The $_name, \"quoted\" and \$literal"
arch=('x86_64' "aarch64")
license=(MIT)
depends=(glibc 'gcc-libs>=12')
depends+=(openssl)
url='https://a.example'
_files=(a{1,2}.patch "b c.patch")
source=("$_name-$pkgver.tar.gz::$url/archive/${_tag}.tar.gz"
        "${_files[@]}"
        # a comment
        $_name.service)
source_x86_64=($url/$_name-$CARCH.tar.gz)
source+=("${pkgname}.install")
sha256sums=('SKIP'
  'SKIP')
_commit=0123456789abcdef
_short=${_commit:0:7}${_commit: -2}
_upper=${_name^^}${_name^}
_parts=${#_files[@]}:${#_commit}:${_files[1]}
_default=${_unset:-$_name}${_unset-x}${_name:+y}
_last=${url##*/}:${url%%:*}
_strip=("${_files[@]%.patch}")

prepare() {
  cat > x <<-EOF
	pkgname=evil
	EOF
  if true; then _name=other; fi
}
build () { make "${x[@]}"; }
function check { :; }
package() (
  install -Dm755 tool "$pkgdir/usr/bin/tool"
)
"#,
    );
    assert_eq!(values.text("pkgver"), "1.2.3_rc1");
    assert_eq!(values.list("source").len(), 6);
    assert_eq!(values.text("_short"), "0123456ef");
    let functions = Script::parse(b"a() { :; }\nfunction b { :; }\nc() (:)\n").unwrap();
    assert!(functions.functions().iter().eq(["a", "b", "c"]));
}

#[test]
fn what_only_bash_can_evaluate_is_named_with_its_line() {
    for (text, what) in [
        ("a=1\nb=$(date)", "the output of a command"),
        ("\nb=`date`", "the output of a command"),
        ("\n[ x = y ] && b=1", "several commands in one statement"),
        ("\nif true; then b=1; fi", "a compound command"),
        ("\n[[ -n $x ]]", "a test"),
        ("\nexport b=1", "a command"),
        ("\nb=1 make", "a command"),
        ("\nb[3]=1", "an assignment to an element of an array"),
        ("\nb=([3]=1)", "an array with indices"),
        ("\nb=$HOME", "a variable of the environment"),
        ("\nb=$srcdir/x", "a variable of the environment"),
        ("\nb=(*.patch)", "a pattern of file names"),
        (
            "b=\"x y\"\nc=($b)",
            "an unquoted value that is split into words",
        ),
        ("\nb=~/x", "a home directory"),
        ("\nb=$((1+1))", "an arithmetic expression"),
        ("\nb=$'\\n'", "a value in `$'…'`"),
        ("\nb=${!a}", "an indirect expansion"),
        ("\nb=${a//[0-9]/x}", "a complex pattern"),
        ("\nb=$1", "a parameter of the shell"),
        ("\nIFS=:", "an assignment to IFS"),
        ("\nb=({1..3})", "a sequence in braces"),
    ] {
        let needs = evaluate(text).unwrap_err();
        let expected = NeedsBash { line: 2, what };
        assert_eq!(needs, [expected], "{text}");
    }
}

#[test]
fn other_texts_are_refused() {
    for text in ["a=(", "f() {", "if x", "a='", "\0", "a=\"$(\""] {
        assert!(Script::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    assert!(Script::parse(b"a=\xff").is_err());
    assert!(Script::parse("a".repeat(100_000).as_bytes()).is_err());
    for (open, close) in [
        ("(", ")"),
        ("{ ", "; }"),
        ("$(", ")"),
        ("if ", ""),
        ("! ", ""),
    ] {
        let nested = format!("{}x{}", open.repeat(2001), close.repeat(2001));
        let error = Script::parse(nested.as_bytes()).unwrap_err();
        assert!(
            matches!(error, PkgbuildError::TooComplex(_)),
            "{open}: {error}"
        );
        // The most that is parsed does not exhaust the stack.
        let nested = format!("{}x{}", open.repeat(1990), close.repeat(1990));
        let _ = Script::parse(nested.as_bytes());
    }
    for text in ["x", "a=$(b)", "f() { :; }"] {
        assert!(Variables::from_declarations(text.as_bytes()).is_err());
    }
}

/// Parts of words, with variables that are set to `VALUES`.
const PARTS: [&str; 34] = [
    "x",
    "-1.0",
    ".",
    "/",
    "'q r'",
    "\"d $a\"",
    "\"\"",
    "''",
    "\\ ",
    "\\$",
    "\"\\$ \\x\"",
    "$a",
    "$b",
    "${c}",
    "\"$c\"",
    "${l[1]}",
    "\"${l[@]}\"",
    "\"${l[*]}\"",
    "${l[@]}",
    "${a%.*}",
    "${a%%.*}",
    "${a#*-}",
    "${a##*-}",
    "${a/1/y}",
    "${a//./_}",
    "${a/#v/w}",
    "${a/%3/z}",
    "${a:1}",
    "${a:1:3}",
    "${a: -3:2}",
    "${#l[@]}",
    "${none:-$b}",
    "${e-x}${e:-y}${e:+z}",
    "{p,q$b}",
];
const VALUES: &str = "a=v-1.2-3\nb=tool\nc='two words'\nl=(one 'two 2' '')\ne=\nm=()\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn words_expand_as_in_bash(
        words in prop::collection::vec(prop::collection::vec(prop::sample::select(PARTS.to_vec()), 1..4), 1..4),
        text in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..4),
    ) {
        let words: Vec<String> = words.iter().map(|parts| parts.concat()).collect();
        let script = format!("{VALUES}s={}\nt=({})\nt+=(more)\ns+=more\n", text.concat(), words.join(" "));
        if let Ok(ours) = evaluate(&script) {
            let names: Vec<&str> = ours.names().collect();
            let theirs = by_bash(&script, &names);
            prop_assert_eq!(ours, theirs, "{}", script);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[a-c=()\\[\\]{}$\"'`;|&<>\\\\#! \n@*%/:-]{0,60}") {
        if let Ok(script) = Script::parse(text.as_bytes()) {
            let _ = script.evaluate(&preset());
        }
    }
}

/// How much of the generated words is evaluated without bash, or the comparison means nothing.
#[test]
fn most_parts_need_no_bash() {
    let results: BTreeMap<&str, bool> = PARTS
        .iter()
        .map(|part| (*part, evaluate(&format!("{VALUES}s={part}\n")).is_ok()))
        .collect();
    let refused: Vec<_> = results.iter().filter(|(_, ok)| !**ok).collect();
    assert!(refused.is_empty(), "{refused:?}");
}
