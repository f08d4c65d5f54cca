//! What a link by SSH adds to a token and to a request, and its throughput. The server runs on the
//! same machine: both sides and the encryption share its cores.

mod requests;
mod throughput;
mod tokens;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::{Router, body::Body, extract::Path, routing::get};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use node_link::{Endpoint, Link as _};
use queen_contract::SshNode;
use rest_client::HttpClient;
use ssh_link::{LinkConfig, SshLink, SshSettings};
use ssh_server::{ALIAS, SshServer};
use state_files::Home;
use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};

use crate::machine;

/// Options of the benchmark.
#[derive(Args)]
pub struct LinkArgs {
    /// Directory of the rbee binaries; set by the xtask
    #[arg(long)]
    bin_dir: PathBuf,
    /// Rounds of each comparison, after one that warms up
    #[arg(long, default_value_t = 5)]
    count: u32,
    /// Size of the file for the throughput in megabytes
    #[arg(long, default_value_t = 500)]
    size: u64,
}

pub async fn run(args: &LinkArgs) -> Result<()> {
    println!(
        "link: {}; SSH server on the same cores",
        machine::describe()
    );
    let setting = Setting::start().await?;
    tokens::run(&setting, args.count).await?;
    requests::run(&args.bin_dir, args.count).await?;
    throughput::run(&setting, args.size, args.count).await
}

/// An HTTP server, and a link to the machine that it runs on.
struct Setting {
    server: SshServer,
    direct: Endpoint,
    over_link: Endpoint,
    _link: SshLink,
    _directory: TempDir,
}

impl Setting {
    async fn start() -> Result<Self> {
        let server = SshServer::start()?;
        let port = serve().await?;
        let directory = tempfile::Builder::new().prefix("rbee-bench-").tempdir()?;
        let home = Home::open(Some(directory.path().to_owned()))?;
        let settings = SshSettings {
            config_file: Some(server.config()),
            ..SshSettings::new(&home)?
        };
        let link = SshLink::start(LinkConfig {
            name: ALIAS.parse()?,
            node: SshNode {
                host: ALIAS.parse()?,
                port: None,
                user: None,
                key_file: None,
                directory: None,
                repository: None,
                branch: None,
            },
            settings: Arc::new(settings),
            queen_url: format!("http://127.0.0.1:{port}"),
            port_file: home.queen_port_on(&ALIAS.parse()?),
        })?;
        let direct = Endpoint {
            base: format!("http://127.0.0.1:{port}"),
            http: rest_client::http_client()?,
        };
        Ok(Self {
            over_link: link.endpoint(port).await?,
            server,
            direct,
            _link: link,
            _directory: directory,
        })
    }
}

/// Serves `/tokens/COUNT/MICROSECONDS`, a stream of that many events with this pause, and
/// `/zeros/BYTES`.
async fn serve() -> Result<u16> {
    let tokens = |Path((count, pause)): Path<(u64, u64)>| async move {
        let begun = Instant::now();
        let events = stream::iter(1..=count).then(move |number| async move {
            tokio::time::sleep_until(begun + Duration::from_micros(number * pause)).await;
            Ok::<_, std::convert::Infallible>(tokens::event())
        });
        Body::from_stream(events)
    };
    let zeros = |Path(bytes): Path<u64>| async move {
        let pieces = bytes.div_ceil(throughput::PIECE.len() as u64);
        let pieces = stream::iter(0..pieces).map(move |number| {
            let left = bytes - number * throughput::PIECE.len() as u64;
            let length = throughput::PIECE
                .len()
                .min(left.try_into().unwrap_or(usize::MAX));
            Ok::<_, std::convert::Infallible>(&throughput::PIECE[..length])
        });
        Body::from_stream(pieces)
    };
    let app = Router::new()
        .route("/tokens/{count}/{pause}", get(tokens))
        .route("/zeros/{bytes}", get(zeros));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(port)
}

fn url(endpoint: &Endpoint, path: &str) -> String {
    format!("{}{path}", endpoint.base)
}

fn client(endpoint: &Endpoint) -> &HttpClient {
    &endpoint.http
}

/// The value that this percentage of the sorted values does not exceed.
fn percentile(sorted: &[f64], percent: usize) -> Result<f64> {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().context("nothing was measured")
}

/// Prints a row: milliseconds of the median and the 95th percentile, and, after the first row,
/// what they add to those of the first one, and their ratio.
fn print_row(name: &str, values: &mut [f64], first: &mut Option<(f64, f64)>) -> Result<()> {
    values.sort_by(f64::total_cmp);
    let (p50, p95) = (percentile(values, 50)?, percentile(values, 95)?);
    print!("| {name} | {p50:.3} | {p95:.3} |");
    match first {
        None => {
            *first = Some((p50, p95));
            println!(" | | |");
        }
        Some((first_p50, first_p95)) => println!(
            " {:.3} | {:.3} | {:.2} |",
            p50 - *first_p50,
            p95 - *first_p95,
            p50 / *first_p50
        ),
    }
    Ok(())
}
