//! Copies from node to node, compared with `scp`.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use cluster::{Cluster, HiveProcess};
use hive_contract::{ModelQuery, PullRequest};
use sim::{files::Content, hub::Hub};
use ssh_server::{ALIAS, SshServer};

const MODEL: &str = "hf:org/repo";

/// Copies a model of `size` bytes from one hive through the queen to another, and its file by
/// `scp` through an SSH server on the same machine, in turns. All processes share the cores.
pub(super) async fn run(bin_dir: &Path, dir: &Path, size: u64, count: u32) -> Result<()> {
    let weights = dir.join("weights.gguf");
    write_weights(&weights, size)?;
    let hub = Hub::start().await?;
    hub.commit("org/repo", [("model-Q8_0.gguf", weights.clone())])?;
    let environment = [("HF_ENDPOINT", &*hub.url()), ("HF_TOKEN", "")];
    let cluster = Cluster::start(bin_dir, &dir.join("queen"), &environment).await?;
    let mut nodes = Vec::new();
    for name in ["source", "target"] {
        let hive = HiveProcess::start(bin_dir, dir, name, &environment).await?;
        cluster.add(&hive).await?;
        nodes.push(hive);
    }
    let [source, target] = &nodes[..] else {
        return Ok(());
    };
    let request = PullRequest {
        model: MODEL.parse()?,
        revision: None,
    };
    cluster.pull(&source.name, &request).await.0?;
    let server = SshServer::start()?;
    let (mut scp, mut own) = (Vec::new(), Vec::new());
    for round in 0..=count {
        let pair = (
            by_scp(&server, &weights, dir.join("copied.gguf")).await?,
            by_queen(&cluster, target, &request).await?,
        );
        // The first round warms up.
        if round > 0 {
            scp.push(pair.0);
            own.push(pair.1);
        }
    }
    let bytes = fs::metadata(&weights)?.len() as f64 / 1e6;
    let (scp, own) = (bytes / median(scp)?, bytes / median(own)?);
    println!("| program | MB/s | of scp |");
    println!("|---|---|---|");
    println!("| scp | {scp:.0} | 1 |");
    println!(
        "| copy through the queen, verified | {own:.0} | {:.2} |",
        own / scp
    );
    Ok(())
}

/// Seconds of a copy by `scp`, from the server.
async fn by_scp(server: &SshServer, from: &Path, to: PathBuf) -> Result<f64> {
    let mut command = Command::new("scp");
    // The server has no SFTP.
    command.args(["-O", "-q", "-F"]).arg(server.config());
    command.arg(format!("{ALIAS}:{}", from.display())).arg(&to);
    command.stdin(Stdio::null());
    let begun = Instant::now();
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    let took = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "scp failed");
    ensure!(fs::metadata(&to)?.len() == fs::metadata(from)?.len());
    fs::remove_file(to)?;
    Ok(took)
}

/// Seconds of a pull, of which the files are removed afterwards.
async fn by_queen(cluster: &Cluster, target: &HiveProcess, request: &PullRequest) -> Result<f64> {
    let begun = Instant::now();
    let (pulled, narrated) = cluster.pull(&target.name, request).await;
    let took = begun.elapsed().as_secs_f64();
    ensure!(pulled?.fetched_bytes > 0, "the model was there already");
    let copies = |n: &diagnostics::Narration| n.message.starts_with("copying");
    ensure!(narrated.iter().any(copies), "not copied: {narrated:?}");
    let query = ModelQuery {
        model: request.model.clone(),
    };
    let removed = cluster.client.remove_model(Some(&target.name), &query);
    removed.await?;
    Ok(took)
}

/// Writes a model that is larger than its tensors.
fn write_weights(path: &Path, size: u64) -> Result<()> {
    let model = "../../models/haiku/rbee-haiku-tiny-q8_0.gguf";
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(model);
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&fs::read(model)?)?;
    for piece in Content::new(2, size).pieces(0..size) {
        file.write_all(&piece)?;
    }
    Ok(file.flush()?)
}

fn median(mut seconds: Vec<f64>) -> Result<f64> {
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.len() / 2;
    seconds.get(middle).copied().context("no round")
}
