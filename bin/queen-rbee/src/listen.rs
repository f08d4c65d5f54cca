use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use diagnostics::Diagnostic;
use queen_nodes::QueenState;
use tokio::net::TcpListener;

use crate::Args;

/// Where the queen listens.
pub(crate) struct Listeners {
    pub(crate) bound: Vec<TcpListener>,
    /// Base URL for processes on this machine.
    pub(crate) url: String,
    /// The address that was bound first.
    address: SocketAddr,
}

impl Listeners {
    /// Base URLs that may lead other machines to the queen: none if it listens on the loopback
    /// interface only.
    pub(crate) fn urls_for_others(&self) -> Vec<String> {
        let (address, port) = (self.address.ip(), self.address.port());
        let reached = match address {
            any if any.is_unspecified() => own_addresses(),
            one => vec![one],
        };
        let others = reached.into_iter().filter(|ip| !ip.is_loopback());
        others
            .map(|ip| format!("https://{}", SocketAddr::new(ip, port)))
            .collect()
    }
}

/// The addresses from which this machine would send to others. Nothing is sent.
fn own_addresses() -> Vec<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849), for which the default route is used.
    let routes = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let source = |(from, to): &(&str, &str)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    routes.iter().filter_map(source).collect()
}

impl Args {
    /// Returns the address to listen on; by default the IPv4 loopback address.
    pub(crate) fn bind_address(&self) -> IpAddr {
        self.bind.unwrap_or(Ipv4Addr::LOCALHOST.into())
    }
}

/// Listens on the configured address. If any free port may be used, the port of the last run
/// is preferred, so that workers that outlived the queen find it again.
pub(crate) async fn listen(args: &Args, state: &QueenState) -> Result<Listeners, Diagnostic> {
    let address = args.bind_address();
    let mut last_bound = None;
    if let (0, Some(last)) = (args.port, state.last_port().await?) {
        let last = SocketAddr::new(address, last);
        last_bound = daemon_shell::bind(last).await.ok();
    }
    let listener = match last_bound {
        Some(listener) => listener,
        None => daemon_shell::bind(SocketAddr::new(address, args.port)).await?,
    };
    let bound = daemon_shell::local_address(&listener)?;
    state.set_last_port(bound.port()).await?;
    let mut listeners = vec![listener];
    if args.bind.is_none() {
        listeners.extend(listen_on_ipv6(bound.port()).await);
    }
    Ok(Listeners {
        bound: listeners,
        url: daemon_shell::local_url(bound),
        address: bound,
    })
}

/// Listens on the IPv6 loopback address as well, for programs that resolve `localhost` to it.
async fn listen_on_ipv6(port: u16) -> Option<TcpListener> {
    let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
    match daemon_shell::bind(address).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(%error, "programs that resolve localhost to ::1 cannot connect");
            None
        }
    }
}
