use std::{convert::Infallible, fs, time::Duration};

use axum::{Router, body::Body, extract::Path, routing::get};
use diagnostics::Code;
use futures_util::{StreamExt as _, future::join_all, stream};
use node_link::{Endpoint, Link as _};
use ssh_link::{LinkConfig, LinkState, SshLink};
use ssh_server::Mode;
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::machine::{Machine, node};

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(30);

/// Serves `/numbers/N`, a stream of the numbers below N, one per line, and `/endless`.
async fn http_server() -> u16 {
    let numbers = |Path(count): Path<u64>| async move {
        let lines = stream::iter(0..count).then(|number| async move {
            if number % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok::<_, Infallible>(format!("{number}\n"))
        });
        Body::from_stream(lines)
    };
    let endless = || async {
        let lines = stream::repeat_with(|| Ok::<_, Infallible>("x\n"));
        Body::from_stream(lines.then(|line| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            line
        }))
    };
    let app = Router::new()
        .route("/numbers/{count}", get(numbers))
        .route("/endless", get(endless));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

fn start(machine: &Machine, queen_port: u16) -> SshLink {
    SshLink::start(LinkConfig {
        name: "gpu-box".parse().unwrap(),
        node: node(),
        settings: machine.settings(),
        queen_url: format!("http://127.0.0.1:{queen_port}"),
        port_file: machine.home.queen_port_on(&"gpu-box".parse().unwrap()),
    })
    .unwrap()
}

async fn get_text(endpoint: &Endpoint, path: &str) -> Result<String, String> {
    let url = format!("{}{path}", endpoint.base);
    let response = endpoint.http.get(url).send().await;
    let text = response.map_err(|e| e.to_string())?.text().await;
    text.map_err(|e| e.to_string())
}

fn numbers(count: u64) -> String {
    let lines: Vec<String> = (0..count).map(|number| format!("{number}\n")).collect();
    lines.concat()
}

async fn wait(link: &SshLink, is_wanted: fn(&LinkState) -> bool) -> LinkState {
    let mut state: watch::Receiver<LinkState> = link.state();
    let found = timeout(LIMIT, state.wait_for(is_wanted)).await;
    found
        .expect("the state of the link changes")
        .unwrap()
        .clone()
}

fn is_up(state: &LinkState) -> bool {
    matches!(state, LinkState::Up(_))
}

fn is_down(state: &LinkState) -> bool {
    matches!(state, LinkState::Down(_))
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_link_lose_and_reorder_nothing() {
    let machine = Machine::start();
    let port = http_server().await;
    let link = start(&machine, port);
    let endpoint = link.endpoint(port).await.unwrap();
    let expected = numbers(2000);
    let streams = (0..50).map(|_| get_text(&endpoint, "/numbers/2000"));
    for text in join_all(streams).await {
        assert!(text.unwrap() == expected);
    }
    assert_eq!(machine.server.connections(), 1);
    drop((link, endpoint));
    machine.left().await;
}

#[tokio::test]
async fn the_node_reaches_the_queen() {
    let machine = Machine::start();
    let port = http_server().await;
    let link = start(&machine, port);
    let url = link.queen_url().await.unwrap();
    assert_ne!(url, format!("http://127.0.0.1:{port}"));
    let on_node = Endpoint {
        base: url,
        http: rest_client::http_client().unwrap(),
    };
    assert_eq!(get_text(&on_node, "/numbers/3").await.unwrap(), numbers(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_returns_with_the_same_addresses() {
    let machine = Machine::start();
    let port = http_server().await;
    let link = start(&machine, port);
    let endpoint = link.endpoint(port).await.unwrap();
    let queen_url = link.queen_url().await.unwrap();
    let running = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { get_text(&endpoint, "/endless").await }
    });
    machine.server.set_mode(Mode::Refuse);
    machine.server.cut();
    timeout(LIMIT, running)
        .await
        .unwrap()
        .unwrap()
        .expect_err("the stream ends with an error");
    let LinkState::Down(_) = wait(&link, is_down).await else {
        unreachable!()
    };
    for error in [
        link.endpoint(port).await.unwrap_err(),
        link.endpoint(1).await.unwrap_err(),
        link.queen_url().await.unwrap_err(),
    ] {
        assert_eq!(error.code, Code::SshUnreachable);
        assert!(
            error.message.starts_with("node gpu-box is not connected: "),
            "{error}"
        );
    }
    get_text(&endpoint, "/numbers/1").await.unwrap_err();

    machine.server.set_mode(Mode::Serve);
    wait(&link, is_up).await;
    assert_eq!(get_text(&endpoint, "/numbers/3").await.unwrap(), numbers(3));
    assert_eq!(link.queen_url().await.unwrap(), queen_url);
    drop((link, endpoint));
    machine.left().await;
}

/// Returns the sockets that lead to ports of the node.
fn sockets(machine: &Machine) -> Vec<String> {
    let directories = fs::read_dir(machine.home.ssh_sockets()).unwrap().flatten();
    let files = directories.flat_map(|directory| fs::read_dir(directory.path()).unwrap().flatten());
    let names = files.map(|file| file.file_name().into_string().unwrap());
    names.filter(|name| name != "control").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_released_leaves_nothing_and_is_reachable_again() {
    let machine = Machine::start();
    let (kept, released) = (http_server().await, http_server().await);
    let link = start(&machine, kept);
    let endpoint = link.endpoint(kept).await.unwrap();
    let stream = link.endpoint(released).await.unwrap();
    let stream = stream.http.get(format!("{}/numbers/2000", stream.base));
    let running = stream.send().await.unwrap();
    assert_eq!(sockets(&machine).len(), 2);
    link.release(released).await;
    assert_eq!(sockets(&machine), [kept.to_string()]);
    assert!(
        running.text().await.unwrap() == numbers(2000),
        "a stream that is under way goes on"
    );
    let again = link.endpoint(released).await.unwrap();
    assert_eq!(get_text(&again, "/numbers/3").await.unwrap(), numbers(3));

    machine.server.set_mode(Mode::Refuse);
    machine.server.cut();
    wait(&link, is_down).await;
    link.release(released).await;
    machine.server.set_mode(Mode::Serve);
    wait(&link, is_up).await;
    assert_eq!(get_text(&endpoint, "/numbers/3").await.unwrap(), numbers(3));
    assert_eq!(sockets(&machine), [kept.to_string()]);
}

#[tokio::test]
async fn the_next_queen_has_the_same_address_on_the_node() {
    let machine = Machine::start();
    let link = start(&machine, 1);
    let url = link.queen_url().await.unwrap();
    drop(link);
    machine.left().await;
    let link = start(&machine, 2);
    assert_eq!(link.queen_url().await.unwrap(), url);
    // Another program has taken the port in the meantime.
    drop(link);
    machine.left().await;
    let _taken = TcpListener::bind(url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    assert_ne!(start(&machine, 3).queen_url().await.unwrap(), url);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_noticed() {
    let mut machine = Machine::start();
    machine.settings.alive_interval = Duration::from_secs(1);
    machine.settings.alive_count = 1;
    let port = http_server().await;
    let link = start(&machine, port);
    let endpoint = link.endpoint(port).await.unwrap();
    machine.server.freeze();
    let running = get_text(&endpoint, "/numbers/1");
    timeout(LIMIT, running).await.unwrap().unwrap_err();
    wait(&link, is_down).await;
    machine.server.thaw();
    wait(&link, is_up).await;
    assert_eq!(get_text(&endpoint, "/numbers/3").await.unwrap(), numbers(3));
}

/// The frozen process of the server holds the port that leads to the queen.
#[tokio::test(flavor = "multi_thread")]
async fn the_address_on_the_node_stays_when_a_server_stays_frozen() {
    let mut machine = Machine::start();
    machine.settings.alive_interval = Duration::from_secs(1);
    machine.settings.alive_count = 1;
    let link = start(&machine, http_server().await);
    let url = link.queen_url().await.unwrap();
    machine.server.freeze();
    wait(&link, is_down).await;
    machine.server.set_mode(Mode::Serve);
    wait(&link, is_up).await;
    assert_eq!(link.queen_url().await.unwrap(), url);
    assert_eq!(machine.server.connections(), 1, "the frozen one is ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_losses_leak_nothing() {
    let machine = Machine::start();
    let port = http_server().await;
    let link = start(&machine, port);
    let endpoint = link.endpoint(port).await.unwrap();
    let mut files = Vec::new();
    for _ in 0..20 {
        let LinkState::Up(connected) = wait(&link, is_up).await else {
            unreachable!()
        };
        let texts = join_all((0..5).map(|_| get_text(&endpoint, "/numbers/10"))).await;
        assert!(
            texts.iter().all(|text| *text == Ok(numbers(10))),
            "{texts:?}"
        );
        // One directory for the connection, one for the sockets of the link.
        assert_eq!(machine.sockets().len(), 2);
        assert_eq!(machine.server.connections(), 1);
        files.push(open_files());
        let streams = (0..5).map(|_| get_text(&endpoint, "/endless"));
        let cut = async {
            tokio::task::yield_now().await;
            machine.server.cut();
        };
        let (ended, ()) = tokio::join!(timeout(LIMIT, join_all(streams)), cut);
        assert!(ended.unwrap().iter().all(Result::is_err));
        timeout(LIMIT, connected.session.closed()).await.unwrap();
        wait_for_other_session(&link, &connected.session).await;
    }
    // Other tests of this process open files at the same time, so the number only stays low.
    let (first, last) = (files[0], files[files.len() - 1]);
    assert!(last < first + 150, "{files:?}");
    drop((link, endpoint));
    machine.left().await;
}

async fn wait_for_other_session(link: &SshLink, lost: &ssh_link::SshSession) {
    let mut state = link.state();
    let other = state.wait_for(
        |state| !matches!(state, LinkState::Up(connected) if connected.session.is_same(lost)),
    );
    timeout(LIMIT, other).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_link_that_cannot_log_in_says_why() {
    let machine = Machine::start();
    machine.server.replace_host_key().unwrap();
    let link = start(&machine, 1);
    let error = link.endpoint(1).await.unwrap_err();
    assert_eq!(error.code, Code::SshHostKeyUnknown);
    assert!(
        error
            .message
            .starts_with("node gpu-box is not connected: the host key of box has changed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_host_key_that_changes_between_two_connections_is_refused() {
    let machine = Machine::start();
    let link = start(&machine, 1);
    wait(&link, is_up).await;
    machine.server.replace_host_key().unwrap();
    machine.server.cut();
    let is_refused = |state: &LinkState| matches!(state, LinkState::Down(error) if error.code == Code::SshHostKeyUnknown);
    let LinkState::Down(error) = wait(&link, is_refused).await else {
        unreachable!()
    };
    let start = "the host key of box has changed to SHA256:";
    assert!(error.message.starts_with(start), "{error}");
}
