//! Recipes are checked before anything is done with them.
#![allow(clippy::unwrap_used, clippy::panic)]

use pkgbuild::{
    Architecture, Checksum, Choice, PkgbuildError, Recipe, Script, SourceKind, Step, Variables,
};

const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn choice() -> Choice {
    Choice {
        machine: Architecture::X86_64,
        package: None,
        allows_unverified: false,
    }
}

fn read(text: &str, choice: &Choice) -> Result<Recipe, PkgbuildError> {
    let script = Script::parse(text.as_bytes())?;
    let variables = script.evaluate(&Variables::default()).unwrap();
    Recipe::new(&variables, script.functions(), choice)
}

/// A valid recipe with lines added, of which later ones take the place of earlier ones.
fn with(lines: &str) -> Result<Recipe, PkgbuildError> {
    let text = format!(
        "pkgname=tool\npkgver=1.2\npkgrel=3\narch=(x86_64 aarch64)\npackage() {{ :; }}\n{lines}\n"
    );
    read(&text, &choice())
}

#[test]
fn a_recipe_has_the_sources_and_steps_for_the_machine() {
    let lines = format!(
        "epoch=2\nsource=(a.patch git+https://a.example/r#tag=v1)\nsha256sums=({SUM} SKIP)\n\
         source_x86_64=(https://a.example/x.zip)\nsha256sums_x86_64=({})\n\
         source_aarch64=(https://a.example/y.zip)\nsha256sums_aarch64=(wrong)\n\
         depends=(a)\ndepends_x86_64=(b)\ndepends_aarch64=(c)\nnoextract=(x.zip)\n\
         prepare() {{ :; }}\ncheck() {{ :; }}\n",
        SUM.to_uppercase()
    );
    let recipe = with(&lines).unwrap();
    assert_eq!(recipe.version.to_string(), "2:1.2-3");
    let names: Vec<_> = recipe
        .sources
        .iter()
        .map(|s| s.source.name.as_str())
        .collect();
    assert_eq!(names, ["a.patch", "r", "x.zip"]);
    let url = "https://a.example/x.zip".to_owned();
    assert_eq!(recipe.sources[2].source.kind, SourceKind::Http { url });
    let sum = [Checksum::Sha256(SUM.to_owned())];
    assert_eq!(recipe.sources[2].checksums, sum);
    assert_eq!(recipe.sources[1].checksums, []);
    assert_eq!(recipe.depends, ["a", "b"]);
    let steps: Vec<_> = recipe.steps.keys().copied().collect();
    assert_eq!(steps, [Step::Prepare, Step::Check, Step::Package]);
}

#[test]
fn one_of_several_packages_is_chosen() {
    let lines = "pkgname=(tool tool-docs)\npackage_tool-docs() { :; }";
    let known = vec!["tool".to_owned(), "tool-docs".to_owned()];
    let error = with(lines).unwrap_err();
    assert_eq!(error, PkgbuildError::SplitPackage(known.clone()));
    assert_eq!(
        error.to_string(),
        "it builds several packages: tool, tool-docs; choose one of them"
    );
    let text = format!("pkgname=tool\npkgver=1\npkgrel=1\narch=(any)\npackage() {{ :; }}\n{lines}");
    let chosen = |name: &str| {
        let choice = Choice {
            package: Some(name.to_owned()),
            ..choice()
        };
        read(&text, &choice)
    };
    assert_eq!(
        chosen("tool-docs").unwrap().steps[&Step::Package],
        "package_tool-docs"
    );
    assert_eq!(chosen("tool").unwrap().steps[&Step::Package], "package");
    let chosen = chosen("other").unwrap_err();
    assert_eq!(
        chosen,
        PkgbuildError::NoSuchPackage {
            chosen: "other".to_owned(),
            known
        }
    );
}

#[test]
fn files_without_a_checksum_need_the_users_consent() {
    let lines = "source=(a.patch)\nsha256sums=(SKIP)";
    let error = with(lines).unwrap_err().to_string();
    assert_eq!(
        error,
        "`source` is `a.patch`, which is a file whose checksum is skipped; only git repositories \
         may have none"
    );
    let text = format!("pkgname=tool\npkgver=1\npkgrel=1\narch=(any)\npackage() {{ :; }}\n{lines}");
    let choice = Choice {
        allows_unverified: true,
        ..choice()
    };
    assert_eq!(read(&text, &choice).unwrap().sources[0].checksums, []);
}

#[test]
fn unusable_recipes_are_refused_with_the_value() {
    for (lines, message) in [
        (
            "pkgname=../x",
            "`pkgname` is `../x`, which is not the name of a package",
        ),
        (
            "pkgname=",
            "`pkgname` is ``, which is not the name of a package",
        ),
        ("pkgver=1-2", "`pkgver` is `1-2`, which is not a version"),
        ("pkgver=", "`pkgver` is not set"),
        ("pkgrel=1.2.3", "`pkgrel` is `1.2.3`, which is not a number"),
        ("epoch=-1", "`epoch` is `-1`, which is not a number"),
        ("arch=()", "`arch` is not set"),
        (
            "arch=(i686 armv7h)",
            "it is for i686, armv7h, and this machine is x86_64",
        ),
        (
            "source=(a)",
            "`source` has no checksums; sha256sums, sha512sums or b2sums are needed",
        ),
        (
            "source=(a)\nmd5sums=(x)",
            "`source` has no checksums; sha256sums, sha512sums or b2sums are needed",
        ),
        (
            "source=(a b)\nb2sums=(SKIP)",
            "`source` has 2 entries, and `b2sums` has 1",
        ),
        (
            "source=(a)\nsha256sums=(12)",
            "`sha256sums` is `12`, which is not a checksum",
        ),
        (
            "source=(a::https://a.example/x a::https://a.example/y)\nsha256sums=(SKIP SKIP)",
            "`source` is `a::https://a.example/x`, which is a file whose checksum is skipped; only git \
             repositories may have none",
        ),
        (
            "source=(r::git+https://a.example/x r::git+https://a.example/y)\nsha256sums=(SKIP SKIP)",
            "`source` is `r::git+https://a.example/y`, which is the second source with this name",
        ),
    ] {
        assert_eq!(with(lines).unwrap_err().to_string(), message, "{lines}");
    }
    let text = "pkgname=tool\npkgver=1\npkgrel=1\narch=(any)\nbuild() { :; }\n";
    let error = read(text, &choice()).unwrap_err();
    assert_eq!(error.to_string(), "there is no function package()");
}
