use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

use diagnostics::Diagnostic;
use input_validation::PortRange;

use crate::errors::no_free_port;

/// Leases ports, so that concurrent spawns do not try the same one.
#[derive(Debug)]
pub(crate) struct Ports {
    range: PortRange,
    leased: Mutex<BTreeSet<u16>>,
    probe: fn(u16) -> Option<u16>,
}

/// A port that is not leased again while this value exists.
#[derive(Debug)]
pub(crate) struct PortLease<'a> {
    ports: &'a Ports,
    pub port: u16,
}

impl Ports {
    pub fn new(range: PortRange) -> Self {
        Self::with_probe(range, probe_loopback)
    }

    /// `probe` returns the port that it is given if that is free, and any free port for 0.
    fn with_probe(range: PortRange, probe: fn(u16) -> Option<u16>) -> Self {
        Self {
            range,
            leased: Mutex::default(),
            probe,
        }
    }

    /// Leases the first port of the range that is free, not leased and not in `tried`. Also
    /// returns the ports that were skipped because another process listens on them.
    pub fn lease(&self, tried: &BTreeSet<u16>) -> Result<(PortLease<'_>, Vec<u16>), Diagnostic> {
        let mut leased = self.leased.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        let port = match self.range {
            PortRange::Any => (self.probe)(0),
            PortRange::Between(first, last) => (first..=last)
                .filter(|port| !tried.contains(port) && !leased.contains(port))
                .find_map(|port| {
                    let free = (self.probe)(port);
                    if free.is_none() {
                        taken.push(port);
                    }
                    free
                }),
        };
        let port = port.ok_or_else(|| no_free_port(&self.range))?;
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

fn probe_loopback(port: u16) -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    Some(listener.local_addr().ok()?.port())
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn skips_taken_leased_and_tried_ports() {
        let range = PortRange::Between(9000, 9002);
        let ports = Ports::with_probe(range, |port| (port != 9000).then_some(port));
        let none = BTreeSet::new();
        let (first, taken) = ports.lease(&none).unwrap();
        assert_eq!((first.port, taken), (9001, vec![9000]));
        let (second, taken) = ports.lease(&none).unwrap();
        assert_eq!((second.port, taken), (9002, vec![9000]));
        let error = ports.lease(&none).unwrap_err();
        assert_eq!(error.code, Code::PortInUse);
        assert!(error.message.contains("9000-9002"), "{error}");
        drop(first);
        assert!(ports.lease(&BTreeSet::from([9001])).is_err());
        assert_eq!(ports.lease(&none).unwrap().0.port, 9001);
    }

    #[test]
    fn the_probe_finds_out_whether_a_port_is_taken() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        assert_eq!(probe_loopback(port), None);
        let other = probe_loopback(0).unwrap();
        assert!(other != 0 && other != port);
    }
}
