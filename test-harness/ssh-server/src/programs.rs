//! What the sessions of a server have started.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use rustix::process::{Pid, getpgid};

/// The processes whose programs are in a directory.
pub(crate) fn running(directory: &Path) -> Vec<(Pid, PathBuf)> {
    let mut found = all();
    found.retain(|(_, program)| program.starts_with(directory));
    found
}

/// The processes of these process groups.
pub(crate) fn in_groups(leaders: &[Pid]) -> Vec<(Pid, PathBuf)> {
    let mut found = all();
    found.retain(|(pid, _)| getpgid(Some(*pid)).is_ok_and(|group| leaders.contains(&group)));
    found
}

/// All processes whose programs can be read.
fn all() -> Vec<(Pid, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let program = fs::read_link(entry.path().join("exe")).ok()?;
            Some((pid, program))
        })
        .collect()
}

/// The processes whose command lines contain all of these texts.
pub(crate) fn with_arguments(texts: &[&str]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            texts.iter().all(|text| line.contains(text)).then_some(pid)
        })
        .collect()
}

/// The addresses on which processes listen.
pub(crate) fn listening(processes: &[(Pid, PathBuf)]) -> Vec<SocketAddr> {
    let of_process = |(pid, _): &(Pid, PathBuf)| {
        let inodes = sockets(*pid);
        let listeners = listeners(*pid).into_iter();
        let own = listeners.filter(move |(_, inode)| inodes.contains(inode));
        own.map(|(address, _)| address)
    };
    processes.iter().flat_map(of_process).collect()
}

/// The addresses on which anything listens in the network namespace of a process, and the inodes
/// of the sockets: `/proc/PID/net/tcp` and `tcp6` (proc(5)).
pub(crate) fn listeners(pid: Pid) -> Vec<(SocketAddr, String)> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let file = format!("/proc/{}/net/{table}", pid.as_raw_nonzero());
        let text = fs::read_to_string(file).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // State 0A is LISTEN.
            if let (Some(&address), Some(&"0A"), Some(&inode)) =
                (fields.get(1), fields.get(3), fields.get(9))
            {
                found.extend(parse(address).map(|address| (address, inode.to_owned())));
            }
        }
    }
    found
}

/// The routes with a gateway in the network namespace of a process: `/proc/PID/net/route`, whose
/// third column is the gateway.
pub(crate) fn gateways(pid: Pid) -> Vec<String> {
    let file = format!("/proc/{}/net/route", pid.as_raw_nonzero());
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().skip(1);
    lines
        .filter(|line| line.split_whitespace().nth(2) != Some("00000000"))
        .map(str::to_owned)
        .collect()
}

/// The inodes of the sockets of a process.
fn sockets(pid: Pid) -> Vec<String> {
    let directory = format!("/proc/{}/fd", pid.as_raw_nonzero());
    let descriptors = fs::read_dir(directory).into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| {
            let target = fs::read_link(descriptor.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect()
}

/// Parses an address in hexadecimal: words of 32 bits in the byte order of the machine, and a
/// port.
fn parse(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<[u8; 4]>> = (0..address.len() / 8)
        .map(|n| {
            let word = address.get(8 * n..8 * n + 8)?;
            Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
        })
        .collect();
    let address: IpAddr = match words?.as_slice() {
        [v4] => IpAddr::from(*v4),
        [a, b, c, d] => {
            let bytes: Vec<u8> = [a, b, c, d].into_iter().flatten().copied().collect();
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_proc() {
        let parsed = |text: &str| parse(text).map(|address| address.to_string());
        let loopback = u32::from_ne_bytes([127, 0, 0, 1]);
        assert_eq!(
            parsed(&format!("{loopback:08X}:1F90")).as_deref(),
            Some("127.0.0.1:8080")
        );
        let one = u32::from_ne_bytes([0, 0, 0, 1]);
        let text = format!("{:024X}{one:08X}:0016", 0);
        assert_eq!(parsed(&text).as_deref(), Some("[::1]:22"));
        assert_eq!(parsed("x"), None);
    }
}
