use std::{io, net::TcpListener, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, Ipv4Addr, SocketAddrV4, SocketType, bind, getsockname, socket, sockopt,
};

/// A loopback port that the kernel assigns to no other process, because a socket that does not
/// listen is bound to it. A process that binds the port explicitly can listen on it: the socket
/// sets `SO_REUSEADDR`, as the listeners of the standard library do.
#[derive(Debug)]
pub struct ReservedPort {
    port: u16,
    _socket: OwnedFd,
}

impl ReservedPort {
    /// Reserves any free port.
    pub fn any() -> Self {
        Self::at(0).unwrap()
    }

    /// Reserves this port. Fails if another process uses it.
    pub fn at(port: u16) -> io::Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        let address: SocketAddrV4 = getsockname(&socket)?.try_into()?;
        Ok(Self {
            port: address.port(),
            _socket: socket,
        })
    }

    /// The reserved port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A port with a listener, and the port after it, which is reserved.
#[derive(Debug)]
pub struct TakenPort {
    /// The port with the listener.
    pub port: u16,
    /// The reserved port after it.
    pub next: ReservedPort,
    _listener: TcpListener,
}

impl TakenPort {
    /// Listens on a port whose successor is free.
    pub fn any() -> Self {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            if let Some(Ok(next)) = port.checked_add(1).map(ReservedPort::at) {
                return Self {
                    port,
                    next,
                    _listener: listener,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_can_be_listened_on_more_than_once() {
        let reserved = ReservedPort::any();
        for _ in 0..2 {
            let listener = TcpListener::bind(("127.0.0.1", reserved.port())).unwrap();
            assert!(TcpListener::bind(("127.0.0.1", reserved.port())).is_err());
            drop(listener);
        }
    }

    #[test]
    fn a_taken_port_has_a_free_successor() {
        let taken = TakenPort::any();
        assert!(TcpListener::bind(("127.0.0.1", taken.port)).is_err());
        assert_eq!(taken.next.port(), taken.port + 1);
        TcpListener::bind(("127.0.0.1", taken.next.port())).unwrap();
    }
}
