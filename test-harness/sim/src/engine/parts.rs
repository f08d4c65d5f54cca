//! Parts of models on other machines, in place of llama.cpp's RPC protocol: whoever connects sends a
//! byte, and gets it back.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Serves a part on a port of the loopback interface, until the process ends.
pub async fn serve_parts(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (mut client, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut byte = [0];
            while let Ok(1) = client.read(&mut byte).await {
                if client.write_all(&byte).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Connects with each of these servers, `HOST:PORT,…`, and returns the connections.
#[expect(clippy::print_stdout, reason = "the output of an engine")]
pub async fn connect_with_parts(servers: &str) -> io::Result<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for server in servers.split(',').filter(|server| !server.is_empty()) {
        let mut connection = TcpStream::connect(server).await?;
        let mut byte = [7];
        connection.write_all(&byte).await?;
        connection.read_exact(&mut byte).await?;
        connections.push(connection);
    }
    if !connections.is_empty() {
        println!("connected with {} part", connections.len());
    }
    Ok(connections)
}
