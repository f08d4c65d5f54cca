//! A server that accepts connections and answers nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use bdd::{World, eventually};
use cucumber::{given, then, when};
use tokio::net::TcpListener;

use super::LIMIT;

/// Number of connections so far.
#[derive(Debug, Default)]
struct Connections(Arc<AtomicUsize>);

#[given("a server that does not answer")]
async fn server(world: &mut World) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    world.noted.insert("server".into(), url);
    let count = world.get::<Connections>().0.clone();
    world.spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
            count.fetch_add(1, SeqCst);
        }
    });
}

#[given("the catalog of the hive is at this server")]
fn catalog(world: &mut World) {
    let (_, public) = catalog_writer::new_key().unwrap();
    let url = format!("{}/catalog", world.noted["server"]);
    let environment = &mut world.environment;
    environment.push(("RBEE_CATALOG".to_owned(), url));
    environment.push(("RBEE_CATALOG_KEY".to_owned(), public));
}

#[when("the server was asked")]
async fn asked(world: &mut World) {
    let count = world.get::<Connections>().0.clone();
    eventually(LIMIT, || async {
        match count.load(SeqCst) {
            0 => Err("no connection"),
            _ => Ok(()),
        }
    })
    .await;
}

#[then(regex = r"^no (\w+) process is left$")]
async fn none_left(world: &mut World, name: String) {
    let world = &*world;
    eventually(LIMIT, || async {
        let of_name = |line: &&String| {
            let program = line.split(' ').next().unwrap_or_default();
            program
                .rsplit('/')
                .next()
                .is_some_and(|n| n.starts_with(&name))
        };
        let processes = world.processes();
        match processes.values().find(of_name) {
            None => Ok(()),
            Some(line) => Err(line.clone()),
        }
    })
    .await;
}
