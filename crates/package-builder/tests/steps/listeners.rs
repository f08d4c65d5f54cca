//! Listeners that no build may reach.

use std::{
    io,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    process::Command,
};

use bdd::World;
use cucumber::{given, then};

#[derive(Default)]
enum Listener {
    #[default]
    None,
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Whether a connection waited, which is accepted.
    fn accept(&self) -> bool {
        let result = match self {
            Self::None => panic!("no listener"),
            Self::Tcp(listener) => listener.accept().map(|_| ()),
            Self::Unix(listener) => listener.accept().map(|_| ()),
        };
        match result {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
            other => {
                other.unwrap();
                true
            }
        }
    }
}

#[given(regex = r"^a listener for (loopback|an abstract socket|a socket file)$")]
fn listener(world: &mut World, way: String) {
    let python = |address: &str| {
        format!("python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{address}')\"")
    };
    let name = format!("rbee-{}", world.dir().file_name().unwrap().display());
    let path = world.dir().join("socket");
    let (listener, connect) = match way.as_str() {
        "loopback" => {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let port = listener.local_addr().unwrap().port();
            let connect = format!("exec 9<>/dev/tcp/127.0.0.1/{port}");
            (Listener::Tcp(listener), connect)
        }
        "an abstract socket" => {
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            let listener = UnixListener::bind_addr(&address).unwrap();
            listener.set_nonblocking(true).unwrap();
            (Listener::Unix(listener), python(&format!("\\0{name}")))
        }
        _ => {
            let listener = UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            let connect = python(&path.display().to_string());
            (Listener::Unix(listener), connect)
        }
    };
    world.noted.insert("connect".to_owned(), connect);
    *world.get::<Listener>() = listener;
}

#[then("the listener was reached by nobody")]
fn unreached(world: &mut World) {
    assert!(!world.get::<Listener>().accept());
}

#[then("the same command reaches the listener outside of the sandbox")]
fn reached_outside(world: &mut World) {
    let connect = world.noted["connect"].clone();
    let status = Command::new("bash")
        .args(["-c", &connect])
        .status()
        .unwrap();
    assert!(status.success());
    assert!(world.get::<Listener>().accept());
}
