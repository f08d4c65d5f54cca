//! By which network cards a machine can be woken, and whether it can be suspended: what the Linux
//! kernel says in `/sys` and `/proc`, without the rights of root.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use diagnostics::excerpt;
use hive_contract::{NetworkCard, Power};

/// ARPHRD_ETHER of the kernel's `if_arp.h`.
const ETHERNET: &str = "1";
/// Most interfaces between a route and its card: a VLAN of a bridge of a bond.
const MAX_STACK: usize = 4;
/// Longest name of an interface.
const MAX_NAME: usize = 16;

/// `sysfs` is usually `/sys`, `procfs` usually `/proc`.
pub(crate) fn power(sysfs: &Path, procfs: &Path) -> Power {
    let states = fs::read_to_string(sysfs.join("power/state"));
    let can_suspend = states.ok().map(|states| {
        let mut states = states.split_whitespace();
        states.any(|state| ["mem", "standby", "freeze"].contains(&state))
    });
    Power {
        can_suspend,
        cards: cards(sysfs, &default_routes(procfs)),
    }
}

/// The Ethernet cards that carry one of these interfaces; all with a connection if none does.
fn cards(sysfs: &Path, routes: &BTreeSet<String>) -> Vec<NetworkCard> {
    let directory = sysfs.join("class/net");
    let mut names: Vec<String> = fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    let connected: Vec<(bool, NetworkCard)> = names
        .into_iter()
        .filter_map(|name| {
            let carries = carries(&directory, &name, routes, MAX_STACK);
            Some((carries, card(&directory.join(&name), &name)?))
        })
        .collect();
    let any_carries = connected.iter().any(|(carries, _)| *carries);
    let shown = connected.into_iter();
    let shown = shown.filter(|(carries, _)| *carries || !any_carries);
    shown.map(|(_, card)| card).collect()
}

/// The card of an interface, if it is a piece of hardware with a cable.
fn card(interface: &Path, name: &str) -> Option<NetworkCard> {
    let is_wireless = ["wireless", "phy80211"]
        .iter()
        .any(|entry| interface.join(entry).exists());
    let has_hardware = interface.join("device").exists();
    if is_wireless || !has_hardware || read(interface, "type")? != ETHERNET {
        return None;
    }
    if read(interface, "operstate").is_none_or(|state| state != "up") {
        return None;
    }
    Some(NetworkCard {
        name: excerpt(name, MAX_NAME),
        mac: read(interface, "address")?.parse().ok()?,
        wakes: wakes(interface),
    })
}

/// Drivers set this when a card is set to wake the machine (`ethtool --change CARD wol g`).
fn wakes(interface: &Path) -> Option<bool> {
    match read(interface, "device/power/wakeup")?.as_str() {
        "enabled" => Some(true),
        "disabled" => Some(false),
        _ => None,
    }
}

/// Whether an interface, or one that is made of it, is one of `routes`.
fn carries(directory: &Path, name: &str, routes: &BTreeSet<String>, depth: usize) -> bool {
    if routes.contains(name) {
        return true;
    }
    if depth == 0 {
        return false;
    }
    let entries = fs::read_dir(directory.join(name));
    let mut entries = entries.into_iter().flatten().flatten();
    entries.any(|entry| {
        let entry = entry.file_name();
        let upper = entry
            .to_str()
            .and_then(|entry| entry.strip_prefix("upper_"));
        upper.is_some_and(|upper| carries(directory, upper, routes, depth - 1))
    })
}

/// The interfaces of the default routes: proc_pid_net(5).
fn default_routes(procfs: &Path) -> BTreeSet<String> {
    let table = fs::read_to_string(procfs.join("net/route")).unwrap_or_default();
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace();
        let interface = columns.next()?;
        (columns.next()? == "00000000").then(|| interface.to_owned())
    });
    rows.collect()
}

fn read(directory: &Path, name: &str) -> Option<String> {
    let path: PathBuf = directory.join(name);
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\n";

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{content}\n")).unwrap();
    }

    fn interface(root: &Path, name: &str, mac: &str, state: &str) {
        for (file, content) in [("address", mac), ("operstate", state), ("type", "1")] {
            write(root, &format!("class/net/{name}/{file}"), content);
        }
    }

    fn hardware(root: &Path, name: &str, mac: &str, wakeup: &str) {
        interface(root, name, mac, "up");
        let file = format!("class/net/{name}/device/power/wakeup");
        write(root, &file, wakeup);
    }

    fn names(power: &Power) -> Vec<&str> {
        power.cards.iter().map(|card| card.name.as_str()).collect()
    }

    #[test]
    fn the_card_that_carries_the_route_is_found_below_bridges_and_vlans() {
        let (sys, proc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = sys.path();
        hardware(root, "enp3s0", "52:54:00:00:00:01", "enabled");
        hardware(root, "enp4s0", "52:54:00:00:00:02", "disabled");
        interface(root, "br0", "52:54:00:00:00:01", "up");
        interface(root, "vlan7", "52:54:00:00:00:01", "up");
        write(root, "class/net/enp3s0/upper_br0/x", "");
        write(root, "class/net/br0/upper_vlan7/x", "");
        write(
            proc.path(),
            "net/route",
            &format!("{ROUTES}vlan7\t00000000\t0101A8C0\t0003"),
        );
        let found = power(root, proc.path());
        assert_eq!(names(&found), ["enp3s0"]);
        assert_eq!(found.cards[0].mac.to_string(), "52:54:00:00:00:01");
        assert_eq!(found.cards[0].wakes, Some(true));
        // Without a route of a card, for example behind a tunnel.
        let other = format!("{ROUTES}tun0\t00000000\t0\t3\nenp3s0\t0001A8C0\t0\t3");
        write(proc.path(), "net/route", &other);
        let found = power(root, proc.path());
        assert_eq!(names(&found), ["enp3s0", "enp4s0"]);
        assert_eq!(found.cards[1].wakes, Some(false));
    }

    #[test]
    fn interfaces_that_cannot_wake_a_machine_are_no_cards() {
        let (sys, proc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = sys.path();
        hardware(root, "wlan0", "52:54:00:00:00:01", "enabled");
        write(root, "class/net/wlan0/phy80211/x", "");
        hardware(root, "unplugged", "52:54:00:00:00:02", "enabled");
        write(root, "class/net/unplugged/operstate", "down");
        interface(root, "tap0", "52:54:00:00:00:03", "up");
        hardware(root, "ib0", "52:54:00:00:00:04", "enabled");
        write(root, "class/net/ib0/type", "32");
        hardware(root, "odd", "80:00:00:48:fe:80", "enabled");
        write(root, "class/net/odd/address", "nothing");
        hardware(root, "quiet", "52:54:00:00:00:05", "");
        let found = power(root, proc.path());
        assert_eq!(names(&found), ["quiet"]);
        assert_eq!(found.cards[0].wakes, None);
        assert_eq!(power(&root.join("none"), proc.path()), Power::default());
    }

    #[test]
    fn the_kernel_says_whether_it_can_suspend() {
        let dir = tempfile::tempdir().unwrap();
        for (states, can) in [("freeze mem disk", true), ("disk", false), ("", false)] {
            write(dir.path(), "power/state", states);
            assert_eq!(
                power(dir.path(), dir.path()).can_suspend,
                Some(can),
                "{states}"
            );
        }
    }
}
