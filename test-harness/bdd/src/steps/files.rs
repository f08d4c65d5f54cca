use std::{fs, path::Path};

use cucumber::{gherkin::Step, given, then, when};

use crate::World;

pub(super) fn link() {}

#[given(regex = r"^the file `(.*)` holds$")]
#[when(regex = r"^the file `(.*)` holds$")]
fn write(world: &mut World, path: String, step: &Step) {
    let path = world.fill(&path);
    fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
    fs::write(path, step.docstring.as_deref().expect("a text")).unwrap();
}

#[given(regex = r"^a copy of the embedded model cut to (\d+) bytes as `(.*)`$")]
fn cut_model(world: &mut World, bytes: usize, name: String) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku/rbee-haiku-tiny-f16.gguf");
    let model = fs::read(path).unwrap();
    fs::write(world.dir().join(name), &model[..bytes]).unwrap();
}

#[then(regex = r"^the file `(.*)` (exists|does not exist)$")]
fn exists(world: &mut World, path: String, verb: String) {
    let path = world.fill(&path);
    assert_eq!(fs::exists(&path).unwrap(), verb == "exists", "{path}");
}
