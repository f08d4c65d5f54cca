use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What happens to the bytes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathState {
    /// They arrive.
    Open,
    /// They vanish, and nobody learns of it.
    Silent,
    /// Connections end, and new ones end at once.
    Cut,
}

/// A port that leads to a server, over a path that can fail.
#[derive(Debug)]
pub struct NetworkPath {
    /// The port of the loopback interface.
    pub port: u16,
    state: watch::Sender<PathState>,
    task: JoinHandle<()>,
}

impl Drop for NetworkPath {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NetworkPath {
    /// Creates the path to a server, which is open.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, states) = watch::channel(PathState::Open);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let states = states.clone();
                tokio::spawn(async move {
                    if *states.borrow() == PathState::Cut {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(server).await else {
                        return;
                    };
                    let ((client_out, client_in), (server_out, server_in)) =
                        (client.into_split(), server.into_split());
                    let mut cut = states.clone();
                    tokio::select! {
                        () = carry(client_out, server_in, states.clone()) => {}
                        () = carry(server_out, client_in, states) => {}
                        _ = cut.wait_for(|state| *state == PathState::Cut) => {}
                    }
                });
            }
        });
        Self { port, state, task }
    }

    /// Changes what happens to the bytes.
    pub fn set(&self, state: PathState) {
        self.state.send_replace(state);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    states: watch::Receiver<PathState>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if *states.borrow() == PathState::Open && to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
