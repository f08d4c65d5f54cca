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

use crate::errors;

/// How long a thread spins for the next job before it parks. A step of a small model consists of
/// hundreds of jobs that are some microseconds apart, and waking a thread takes about five.
const SPIN: Duration = Duration::from_micros(40);
/// Polls between two reads of the clock.
const POLLS: u32 = 64;

/// Layout of the state word: the number of workers in the job, whether more may join, and the job
/// number.
const WORKER: u64 = 1;
const WORKERS: u64 = OPEN - 1;
const OPEN: u64 = 1 << 16;
const NEXT_JOB: u64 = OPEN << 1;

/// Worker threads that help a caller with jobs of many small tasks.
///
/// A job is open while it has tasks that no thread has taken. A worker that is late because it
/// was preempted does not join, and the caller does not wait for it.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Held by the caller of the current job.
    turn: Mutex<()>,
}

struct Shared {
    state: AtomicU64,
    /// Index of the next task.
    next: AtomicUsize,
    job: UnsafeCell<Job>,
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
    /// The caller, parked until the last worker leaves its job.
    waiter: Mutex<Option<Thread>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

// SAFETY: All fields except `job` are `Sync`. The caller that holds `turn` writes `job` only while
// the state is closed and counts no workers. Workers read it only while the state counts them,
// which starts with a compare-exchange on an open state. Reads and writes therefore never overlap,
// and the exchange (acquire) observes what was written before the state was opened (release). The
// target of the pointer in `job` is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: As above; the pointer is not bound to a thread.
unsafe impl Send for Shared {}

impl Pool {
    /// Starts `count` threads in addition to the caller's.
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
                .map_err(|e| errors::thread_start(count + 1, e))?;
            pool.handles.push(handle);
        }
        Ok(pool)
    }

    pub(crate) fn workers(&self) -> usize {
        self.handles.len()
    }

    /// Calls `task` with each index below `tasks`. Concurrent callers and nested calls run their
    /// tasks on their own thread.
    pub(crate) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..tasks).for_each(task),
        };
        let shared = &*self.shared;
        // SAFETY: This only extends the lifetime of the reference. It is used by workers that
        // joined the job, and `Closing`, which is dropped before this function returns or unwinds,
        // waits until they have left.
        let task: *const (dyn Fn(usize) + Sync) =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static _>(task) };
        let job = Job { task, tasks };
        // SAFETY: This caller holds `turn`; the previous job is closed and all workers left it.
        unsafe { *shared.job.get() = job };
        shared.next.store(0, Ordering::Relaxed);
        let closing = Closing(shared);
        let number = shared.state.load(Ordering::Relaxed) & !(NEXT_JOB - 1);
        let state = number.wrapping_add(NEXT_JOB) | OPEN;
        shared.state.store(state, Ordering::SeqCst);
        self.wake(tasks - 1);
        // SAFETY: `job` was created above from a reference that is still valid.
        unsafe { shared.run_tasks(job) };
        drop(closing);
        if let Some(panic) = lock(&shared.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Unparks sleeping threads among the first `count`.
    fn wake(&self, count: usize) {
        for (asleep, handle) in self.shared.asleep.iter().zip(&self.handles).take(count) {
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
            // Workers catch the panics of their tasks, so `join` returns no error.
            let _ = handle.join();
        }
    }
}

impl Shared {
    /// Takes and runs tasks of the job until none is left.
    ///
    /// # Safety
    ///
    /// The job's task must be valid until this returns.
    unsafe fn run_tasks(&self, job: Job) {
        // SAFETY: Guaranteed by the caller.
        let task = unsafe { &*job.task };
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= job.tasks {
                return;
            }
            task(index);
        }
    }

    /// The main loop of worker `index`.
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
            // SAFETY: The state counts this worker, so the job is not being written.
            let job = unsafe { *self.job.get() };
            // SAFETY: The caller keeps the task valid until the state counts no workers.
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { self.run_tasks(job) }));
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

    /// Waits for an open job other than `done` and returns its state, or `None` on shutdown.
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
            // A caller that opened a job before the store above has not seen it.
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

/// On drop, closes the job and waits until all workers have left it, even if a task panicked.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        // A caller that unwinds leaves tasks that no thread has taken.
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

/// Polls until `poll` returns a value, at most for [`SPIN`].
fn spin<T>(poll: impl Fn() -> Option<T>) -> Option<T> {
    let mut end = None;
    loop {
        for _ in 0..POLLS {
            if let Some(value) = poll() {
                return Some(value);
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
    fn parked_workers_are_woken() {
        let pool = Pool::new(2).unwrap();
        for _ in 0..50 {
            let asleep = |a: &AtomicBool| a.load(Ordering::SeqCst);
            while !pool.shared.asleep.iter().all(asleep) {
                std::thread::yield_now();
            }
            // Each task waits for all others, so each needs its own thread.
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
    fn concurrent_and_nested_calls_complete() {
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
    fn task_panics_reach_the_caller_and_the_pool_keeps_working() {
        let pool = Pool::new(2).unwrap();
        for bad in 0..20 {
            let run = AssertUnwindSafe(|| pool.run(20, &|index| assert!(index != bad)));
            assert!(catch_unwind(run).is_err());
            assert_eq!(sum(&pool, 20), 210);
        }
    }
}
