//! Where the queen listens.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::Url;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::Queen;

fn port(queen: &Queen) -> u16 {
    Url::parse(&queen.url).unwrap().port().unwrap()
}

/// Returns false, and prints it, if this machine has no IPv6 loopback interface.
async fn has_ipv6() -> bool {
    match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await {
        Ok(_) => true,
        Err(error) => {
            println!("not tested: this machine has no IPv6 loopback interface: {error}");
            false
        }
    }
}

async fn responds(queen: &Queen, address: SocketAddr) -> bool {
    let response = queen.http.get(format!("http://{address}/health")).send();
    response
        .await
        .is_ok_and(|response| response.status() == 200)
}

async fn start(arguments: &[&str]) -> Queen {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let arguments = [&["--no-local-hive"], arguments].concat();
    Queen::start(home, &arguments).await
}

#[tokio::test]
async fn by_default_the_queen_listens_on_both_loopback_addresses() {
    let queen = start(&[]).await;
    let port = port(&queen);
    assert_eq!(queen.url, format!("http://127.0.0.1:{port}"));
    assert!(responds(&queen, (Ipv4Addr::LOCALHOST, port).into()).await);
    if has_ipv6().await {
        assert!(responds(&queen, (Ipv6Addr::LOCALHOST, port).into()).await);
    }
}

#[tokio::test]
async fn with_an_address_the_queen_listens_there_only() {
    let queen = start(&["--bind", "127.0.0.1"]).await;
    let on_ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port(&queen)));
    assert!(responds(&queen, on_ipv4).await);
    if !has_ipv6().await {
        return;
    }
    let on_ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port(&queen)));
    let refused = TcpStream::connect(on_ipv6).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    let queen = start(&["--bind", "::1"]).await;
    let port = port(&queen);
    assert_eq!(queen.url, format!("http://[::1]:{port}"));
    assert!(responds(&queen, (Ipv6Addr::LOCALHOST, port).into()).await);
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    assert_eq!(
        refused.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}
