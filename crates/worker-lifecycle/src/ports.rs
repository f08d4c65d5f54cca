use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, TcpListener},
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use diagnostics::{Code, Diagnostic, excerpt};

/// The ports that workers may listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRange {
    /// Whatever the system has free; written `0`.
    Any,
    /// From the first to the last, both included; written `8081-8999`.
    Between(u16, u16),
}

impl Default for PortRange {
    fn default() -> Self {
        Self::Between(8081, 8999)
    }
}

impl FromStr for PortRange {
    type Err = Diagnostic;
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        if text == "0" {
            return Ok(Self::Any);
        }
        text.split_once('-')
            .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
            .filter(|(first, last)| *first >= 1024 && first <= last)
            .map(|(first, last)| Self::Between(first, last))
            .ok_or_else(|| {
                Diagnostic::new(
                    Code::ConfigInvalid,
                    format!("not a range of ports: \"{}\"", excerpt(text, 40)),
                )
                .hint("write `8081-8999` (1024 and above), or `0` for any free port")
            })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("0"),
            Self::Between(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// Hands out ports, so that two spawns at once do not try the same one.
#[derive(Debug)]
pub struct Ports {
    range: PortRange,
    leased: Mutex<BTreeSet<u16>>,
}

/// A port that no other spawn tries as long as this value lives.
#[derive(Debug)]
pub struct PortLease<'a> {
    ports: &'a Ports,
    /// The port.
    pub port: u16,
}

impl Ports {
    /// Ports of this range.
    pub fn new(range: PortRange) -> Self {
        Self {
            range,
            leased: Mutex::default(),
        }
    }

    /// The first port of the range that is not in `tried`, not leased, and free on
    /// loopback now; and those passed over because a program listens there.
    pub fn lease(&self, tried: &BTreeSet<u16>) -> Result<(PortLease<'_>, Vec<u16>), Diagnostic> {
        let mut leased = self.leased.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        let port = match self.range {
            PortRange::Any => probe(0),
            PortRange::Between(first, last) => (first..=last)
                .filter(|port| !tried.contains(port) && !leased.contains(port))
                .find_map(|port| {
                    let free = probe(port);
                    if free.is_none() {
                        taken.push(port);
                    }
                    free
                }),
        };
        let port = port.ok_or_else(|| {
            Diagnostic::new(
                Code::PortInUse,
                format!("no free port for a worker in {}", self.range),
            )
            .hint("stop a worker, or widen the range with `--worker-ports`")
        })?;
        leased.insert(port);
        Ok((PortLease { ports: self, port }, taken))
    }
}

impl Drop for PortLease<'_> {
    fn drop(&mut self) {
        let mut leased = self.ports.leased.lock();
        leased
            .as_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut())
            .remove(&self.port);
    }
}

/// The port, if it is free on loopback now; 0 asks the system for one.
fn probe(port: u16) -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    Some(listener.local_addr().ok()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_print_as_they_parse() {
        for text in ["0", "8081-8999", "9000-9000"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        for bad in ["", "1", "80-90", "9000-8000", "a-b", "8081-99999", "-"] {
            assert_eq!(
                bad.parse::<PortRange>().unwrap_err().code,
                Code::ConfigInvalid,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_taken_port_is_passed_over_and_told() {
        // Two ports in a row that nothing holds, one of them then held by this test.
        let (held, next) = loop {
            let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = held.local_addr().unwrap().port();
            if let Some(next) = port.checked_add(1).and_then(probe) {
                break (held, next);
            }
        };
        let port = held.local_addr().unwrap().port();
        let ports = Ports::new(PortRange::Between(port, next));
        let (lease, taken) = ports.lease(&BTreeSet::new()).unwrap();
        assert_eq!((lease.port, taken), (next, vec![port]));
        let error = ports.lease(&BTreeSet::new()).unwrap_err();
        assert_eq!(error.code, Code::PortInUse, "the lease holds");
        drop(lease);
        assert!(ports.lease(&BTreeSet::new()).is_ok());
        assert!(ports.lease(&BTreeSet::from([next])).is_err());
    }
}
