//! Mock machines.

use bdd::{World, table};
use cucumber::{gherkin::Step, given};
use serde_json::{Value, json};

use super::{State, bytes};

const TOTAL: u64 = 1 << 40;

#[given(regex = r"^a machine with (.+) of available memory$")]
fn machine(world: &mut World, memory: String) {
    let available = bytes(&memory);
    world.get::<State>().machine = json!({
        "hostname": "box",
        "cpu": {"name": "a processor", "cores": 8, "features": ["avx2"]},
        "ram": {"total_bytes": TOTAL, "available_bytes": available},
        "disk": {"total_bytes": TOTAL, "free_bytes": TOTAL / 2},
        "devices": [{
            "id": "CPU-0", "backend": "cpu", "name": "a processor",
            "memory_total_bytes": TOTAL, "memory_free_bytes": available,
        }],
    });
}

#[given(regex = r"^its disk has (.+) of free space$")]
fn disk(world: &mut World, free: String) {
    world.get::<State>().machine["disk"]["free_bytes"] = bytes(&free).into();
}

/// The table has id, backend, free memory, driver and compute capability.
#[given("it has the GPUs")]
fn gpus(world: &mut World, step: &Step) {
    for row in table(step) {
        let [id, backend, free, driver, capability] = &row[..] else {
            panic!("{row:?}");
        };
        add_gpu(world, id, backend, free, [driver, capability]);
    }
}

fn add_gpu(world: &mut World, id: &str, backend: &str, free: &str, versions: [&str; 2]) {
    let mut gpu = json!({
        "id": id, "backend": backend, "name": format!("a GPU for {backend}"),
        "memory_total_bytes": TOTAL, "memory_free_bytes": bytes(free),
    });
    for (field, version) in ["driver", "compute_capability"].into_iter().zip(versions) {
        if !version.is_empty() {
            gpu[field] = version.into();
        }
    }
    let devices = world.get::<State>().machine["devices"].as_array_mut();
    devices.unwrap().push(gpu);
}

#[given(regex = r"^its NVIDIA driver does not work because `(.*)`$")]
fn driver(world: &mut World, reason: String) {
    world.get::<State>().machine["problems"] = json!([{
        "backend": "cuda",
        "message": format!("the NVIDIA driver does not work: {reason}"),
        "hint": "check the driver with `nvidia-smi`",
    }]);
}

#[given("no GPU")]
fn no_gpu(world: &mut World) {
    let devices = &world.get::<State>().machine["devices"];
    assert_eq!(devices.as_array().map(Vec::len), Some(1));
}

#[given("a GPU of AMD")]
fn amd(world: &mut World) {
    add_gpu(world, "GPU-0", "vulkan", "15 GiB", ["", ""]);
}

#[given("an NVIDIA GPU with a driver that is too old")]
fn old_driver(world: &mut World) {
    add_gpu(world, "GPU-0", "cuda", "70 GiB", ["470.1", "9.0"]);
}

#[given("an NVIDIA driver that does not work")]
fn broken_driver(world: &mut World) {
    driver(world, "NVIDIA driver is not loaded".to_owned());
}

/// Writes the machine as `{dir}/devices.json`.
pub fn write(world: &mut World) {
    let machine = world.get::<State>().machine.clone();
    assert_ne!(machine, Value::Null, "the scenario has a machine");
    std::fs::write(world.dir().join("devices.json"), machine.to_string()).unwrap();
}
