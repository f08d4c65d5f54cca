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

fn embedded_model() -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku/rbee-haiku-tiny-f16.gguf");
    fs::read(path).unwrap()
}

#[given(regex = r"^a copy of the embedded model as `(.*)`$")]
fn copy_model(world: &mut World, name: String) {
    fs::write(world.dir().join(name), embedded_model()).unwrap();
}

#[given(regex = r"^a copy of the embedded model cut to (\d+) bytes as `(.*)`$")]
fn cut_model(world: &mut World, bytes: usize, name: String) {
    fs::write(world.dir().join(name), &embedded_model()[..bytes]).unwrap();
}

#[then(regex = r"^the file `(.*)` (exists|does not exist)$")]
fn exists(world: &mut World, path: String, verb: String) {
    let path = world.fill(&path);
    assert_eq!(fs::exists(&path).unwrap(), verb == "exists", "{path}");
}
