use std::time::Duration;

use cucumber::{then, when};

use crate::{World, binary, within};

pub(super) fn link() {}

#[when(regex = r"^the haiku acceptance test runs on `(.*)`$")]
async fn run(world: &mut World, model: String) {
    let options = haiku::Options {
        bin_dir: binary("rbee-keeper").parent().unwrap().to_owned(),
        home: world.home(),
        model: Some(model),
        backend: "cpu".into(),
        node: None,
        environment: world.inherited(),
        show: false,
    };
    let report = tokio::task::spawn_blocking(move || haiku::run(&options));
    let report = within(
        Duration::from_secs(120),
        "the haiku acceptance test",
        report,
    )
    .await;
    let report = report.unwrap().unwrap();
    world
        .noted
        .insert("misses".into(), report.misses.join("\n"));
    world.nothing_left().await;
}

#[then("it passes")]
fn passes(world: &mut World) {
    assert_eq!(world.noted["misses"], "");
}

/// The word is that of the current minute.
#[then("it fails only because of the text")]
fn fails(world: &mut World) {
    let misses: Vec<&str> = world.noted["misses"].lines().collect();
    let [word, lines] = misses[..] else {
        panic!("{misses:?}");
    };
    assert!(
        word.starts_with("the word \"") && word.ends_with("\" occurs 0 times, not once"),
        "{word}"
    );
    assert_eq!(lines, "the text has 1 non-empty lines, not 3");
}
