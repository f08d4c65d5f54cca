//! Wakes a machine of the same network: its network card waits for a packet with its MAC address,
//! the magic packet (AMD, "Magic Packet Technology", publication 20213), and switches the machine
//! on. Nothing confirms that the packet arrived.

#![warn(missing_docs)]

mod networks;
mod packet;

use std::{io, net::SocketAddrV4};

use diagnostics::{Code, Diagnostic};
use input_validation::{MacAddress, WakeAddress};
use tokio::net::UdpSocket;

pub use networks::{Route, routes};
pub use packet::{PACKET_BYTES, magic_packet};

/// Number of packets that are sent to each address at a time. Some cards need more than one, and
/// nobody repeats a broadcast that was lost.
const REPEATS: usize = 3;

/// Sends magic packets for the card with this MAC address: to `address`, or else to all networks of
/// this machine. Returns where they were sent.
///
/// Errors: [`Code::WakeFailed`] if none could be sent.
pub async fn send(
    mac: MacAddress,
    address: Option<WakeAddress>,
) -> Result<Vec<SocketAddrV4>, Diagnostic> {
    let routes = match address {
        Some(address) => vec![Route::to(address.socket())],
        None => routes(),
    };
    let packet = magic_packet(mac);
    let (mut sent, mut failure) = (Vec::new(), None);
    for route in routes {
        match send_along(route, &packet).await {
            Ok(()) => sent.push(route.destination),
            Err(error) => failure = Some((route.destination, error)),
        }
    }
    match failure {
        Some((destination, error)) if sent.is_empty() => Err(not_sent(mac, destination, &error)),
        _ => Ok(sent),
    }
}

async fn send_along(route: Route, packet: &[u8]) -> io::Result<()> {
    let socket = UdpSocket::bind(SocketAddrV4::new(route.source, 0)).await?;
    socket.set_broadcast(true)?;
    for _ in 0..REPEATS {
        socket.send_to(packet, route.destination).await?;
    }
    Ok(())
}

fn not_sent(mac: MacAddress, destination: SocketAddrV4, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::WakeFailed,
        format!("cannot send a magic packet for {mac} to {destination}: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_packet_arrives_at_the_address_that_was_named() {
        let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mac: MacAddress = "52:54:00:12:34:56".parse().unwrap();
        let sent = send(mac, Some(address.parse().unwrap())).await.unwrap();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].to_string(), address);
        for _ in 0..REPEATS {
            let mut bytes = [0; 200];
            let received = listener.recv(&mut bytes);
            let length = timeout(Duration::from_secs(10), received).await;
            let length = length.unwrap().unwrap();
            assert_eq!(bytes[..length], magic_packet(mac));
        }
    }

    #[tokio::test]
    async fn a_packet_that_cannot_be_sent_names_where_it_should_go() {
        let mac: MacAddress = "52:54:00:12:34:56".parse().unwrap();
        // A broadcast cannot leave from this address, which belongs to no machine.
        let route = Route {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.255:9".parse().unwrap(),
        };
        let error = send_along(route, &magic_packet(mac)).await.unwrap_err();
        let shown = not_sent(mac, route.destination, &error);
        assert_eq!(shown.code, Code::WakeFailed);
        assert!(shown.message.contains("192.0.2.255:9"), "{shown}");
    }
}
