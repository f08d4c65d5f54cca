use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use sysinfo::{IpNetwork, NetworkData, Networks};

/// The port of magic packets, by custom.
const DISCARD: u16 = 9;
/// Networks with more bits than this have no broadcast address.
const LONGEST_PREFIX: u8 = 30;

/// From which address of this machine a packet leaves, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Address of this machine; 0.0.0.0 is any.
    pub source: Ipv4Addr,
    /// Where the packet goes.
    pub destination: SocketAddrV4,
}

impl Route {
    /// A route to this address, from that which the system chooses.
    pub fn to(destination: SocketAddrV4) -> Self {
        Self {
            source: Ipv4Addr::UNSPECIFIED,
            destination,
        }
    }
}

/// The routes to all machines of the IPv4 networks of this machine.
pub fn routes() -> Vec<Route> {
    // If they cannot be read, the system chooses.
    let networks = Networks::new_with_refreshed_list();
    let networks = networks.iter().flat_map(|networks| networks.values());
    routes_of(networks.flat_map(NetworkData::ip_networks))
}

/// For each network its own broadcast address, and, from there, that of whatever network the
/// packet gets to: some routers and systems drop the one or the other.
fn routes_of<'a>(networks: impl Iterator<Item = &'a IpNetwork>) -> Vec<Route> {
    let mut routes = Vec::new();
    for network in networks {
        let (IpAddr::V4(source), prefix) = (network.addr, network.prefix) else {
            continue;
        };
        if source.is_loopback() || source.is_unspecified() || prefix > LONGEST_PREFIX {
            continue;
        }
        let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let of_network = Ipv4Addr::from(u32::from(source) | hosts);
        for destination in [of_network, Ipv4Addr::BROADCAST] {
            let destination = SocketAddrV4::new(destination, DISCARD);
            let route = Route {
                source,
                destination,
            };
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
    }
    if routes.is_empty() {
        routes.push(Route::to(SocketAddrV4::new(Ipv4Addr::BROADCAST, DISCARD)));
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(networks: &[(&str, u8)]) -> Vec<String> {
        let networks: Vec<IpNetwork> = networks
            .iter()
            .map(|(addr, prefix)| IpNetwork {
                addr: addr.parse().unwrap(),
                prefix: *prefix,
            })
            .collect();
        let routes = routes_of(networks.iter()).into_iter();
        routes
            .map(|route| format!("{} {}", route.source, route.destination))
            .collect()
    }

    #[test]
    fn packets_go_to_the_broadcast_addresses_of_all_networks() {
        let two = [
            ("192.0.2.7", 24),
            ("127.0.0.1", 8),
            ("10.1.2.3", 20),
            ("fe80::1", 64),
        ];
        assert_eq!(
            shown(&two),
            [
                "192.0.2.7 192.0.2.255:9",
                "192.0.2.7 255.255.255.255:9",
                "10.1.2.3 10.1.15.255:9",
                "10.1.2.3 255.255.255.255:9",
            ]
        );
        assert_eq!(shown(&[("192.0.2.7", 24), ("192.0.2.7", 24)]).len(), 2);
    }

    #[test]
    fn a_machine_without_such_a_network_lets_the_system_choose() {
        for networks in [
            &[][..],
            &[("127.0.0.1", 8)],
            &[("10.0.0.1", 32)],
            &[("10.0.0.1", 31)],
        ] {
            assert_eq!(shown(networks), ["0.0.0.0 255.255.255.255:9"]);
        }
        assert_eq!(shown(&[("10.0.0.1", 0)])[0], "10.0.0.1 255.255.255.255:9");
    }
}
