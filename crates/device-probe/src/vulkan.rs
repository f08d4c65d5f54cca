use std::{
    ffi::OsStr,
    io::Read as _,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Limit for `vulkaninfo`, which loads the drivers of all vendors.
const LIMIT: Duration = Duration::from_secs(2);
/// Maximum length of its output.
const MAX_OUTPUT_BYTES: u64 = 64 << 10;
/// Vendors whose GPUs are found in other ways: NVIDIA and AMD.
const KNOWN_VENDORS: [&str; 2] = ["0x10de", "0x1002"];

/// Returns the names of the GPUs of other vendors than NVIDIA and AMD. Empty if `program`, usually
/// `vulkaninfo`, is not installed or fails.
pub(crate) fn other_gpus(program: &OsStr) -> Vec<String> {
    summary(program).map_or_else(Vec::new, |text| names(&text))
}

fn summary(program: &OsStr) -> Option<String> {
    let mut child = Command::new(program)
        .arg("--summary")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    let (sender, output) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.take(MAX_OUTPUT_BYTES).read_to_string(&mut text);
        // Nobody receives it after the limit.
        let _ = sender.send(read.is_ok().then_some(text));
    });
    let text = output.recv_timeout(LIMIT).ok().flatten();
    // It has printed everything, or takes too long.
    let _ = child.kill();
    let _ = child.wait();
    text
}

/// Reads the names from the output of `vulkaninfo --summary`: a block of `key = value` for each
/// device. Software that only looks like a GPU is left out.
fn names(summary: &str) -> Vec<String> {
    let blocks = summary.split("\nGPU").skip(1);
    let names = blocks.filter_map(|block| {
        let value = |key: &str| {
            block.lines().find_map(|line| {
                let (name, value) = line.split_once('=')?;
                (name.trim() == key).then(|| value.trim().to_owned())
            })
        };
        let vendor = value("vendorID")?;
        let is_gpu = value("deviceType")?.ends_with("_GPU");
        (is_gpu && !KNOWN_VENDORS.contains(&vendor.as_str())).then(|| value("deviceName"))?
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "\
==========
VULKANINFO
==========

Devices:
========
GPU0:
\tapiVersion         = 1.3.255
\tvendorID           = 0x8086
\tdeviceType         = PHYSICAL_DEVICE_TYPE_DISCRETE_GPU
\tdeviceName         = Intel(R) Arc(tm) A770 Graphics (DG2)
GPU1:
\tvendorID           = 0x10de
\tdeviceType         = PHYSICAL_DEVICE_TYPE_DISCRETE_GPU
\tdeviceName         = NVIDIA H100
GPU2:
\tvendorID           = 0x10005
\tdeviceType         = PHYSICAL_DEVICE_TYPE_CPU
\tdeviceName         = llvmpipe (LLVM 15.0.6, 256 bits)
";

    #[test]
    fn gpus_that_are_not_found_otherwise_are_named() {
        assert_eq!(names(SUMMARY), ["Intel(R) Arc(tm) A770 Graphics (DG2)"]);
        assert_eq!(names(""), [] as [&str; 0]);
    }

    #[test]
    fn the_output_of_the_program_is_read() {
        assert_eq!(
            super::summary(OsStr::new("echo")).as_deref(),
            Some("--summary\n")
        );
    }

    #[test]
    fn a_missing_or_failing_program_finds_nothing() {
        for program in ["/nowhere/vulkaninfo", "false"] {
            assert_eq!(other_gpus(OsStr::new(program)), [] as [&str; 0]);
        }
    }
}
