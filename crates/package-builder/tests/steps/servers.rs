//! File servers and git repositories.

use std::{fs, path::Path, process::Command, time::Duration};

use bdd::{World, eventually};
use cucumber::{given, then, when};
use sim::files::{Content, Fault, FileServer, Served};

#[derive(Default)]
struct Server(Option<FileServer>);

impl Server {
    fn get(&self) -> &FileServer {
        self.0.as_ref().expect("a file server")
    }
}

#[given(regex = r"^a file server with `/(\S+)` of (\d+) bytes$")]
async fn server(world: &mut World, name: String, size: u64) {
    let server = FileServer::start().await.unwrap();
    let content = Content::new(7, size);
    let url = server.put(&format!("/{name}"), Served::new(content));
    let origin = url.strip_suffix(&format!("/{name}")).unwrap().to_owned();
    world.noted.insert("server".to_owned(), origin);
    let sum = hex::encode(content.sha256());
    world.noted.insert(format!("sha256 of {name}"), sum);
    world.get::<Server>().0 = Some(server);
}

#[given(regex = r"^the file server cuts the first response after (\d+) bytes$")]
fn cuts(world: &mut World, bytes: u64) {
    let server = world.get::<Server>().get();
    server.fault(move |asked| (asked.number == 0).then_some(Fault::Cut(bytes)));
}

#[given(regex = r"^the file server stops every response after (\d+) bytes$")]
fn stalls(world: &mut World, bytes: u64) {
    world
        .get::<Server>()
        .get()
        .fault(move |_| Some(Fault::Stall(bytes)));
}

#[when("the file server was asked")]
async fn asked(world: &mut World) {
    let server = world.get::<Server>().get();
    eventually(Duration::from_secs(10), || async {
        if server.requests().is_empty() {
            Err("no request")
        } else {
            Ok(())
        }
    })
    .await;
}

#[then(regex = r"^the file server has sent less than (\d+) bytes$")]
fn sent(world: &mut World, limit: u64) {
    let server = world.get::<Server>().get();
    assert!(server.served() < limit, "{:#?}", server.requests());
    assert!(server.requests().len() > 1, "nothing was continued");
}

#[given("a git repository with the tag v1 and the branch next")]
fn repository(world: &mut World) {
    let dir = world.dir().join("repository");
    fs::create_dir(&dir).unwrap();
    git(&dir, &["init", "--quiet", "--initial-branch=main"]);
    commit(&dir, "first");
    git(&dir, &["tag", "v1"]);
    let head = git(&dir, &["rev-parse", "HEAD"]);
    world.noted.insert("commit".to_owned(), head);
    commit(&dir, "second");
    git(&dir, &["checkout", "--quiet", "-b", "next"]);
    commit(&dir, "third");
    git(&dir, &["checkout", "--quiet", "main"]);
}

fn commit(dir: &Path, content: &str) {
    fs::write(dir.join("file"), content).unwrap();
    git(dir, &["add", "file"]);
    git(dir, &["commit", "--quiet", "-m", content]);
}

fn git(dir: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    let output = Command::new("git")
        .args(identity)
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
