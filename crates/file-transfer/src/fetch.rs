//! The transfer of one file, from the lock to the final name.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use diagnostics::Diagnostic;
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinHandle, JoinSet},
};

use crate::{
    Fetched, RemoteFile, TransferProgress, TransferSettings,
    disk::{Disk, Hashable},
    errors,
    journal::{self, Identity, Journal, Record},
    lane::{Lanes, lock, random},
    limit::Limiter,
    part::{self, Acquired, Part, Paths},
    plan::Plan,
    ranges::Ranges,
    rate::RateWindow,
    retry::{self, Attempts},
    source::{Failure, Opened, Source},
};

/// Bytes of a piece.
const MAX_PIECE: u64 = 8 << 20;
const MIN_PIECE: u64 = 1 << 20;
/// Time between two reports of progress.
const TICK: Duration = Duration::from_millis(100);
/// Time between two looks at the disk and at slow connections.
const WATCH: Duration = Duration::from_secs(1);
/// Time between two checkpoints of the journal.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// Bytes between two checkpoints at most: the disk writes while more are received, and little is
/// left to be written at the end.
const CHECKPOINT_BYTES: u64 = 256 << 20;
/// Time between two attempts to get the lock.
const LOCK_POLL: Duration = Duration::from_millis(100);
/// Writes that wait for the disk.
const WRITE_QUEUE: usize = 32;
/// How often a file is fetched whole if its hash is wrong.
const WHOLE_ATTEMPTS: u32 = 3;
/// How often a transfer starts over because the file changed.
const MAX_CHANGES: u32 = 3;

/// Why an attempt to fetch the whole file ended.
enum End {
    Failed(Diagnostic),
    /// The server has another version than the partial file.
    Changed,
    /// The content, or what the server says of it, is not what was expected.
    Mismatch(Diagnostic),
}

impl From<Diagnostic> for End {
    fn from(error: Diagnostic) -> Self {
        Self::Failed(error)
    }
}

/// Receives reports of progress.
pub(crate) type ProgressFn<'a> = &'a (dyn Fn(TransferProgress) + Send + Sync);

/// The transfer of a file.
pub(crate) struct Fetch<'a> {
    file: &'a RemoteFile,
    settings: &'a TransferSettings,
    limiter: Arc<Limiter>,
    source: Arc<Source>,
    paths: Paths,
    reporter: Reporter<'a>,
    /// Bytes received by all attempts.
    received: u64,
}

impl<'a> Fetch<'a> {
    pub(crate) fn new(
        file: &'a RemoteFile,
        settings: &'a TransferSettings,
        limiter: Arc<Limiter>,
        source: Source,
        paths: Paths,
        progress: ProgressFn<'a>,
    ) -> Self {
        Self {
            file,
            settings,
            limiter,
            source: Arc::new(source),
            paths,
            reporter: Reporter {
                progress,
                started: Instant::now(),
                most: 0,
                window: RateWindow::default(),
            },
            received: 0,
        }
    }

    /// Fetches the file, or finds it complete. A failure before the first byte leaves no file.
    pub(crate) async fn run(mut self) -> Result<Fetched, Diagnostic> {
        let result = self.fetch().await;
        if result.is_err() {
            let paths = self.paths;
            blocking(move || {
                Part::remove_empty(&paths);
                Ok(())
            })
            .await?;
        }
        result
    }

    async fn fetch(&mut self) -> Result<Fetched, Diagnostic> {
        let (mut mismatches, mut changes) = (0, 0);
        loop {
            let Some(part) = self.acquire().await? else {
                return self.existing().await;
            };
            let error = match self.attempt(part).await {
                Ok(fetched) => return Ok(fetched),
                Err(End::Failed(error)) => return Err(error),
                Err(End::Changed) => {
                    changes += 1;
                    if changes > MAX_CHANGES {
                        return Err(errors::keeps_changing(self.source.url()));
                    }
                    None
                }
                Err(End::Mismatch(error)) => {
                    mismatches += 1;
                    Some(error)
                }
            };
            if let Some(error) = error {
                if mismatches >= WHOLE_ATTEMPTS {
                    return Err(error);
                }
                let first = self.settings.first_delay;
                tokio::time::sleep(retry::delay(mismatches, first, random(), None)).await;
            }
        }
    }

    /// Waits for the lock of the partial file, and reports the progress of the one that has it.
    /// `None` if the target exists.
    async fn acquire(&mut self) -> Result<Option<Part>, Diagnostic> {
        loop {
            let paths = self.paths.clone();
            match blocking(move || Part::acquire(&paths)).await? {
                Acquired::Part(part) => return Ok(Some(part)),
                Acquired::Exists => return Ok(None),
                Acquired::Busy => {}
            }
            let state = self.paths.state.clone();
            let record = blocking(move || journal::read(&state, u64::MAX)).await?;
            if let Some(record) = record {
                let done = record.written.count();
                self.reporter.report(done, Some(record.identity.size));
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    }

    /// Verifies a target that exists, as far as its size and hash are known.
    async fn existing(&mut self) -> Result<Fetched, Diagnostic> {
        let target = self.paths.target.clone();
        let (size, sha256) = blocking(move || part::hash_file(&target)).await?;
        let is_other = self.file.size.is_some_and(|expected| expected != size)
            || self.file.sha256.is_some_and(|expected| expected != sha256);
        if is_other {
            return Err(errors::occupied(&self.paths.target));
        }
        self.reporter.report(size, Some(size));
        Ok(Fetched {
            size,
            sha256,
            received: self.received,
        })
    }

    async fn attempt(&mut self, part: Part) -> Result<Fetched, End> {
        let (part, record) = blocking(move || {
            let record = journal::read(&part.paths.state, part.size()?)?;
            if record.is_none() {
                part.clear()?;
            }
            Ok((part, record))
        })
        .await?;
        let first = self.first_range(record.as_ref());
        let opened = match self.open(first).await {
            Ok(opened) => Some(opened),
            // A server says so of every range of an empty file.
            Err(Failure::Beyond(Some(0))) if self.file.size.is_none_or(|size| size == 0) => None,
            Err(Failure::Beyond(_) | Failure::Changed) => {
                blocking(move || part.clear()).await?;
                return Err(End::Changed);
            }
            Err(Failure::Final(error) | Failure::Retry { error, .. }) => {
                return Err(End::Failed(error));
            }
        };
        let version = self.version(opened.as_ref())?;
        let identity = version.identity();
        let (part, journal, written) = blocking(move || {
            let same = record.zip(identity.as_ref());
            let same = same.filter(|(record, identity)| record.identity.is_same(identity));
            let (synced, written) = if let Some((record, _)) = same {
                (record.synced, record.written)
            } else {
                part.clear()?;
                Default::default()
            };
            let begin =
                |identity| Journal::begin(part.paths.state.clone(), identity, &synced, &written);
            let journal = identity.map(begin).transpose()?;
            Ok((part, journal, written))
        })
        .await?;
        self.check_space(version.size, written.count()).await?;
        self.transfer(part, journal, opened, version, written).await
    }

    /// The range to ask for first. `None` asks for the whole file.
    fn first_range(&self, record: Option<&Record>) -> Option<Range<u64>> {
        let known = self.file.size.or(record.map(|record| record.identity.size));
        if known == Some(0) {
            return None;
        }
        let size = known.unwrap_or(u64::MAX);
        let none = Ranges::default();
        let written = record.map_or(&none, |record| &record.written);
        let piece = match known {
            Some(size) => self.pieces(size.saturating_sub(written.count())).1,
            None => MIN_PIECE,
        };
        let range = match written.first_gap(size) {
            Some(gap) => gap.start..gap.end.min(gap.start.saturating_add(piece)),
            // All bytes are there. What the server says of the last one tells the version.
            None => size - 1..size,
        };
        Some(range)
    }

    /// Number of connections for `missing` bytes, and bytes of a piece.
    fn pieces(&self, missing: u64) -> (u64, u64) {
        let most = self.settings.connections.max(1) as u64;
        let lanes = missing.div_ceil(MIN_PIECE).clamp(1, most);
        (lanes, missing.div_ceil(lanes).clamp(MIN_PIECE, MAX_PIECE))
    }

    /// Sends the first request, with further attempts.
    async fn open(&self, range: Option<Range<u64>>) -> Result<Opened, Failure> {
        let mut attempts = Attempts::default();
        loop {
            match self.source.open(range.clone()).await {
                Err(Failure::Retry { error, after }) => {
                    let Some(failures) = attempts.failed(false, 0) else {
                        return Err(Failure::Final(error));
                    };
                    let first = self.settings.first_delay;
                    tokio::time::sleep(retry::delay(failures, first, random(), after)).await;
                }
                result => return result,
            }
        }
    }

    /// Learns the version of the file from the first response; `None` if the file is empty.
    fn version(&self, opened: Option<&Opened>) -> Result<Version, End> {
        let Some(opened) = opened else {
            return Ok(Version {
                size: Some(0),
                sha256: self.file.sha256,
                etag: None,
                ranged: true,
            });
        };
        let url = self.source.url();
        let content = &opened.content;
        if let (Some(expected), Some(size)) = (self.file.size, content.size)
            && expected != size
        {
            let error = errors::mismatch("size", url, &expected.to_string(), &size.to_string());
            return Err(End::Mismatch(error));
        }
        if let (Some(expected), Some(stated)) = (self.file.sha256, opened.sha256)
            && expected != stated
        {
            return Err(End::Mismatch(hash_mismatch(&self.source, expected, stated)));
        }
        let size = content.size.or(self.file.size);
        if content.ranged && size.is_none() {
            let host = errors::show_host(url);
            return Err(
                errors::failed(format!("{host} does not state the size of the file")).into(),
            );
        }
        Ok(Version {
            size,
            sha256: self.file.sha256.or(opened.sha256),
            etag: content.etag.clone(),
            ranged: content.ranged,
        })
    }

    async fn check_space(&self, size: Option<u64>, written: u64) -> Result<(), Diagnostic> {
        let dir = self.paths.dir().to_owned();
        let reserve = self.settings.reserve_bytes;
        let missing = size.unwrap_or(0).saturating_sub(written);
        blocking(move || {
            let free = part::free_space(&dir)?;
            let need = missing.saturating_add(reserve);
            if missing > 0 && free < need {
                return Err(errors::insufficient_disk(&dir, need, free));
            }
            Ok(())
        })
        .await
    }

    async fn transfer(
        &mut self,
        part: Part,
        journal: Option<Journal>,
        opened: Option<Opened>,
        version: Version,
        written: Ranges,
    ) -> Result<Fetched, End> {
        let missing = version.size.unwrap_or(0).saturating_sub(written.count());
        let (lanes, piece) = match self.pieces(missing) {
            (lanes, piece) if version.ranged => (lanes, piece),
            (_, piece) => (1, piece),
        };
        let hashable = Hashable::new(written.prefix());
        let mut plan = Plan::new(version.size, piece, written);
        let first = opened.and_then(|opened| {
            let assignment = if version.ranged {
                plan.assign_within(opened.content.range.clone(), Duration::ZERO)
            } else {
                plan.assign_rest(Duration::ZERO)
            };
            Some((assignment?, opened))
        });
        let plan = Arc::new(Mutex::new(plan));
        let disk = Arc::new(Disk {
            part,
            plan: plan.clone(),
            journal: Mutex::new(journal),
            hashable,
            complete: Notify::new(),
        });
        let (writes, queue) = mpsc::channel(WRITE_QUEUE);
        let shared = Arc::new(Lanes {
            source: self.source.clone(),
            limiter: self.limiter.clone(),
            plan,
            stops: Mutex::default(),
            writes,
            started: Instant::now(),
            size: version.size,
            etag: version.etag.clone(),
            ranged: version.ranged,
            continues: version.ranged || version.etag.is_some() || version.sha256.is_some(),
            first_delay: self.settings.first_delay,
        });
        let threads = Threads::start(&disk, queue);
        let mut tasks = JoinSet::new();
        let mut first = first;
        for _ in 0..lanes {
            tasks.spawn(shared.clone().run(first.take()));
        }
        let ended = self.watch(&disk, &shared, &mut tasks).await;
        tasks.shutdown().await;
        self.received += lock(&shared.plan).arrived();
        drop(shared);
        let wrote = threads.end(ended.is_ok()).await;
        // What failed to be written explains why the lanes ended.
        let hash = wrote?;
        ended?;
        let hash = hash.ok_or_else(|| Diagnostic::internal("a file without a hash"))?;
        self.finish(disk, hash, version.sha256).await
    }

    /// Waits until all bytes are written, and reports progress.
    async fn watch(
        &mut self,
        disk: &Arc<Disk>,
        lanes: &Arc<Lanes>,
        tasks: &mut JoinSet<Failure>,
    ) -> Result<(), End> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut watched, mut checked) = (Duration::ZERO, Duration::ZERO);
        let mut checked_bytes = lock(&lanes.plan).on_disk().count();
        let mut checkpoint: Option<JoinHandle<Result<(), Diagnostic>>> = None;
        let result = loop {
            tokio::select! {
                biased;
                () = disk.complete.notified() => break Ok(()),
                () = lanes.writes.closed() => break Ok(()),
                ended = tasks.join_next() => break Err(end_of_lane(ended)),
                _ = tick.tick() => {}
            }
            let now = lanes.started.elapsed();
            let (done, size, is_complete) = {
                let plan = lock(&lanes.plan);
                (plan.on_disk().count(), plan.size(), plan.is_complete())
            };
            self.reporter.report(done, size);
            if is_complete {
                break Ok(());
            }
            if now.saturating_sub(watched) >= WATCH {
                watched = now;
                let slow = lock(&lanes.plan).end_slow(now);
                slow.inspect(|slow| lanes.stop(*slow));
                if let Err(error) = self.watch_space().await {
                    break Err(End::Failed(error));
                }
            }
            if checkpoint.as_ref().is_some_and(JoinHandle::is_finished)
                && let Some(checkpoint) = checkpoint.take()
                && let Err(error) = joined(checkpoint.await)
            {
                break Err(End::Failed(error));
            }
            let due = now.saturating_sub(checked) >= CHECKPOINT
                || done.saturating_sub(checked_bytes) >= CHECKPOINT_BYTES
                || disk.journal_is_long();
            if due && checkpoint.is_none() {
                (checked, checked_bytes) = (now, done);
                let disk = disk.clone();
                checkpoint = Some(tokio::task::spawn_blocking(move || disk.checkpoint()));
            }
        };
        if let Some(checkpoint) = checkpoint {
            joined(checkpoint.await)?;
        }
        result
    }

    async fn watch_space(&self) -> Result<(), Diagnostic> {
        let dir = self.paths.dir().to_owned();
        let reserve = self.settings.reserve_bytes;
        blocking(move || {
            let free = part::free_space(&dir)?;
            if free < reserve {
                return Err(errors::disk_filled(&dir, free, reserve));
            }
            Ok(())
        })
        .await
    }

    async fn finish(
        &mut self,
        disk: Arc<Disk>,
        hash: Hashed,
        expected: Option<[u8; 32]>,
    ) -> Result<Fetched, End> {
        let Hashed { size, sha256 } = hash;
        if let Some(expected) = expected
            && expected != sha256
        {
            blocking(move || disk.part.clear()).await?;
            return Err(End::Mismatch(hash_mismatch(&self.source, expected, sha256)));
        }
        self.reporter.report(size, Some(size));
        blocking(move || disk.part.publish(size)).await?;
        Ok(Fetched {
            size,
            sha256,
            received: self.received,
        })
    }
}

/// Version of a file, as far as the server tells.
#[derive(Debug)]
struct Version {
    size: Option<u64>,
    sha256: Option<[u8; 32]>,
    etag: Option<String>,
    ranged: bool,
}

impl Version {
    /// `None` if bytes of this version cannot be recognized later.
    fn identity(&self) -> Option<Identity> {
        let is_known = self.sha256.is_some() || self.etag.is_some();
        Some(Identity {
            size: self.size.filter(|_| is_known)?,
            sha256: self.sha256.map(hex::encode),
            etag: self.etag.clone(),
        })
    }
}

/// Size and hash of what was written.
#[derive(Debug)]
struct Hashed {
    size: u64,
    sha256: [u8; 32],
}

/// The threads that write and hash. They stop when the value is dropped.
struct Threads {
    disk: Arc<Disk>,
    writer: JoinHandle<Result<(), Diagnostic>>,
    hasher: JoinHandle<Result<Option<[u8; 32]>, Diagnostic>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.disk.hashable.stop();
    }
}

impl Threads {
    fn start(disk: &Arc<Disk>, queue: mpsc::Receiver<crate::lane::Write>) -> Self {
        let (writing, hashing) = (disk.clone(), disk.clone());
        Self {
            disk: disk.clone(),
            writer: tokio::task::spawn_blocking(move || writing.write(queue)),
            hasher: tokio::task::spawn_blocking(move || hashing.hash()),
        }
    }

    /// Waits until everything is written, and, if the file is complete, hashed and on the disk.
    /// The sender of writes has been dropped.
    async fn end(mut self, is_complete: bool) -> Result<Option<Hashed>, Diagnostic> {
        let wrote = joined((&mut self.writer).await);
        if wrote.is_err() || !is_complete {
            self.disk.hashable.stop();
            joined((&mut self.hasher).await)?;
            return wrote.map(|()| None);
        }
        let size = lock(&self.disk.plan).on_disk().prefix();
        self.disk.hashable.finish(size);
        let disk = self.disk.clone();
        let synced = tokio::task::spawn_blocking(move || disk.part.sync());
        let sha256 = joined((&mut self.hasher).await)?;
        joined(synced.await)?;
        Ok(sha256.map(|sha256| Hashed { size, sha256 }))
    }
}

fn end_of_lane(ended: Option<Result<Failure, tokio::task::JoinError>>) -> End {
    match ended {
        Some(Ok(Failure::Final(error) | Failure::Retry { error, .. })) => End::Failed(error),
        Some(Ok(Failure::Changed | Failure::Beyond(_))) => End::Changed,
        Some(Err(panic)) => End::Failed(Diagnostic::internal(panic)),
        None => End::Failed(Diagnostic::internal("a transfer without connections")),
    }
}

fn hash_mismatch(source: &Source, expected: [u8; 32], found: [u8; 32]) -> Diagnostic {
    let (expected, found) = (hex::encode(expected), hex::encode(found));
    errors::mismatch("SHA-256", source.url(), &expected, &found)
}

/// Reports progress that never goes backwards.
struct Reporter<'a> {
    progress: ProgressFn<'a>,
    started: Instant,
    most: u64,
    window: RateWindow,
}

impl Reporter<'_> {
    fn report(&mut self, done: u64, total: Option<u64>) {
        let rate = self.window.add(self.started.elapsed(), done);
        self.most = self.most.max(done);
        (self.progress)(TransferProgress {
            done: self.most,
            total,
            rate,
        });
    }
}

/// Runs `work` on a thread where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Diagnostic> + Send + 'static,
) -> Result<T, Diagnostic> {
    joined(tokio::task::spawn_blocking(work).await)
}

fn joined<T>(
    result: Result<Result<T, Diagnostic>, tokio::task::JoinError>,
) -> Result<T, Diagnostic> {
    result.unwrap_or_else(|panic| Err(Diagnostic::internal(panic)))
}
