//! What the Linux kernel knows about GPUs, whether or not they have a driver.

use std::{
    fs,
    path::{Path, PathBuf},
};

const AMD: &str = "0x1002";
const NVIDIA: &str = "0x10de";

/// A GPU of AMD, as its kernel driver describes it (`amdgpu` in the kernel's documentation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AmdGpu {
    pub name: String,
    pub memory_total_bytes: u64,
    pub memory_free_bytes: u64,
}

/// Returns the GPUs of AMD that have a driver. `sysfs` is usually `/sys`.
pub(crate) fn amd_gpus(sysfs: &Path) -> Vec<AmdGpu> {
    let mut cards: Vec<(u32, PathBuf)> = entries(&sysfs.join("class/drm"))
        .filter_map(|path| {
            // Connectors have names such as `card0-DP-1`.
            let number = path.file_name()?.to_str()?.strip_prefix("card")?;
            Some((number.parse().ok()?, path.join("device")))
        })
        .collect();
    cards.sort_unstable();
    let gpus = cards.iter().filter_map(|(_, device)| {
        (read(device, "vendor")? == AMD).then_some(())?;
        let total = number(device, "mem_info_vram_total")?;
        let used = number(device, "mem_info_vram_used").unwrap_or(0);
        let product = read(device, "product_name").filter(|name| !name.is_empty());
        Some(AmdGpu {
            name: match product {
                Some(name) => name,
                None => format!("AMD GPU {}", read(device, "device").unwrap_or_default()),
            },
            memory_total_bytes: total,
            memory_free_bytes: total.saturating_sub(used),
        })
    });
    gpus.collect()
}

/// Returns the PCI addresses of NVIDIA's GPUs.
pub(crate) fn nvidia_addresses(sysfs: &Path) -> Vec<String> {
    let mut addresses: Vec<String> = entries(&sysfs.join("bus/pci/devices"))
        .filter(|device| {
            // Base class 3 are display controllers.
            let is_gpu = read(device, "class").is_some_and(|class| class.starts_with("0x03"));
            is_gpu && read(device, "vendor").as_deref() == Some(NVIDIA)
        })
        .filter_map(|device| Some(device.file_name()?.to_str()?.to_owned()))
        .collect();
    addresses.sort_unstable();
    addresses
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn read(dir: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(dir.join(name)).ok()?;
    Some(text.trim().to_owned())
}

fn number(dir: &Path, name: &str) -> Option<u64> {
    read(dir, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, files: &[(&str, &str)]) {
        let dir = root.join(path);
        fs::create_dir_all(&dir).unwrap();
        for (name, content) in files {
            fs::write(dir.join(name), format!("{content}\n")).unwrap();
        }
    }

    #[test]
    fn amd_gpus_are_read_in_the_order_of_their_cards() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let amd = [("vendor", AMD), ("device", "0x744c")];
        let memory = [
            ("mem_info_vram_total", "1000"),
            ("mem_info_vram_used", "300"),
        ];
        write(root, "class/drm/card10/device", &amd);
        write(root, "class/drm/card10/device", &memory);
        write(root, "class/drm/card2/device", &amd);
        write(root, "class/drm/card2/device", &memory);
        let name = [("product_name", "Radeon PRO W7900")];
        write(root, "class/drm/card2/device", &name);
        // Without a driver, of another vendor, a connector, a render node.
        write(root, "class/drm/card3/device", &amd);
        write(root, "class/drm/card4/device", &[("vendor", "0x8086")]);
        write(root, "class/drm/card4/device", &memory);
        write(root, "class/drm/card2-DP-1/device", &amd);
        write(root, "class/drm/renderD128/device", &amd);
        let gpu = |name: &str| AmdGpu {
            name: name.to_owned(),
            memory_total_bytes: 1000,
            memory_free_bytes: 700,
        };
        assert_eq!(
            amd_gpus(root),
            [gpu("Radeon PRO W7900"), gpu("AMD GPU 0x744c")]
        );
        assert_eq!(amd_gpus(&root.join("missing")), []);
    }

    #[test]
    fn gpus_of_nvidia_are_found_without_a_driver() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (address, vendor, class) in [
            ("0000:41:00.0", NVIDIA, "0x030200"),
            ("0000:01:00.0", NVIDIA, "0x030000"),
            ("0000:01:00.1", NVIDIA, "0x040300"),
            ("0000:00:02.0", "0x8086", "0x030000"),
        ] {
            let path = format!("bus/pci/devices/{address}");
            write(root, &path, &[("vendor", vendor), ("class", class)]);
        }
        assert_eq!(nvidia_addresses(root), ["0000:01:00.0", "0000:41:00.0"]);
        assert_eq!(nvidia_addresses(&root.join("missing")), [] as [&str; 0]);
    }
}
