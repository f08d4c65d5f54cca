//! The packages of this repository that install what a release published. The releases are on a
//! server that answers as GitHub does: with a redirect to a signed address of another host.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use axum::{
    Router,
    http::{StatusCode, Uri, header::LOCATION},
    response::IntoResponse as _,
};
use bdd::{World, binary};
use catalog_writer::Parameters;
use cucumber::given;
use tokio::net::TcpListener;

use super::package_catalog::{catalog_of, sha256};

const SIGNED: &str = "/release-asset?signature=";
const GITHUB: &str = "https://github.com";
const LLAMA: &str = "ggml-org/llama.cpp/releases/download/b9999";
const RBEE: &str = "rbee/releases/download";

#[given("a catalog of the packages of this repository for published releases")]
async fn catalog(world: &mut World) {
    let releases = world.dir().join("releases");
    let mut parameters = Parameters::default();
    let mut set = |name: &str, value: &str| parameters.set(name, value).unwrap();
    set("LLAMA_CPP_BUILD", "9999");
    set("RELEASE", "0.1.0");
    for (system, name) in [
        ("ubuntu-x64", "CPU_SHA256_X86_64"),
        ("ubuntu-arm64", "CPU_SHA256_AARCH64"),
        ("ubuntu-vulkan-x64", "VULKAN_SHA256_X86_64"),
    ] {
        let file = releases.join(format!("{LLAMA}/llama-b9999-bin-{system}.tar.gz"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        pack(world.dir(), &file);
        let hash = sha256(&fs::read(&file).unwrap());
        set(&format!("LLAMA_CPP_{name}"), &hash);
    }
    let worker = fs::read(binary("llm-cpu-worker-rbee")).unwrap();
    let release = releases.join(RBEE).join("0.1.0");
    fs::create_dir_all(&release).unwrap();
    for machine in ["x86_64", "aarch64"] {
        fs::write(
            release.join(format!("llm-cpu-worker-rbee-{machine}")),
            &worker,
        )
        .unwrap();
        let name = format!("LLM_CPU_WORKER_SHA256_{}", machine.to_uppercase());
        set(&name, &sha256(&worker));
    }
    let server = serve(world, &releases).await;
    set("RELEASES", &format!("{server}/{RBEE}"));
    let packages = world.dir().join("packages");
    for package in [
        "llama-cpp-cpu-bin",
        "llama-cpp-vulkan-bin",
        "llm-cpu-worker-rbee-bin",
    ] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packages");
        let to = packages.join(package);
        fs::create_dir_all(&to).unwrap();
        for file in ["PKGBUILD", "package.toml"] {
            let text = fs::read_to_string(from.join(package).join(file)).unwrap();
            let text = text.replace(
                &format!("{GITHUB}/{LLAMA}").replace("b9999", "b$pkgver"),
                &format!("{server}/{LLAMA}").replace("b9999", "b$pkgver"),
            );
            fs::write(to.join(file), text).unwrap();
        }
    }
    let (sources, left_out) = catalog_writer::read(&packages, &parameters, "").unwrap();
    assert_eq!(left_out, []);
    assert_eq!(sources.len(), 3);
    catalog_of(world, &sources);
}

/// An archive with the layout of llama.cpp's releases: one directory with the programs, the libraries
/// that they find beside themselves, and links among these. The program is that of
/// `RBEE_LLAMA_SERVER`, or a script.
fn pack(dir: &Path, archive: &Path) {
    let root = dir.join("llama-b9999");
    if !root.exists() {
        fs::create_dir(&root).unwrap();
        let library = "#!/bin/sh\necho 'version: 9999 (0123456)'\n";
        fs::write(root.join("libllama.so.0.0.9999"), library).unwrap();
        symlink("libllama.so.0.0.9999", root.join("libllama.so.0")).unwrap();
        symlink("libllama.so.0", root.join("libllama.so")).unwrap();
        fs::write(root.join("LICENSE"), "MIT\n").unwrap();
        let server = root.join("llama-server");
        let script = "#!/bin/sh\n. \"$(dirname \"$0\")/libllama.so.0\"\n";
        match std::env::var_os("RBEE_LLAMA_SERVER") {
            Some(real) => drop(fs::copy(real, &server).unwrap()),
            None => fs::write(&server, script).unwrap(),
        }
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut tar = Command::new("tar");
    let tar = tar.arg("-czf").arg(archive).arg("-C").arg(dir);
    assert!(tar.arg("llama-b9999").status().unwrap().success());
}

/// Serves the releases below `root`. Returns the address of the server that redirects.
async fn serve(world: &mut World, root: &Path) -> String {
    let root = root.to_owned();
    let assets = listen(world, move |uri| {
        let path = uri.to_string();
        let file = path.strip_prefix(SIGNED).map(|file| root.join(file));
        match file.and_then(|file| fs::read(file).ok()) {
            Some(content) => content.into_response(),
            None => StatusCode::FORBIDDEN.into_response(),
        }
    })
    .await;
    listen(world, move |uri| {
        let place = format!("{assets}{SIGNED}{}", &uri.path()[1..]);
        (StatusCode::FOUND, [(LOCATION, place)]).into_response()
    })
    .await
}

async fn listen(
    world: &mut World,
    answer: impl Fn(Uri) -> axum::response::Response + Clone + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |uri: Uri| {
        let response = answer(uri);
        async move { response }
    };
    world.spawn(async move {
        let router = Router::new().fallback(answer);
        axum::serve(listener, router).await.unwrap();
    });
    format!("http://{address}")
}
