#![allow(unsafe_code)]

use std::{
    any::Any,
    cell::UnsafeCell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{JoinHandle, Thread},
    time::{Duration, Instant},
};

use diagnostics::Diagnostic;

/// How long a thread waits for the next job before it parks. A step of a small model is made
/// of hundreds of jobs some microseconds apart, and waking a thread takes about five.
const SPIN: Duration = Duration::from_micros(40);
/// Looks between two looks at the clock.
const LOOKS: u32 = 64;

/// The state of a job: how many workers are in it, whether others may join, and its number.
const WORKER: u64 = 1;
const WORKERS: u64 = OPEN - 1;
const OPEN: u64 = 1 << 16;
const NEXT_JOB: u64 = OPEN << 1;

/// Worker threads that help a caller with jobs of many small tasks.
///
/// A job is open while its tasks are dealt out one by one; a worker that is late, because
/// another program has its core, never joins, and nobody waits for it.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Held by the caller whose job it is.
    turn: Mutex<()>,
}

struct Shared {
    state: AtomicU64,
    /// The next task to deal out.
    next: AtomicUsize,
    job: UnsafeCell<Job>,
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
    /// The caller, parked until the last worker has left its job.
    waiter: Mutex<Option<Thread>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

// SAFETY: All fields but `job` are made for sharing. `job` is written by the caller that holds
// `turn`, only while the state is closed and counts no worker; workers read it only while the
// state counts them, which begins with an exchange on an open state. So no read meets a write,
// and the exchange (acquire) sees what was written before the state was opened (release). What
// the pointer in it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: As above; the pointer is not tied to a thread.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `count` threads beside the caller's.
    pub(crate) fn new(count: usize) -> Result<Self, Diagnostic> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(Job {
                task: &|_| {},
                tasks: 0,
            }),
            asleep: (0..count).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            waiter: Mutex::new(None),
            panic: Mutex::new(None),
        });
        let mut pool = Self {
            shared,
            handles: Vec::new(),
            turn: Mutex::new(()),
        };
        for index in 0..count {
            let shared = Arc::clone(&pool.shared);
            let handle = std::thread::Builder::new()
                .name(format!("engine-{}", index + 1))
                .spawn(move || shared.work(index))
                .map_err(|e| {
                    Diagnostic::internal(format!("{} threads cannot start: {e}", count + 1))
                })?;
            pool.handles.push(handle);
        }
        Ok(pool)
    }

    pub(crate) fn workers(&self) -> usize {
        self.handles.len()
    }

    /// Calls `task` with each number below `tasks`. A second caller at the same time, or a
    /// task that calls again, computes alone.
    pub(crate) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..tasks).for_each(task),
        };
        let shared = &*self.shared;
        // SAFETY: This only makes the lifetime of the reference longer. It is used by workers
        // that joined the job, and `Closing`, dropped before this function ends in any way,
        // waits until they have left it.
        let task: *const (dyn Fn(usize) + Sync) =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static _>(task) };
        let job = Job { task, tasks };
        // SAFETY: This caller holds `turn`, and the job before was closed and left by all.
        unsafe { *shared.job.get() = job };
        shared.next.store(0, Ordering::Relaxed);
        let closing = Closing(shared);
        let number = shared.state.load(Ordering::Relaxed) & !(NEXT_JOB - 1);
        let state = number.wrapping_add(NEXT_JOB) | OPEN;
        shared.state.store(state, Ordering::SeqCst);
        self.wake(tasks - 1);
        // SAFETY: `job` was just made from a reference that is still valid.
        unsafe { shared.deal(job) };
        drop(closing);
        if let Some(panic) = lock(&shared.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Wakes up to `most` threads that sleep.
    fn wake(&self, most: usize) {
        for (asleep, handle) in self.shared.asleep.iter().zip(&self.handles).take(most) {
            if asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
                handle.thread().unpark();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for handle in self.handles.drain(..) {
            handle.thread().unpark();
            // A worker catches the panics of its tasks, so there is nothing to hear of.
            let _ = handle.join();
        }
    }
}

impl Shared {
    /// Calls the job's task until all numbers are dealt out.
    ///
    /// # Safety
    ///
    /// The job's task must be valid until this returns.
    unsafe fn deal(&self, job: Job) {
        // SAFETY: The caller promises it.
        let task = unsafe { &*job.task };
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= job.tasks {
                return;
            }
            task(index);
        }
    }

    /// The life of the worker with this index.
    fn work(&self, index: usize) {
        let mut done = 0;
        while let Some(state) = self.next_job(index, done) {
            let joined = self.state.compare_exchange(
                state,
                state + WORKER,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if joined.is_err() {
                continue;
            }
            done = state & !(NEXT_JOB - 1);
            // SAFETY: The state counts this worker, so nobody writes the job.
            let job = unsafe { *self.job.get() };
            // SAFETY: The caller keeps the task until the state counts no worker.
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { self.deal(job) }));
            if let Err(panic) = result {
                *lock(&self.panic) = Some(panic);
            }
            let left = self.state.fetch_sub(WORKER, Ordering::AcqRel) - WORKER;
            if left & (OPEN | WORKERS) == 0
                && let Some(waiter) = lock(&self.waiter).take()
            {
                waiter.unpark();
            }
        }
    }

    /// Waits for an open job other than `done`; none when the pool ends.
    fn next_job(&self, index: usize, done: u64) -> Option<u64> {
        let open = || {
            let state = self.state.load(Ordering::SeqCst);
            (state & OPEN != 0 && state & !(NEXT_JOB - 1) != done).then_some(state)
        };
        let stopped = || self.stop.load(Ordering::SeqCst);
        loop {
            if let Some(state) = spin(|| open().map(Some).or_else(|| stopped().then_some(None))) {
                return state;
            }
            let asleep = &self.asleep[index];
            asleep.store(true, Ordering::SeqCst);
            // Whoever opened a job before the line above may not have seen it.
            if open().is_none() && !stopped() {
                std::thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
        }
    }

    fn left_by_all(&self) -> Option<()> {
        (self.state.load(Ordering::Acquire) & WORKERS == 0).then_some(())
    }
}

/// Closes the job and waits until all workers have left it, also when a task panics.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        // A caller that unwinds leaves tasks undealt.
        self.0.next.store(usize::MAX / 2, Ordering::Relaxed);
        self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        if spin(|| self.0.left_by_all()).is_some() {
            return;
        }
        *lock(&self.0.waiter) = Some(std::thread::current());
        while self.0.left_by_all().is_none() {
            std::thread::park();
        }
        lock(&self.0.waiter).take();
    }
}

/// Looks until there is something to see, for a while.
fn spin<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let mut end = None;
    loop {
        for _ in 0..LOOKS {
            if let Some(seen) = look() {
                return Some(seen);
            }
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if now >= *end.get_or_insert(now + SPIN) {
            return None;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(pool: &Pool, tasks: usize) -> usize {
        let sum = AtomicUsize::new(0);
        pool.run(tasks, &|index| {
            sum.fetch_add(index + 1, Ordering::Relaxed);
        });
        sum.into_inner()
    }

    #[test]
    fn every_task_of_every_job_runs_once() {
        let pool = Pool::new(3).unwrap();
        for round in 0..20_000 {
            let tasks = 1 + round % 40;
            assert_eq!(sum(&pool, tasks), tasks * (tasks + 1) / 2);
        }
    }

    #[test]
    fn sleepers_are_woken() {
        let pool = Pool::new(2).unwrap();
        for _ in 0..50 {
            let asleep = |a: &AtomicBool| a.load(Ordering::SeqCst);
            while !pool.shared.asleep.iter().all(asleep) {
                std::thread::yield_now();
            }
            // Each task waits for all others, so each needs a thread of its own.
            let arrived = AtomicUsize::new(0);
            pool.run(3, &|_| {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 3 {
                    std::thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn callers_at_the_same_time_and_within_a_task_compute_alone() {
        let pool = Pool::new(2).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        assert_eq!(sum(&pool, 10), 55);
                    }
                });
            }
        });
        pool.run(3, &|_| assert_eq!(sum(&pool, 4), 10));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2).unwrap();
        for bad in 0..20 {
            let run = AssertUnwindSafe(|| pool.run(20, &|index| assert!(index != bad)));
            assert!(catch_unwind(run).is_err());
            assert_eq!(sum(&pool, 20), 210);
        }
    }
}
