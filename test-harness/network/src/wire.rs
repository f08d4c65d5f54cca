use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tun::Device;

use crate::Namespace;

/// Longest packet, as on Ethernet.
const MTU: u16 = 1500;
/// Packets that wait in one direction; further ones are dropped, as by a router.
const MAX_WAITING: usize = 1000;
/// How often a thread without packets checks whether it must end.
const IDLE: Duration = Duration::from_millis(50);

/// The next subnet. Those of one process differ.
static NEXT: AtomicU8 = AtomicU8::new(1);

/// What happens to the packets of a wire, in each direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Conditions {
    /// All packets are lost. Nobody is informed.
    pub is_cut: bool,
    /// Time that each packet takes.
    pub delay: Duration,
    /// Packets that are lost, in percent. Which ones is the same in every run for the same
    /// packets.
    pub loss_percent: f64,
}

/// A connection between the namespace of the caller and another one. It is removed when it is
/// dropped.
#[derive(Debug)]
pub struct Wire {
    here: Ipv4Addr,
    there: Ipv4Addr,
    conditions: Arc<Mutex<Conditions>>,
    has_ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Connects the namespace of the calling thread and `namespace`.
    pub fn to(namespace: &Namespace) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = |host| Ipv4Addr::new(10, 77, number, host);
        let (here, there) = (address(1), address(2));
        let near = Arc::new(device(number, here)?);
        let namespace = namespace.try_clone()?;
        let far = thread::spawn(move || {
            namespace.enter()?;
            device(number, there)
        });
        let far = far.join().map_err(|_| anyhow!("the thread panicked"))??;
        let far = Arc::new(far);
        let mut wire = Self {
            here,
            there,
            conditions: Arc::default(),
            has_ended: Arc::default(),
            threads: Vec::new(),
        };
        for (from, to) in [(&near, &far), (&far, &near)] {
            let direction = Direction {
                from: Arc::clone(from),
                to: Arc::clone(to),
                conditions: Arc::clone(&wire.conditions),
                waiting: VecDeque::new(),
                random: StdRng::seed_from_u64(wire.threads.len() as u64),
            };
            let has_ended = Arc::clone(&wire.has_ended);
            wire.threads
                .push(thread::spawn(move || direction.run(&has_ended)));
        }
        Ok(wire)
    }

    /// Address of this end.
    pub fn here(&self) -> Ipv4Addr {
        self.here
    }

    /// Address of the other end.
    pub fn there(&self) -> Ipv4Addr {
        self.there
    }

    /// Changes what happens to packets from now on.
    pub fn set(&self, conditions: Conditions) {
        *lock(&self.conditions) = conditions;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Creates a device in the namespace of the calling thread.
fn device(number: u8, address: Ipv4Addr) -> Result<Device> {
    let mut config = tun::configure();
    config
        .tun_name(format!("rbee{number}"))
        .address(address)
        .netmask(Ipv4Addr::new(255, 255, 255, 252))
        .mtu(MTU)
        .up();
    tun::create(&config).context("cannot create a TUN device")
}

/// One direction of a wire.
struct Direction {
    from: Arc<Device>,
    to: Arc<Device>,
    conditions: Arc<Mutex<Conditions>>,
    /// Packets with the time at which each arrives, in their order.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    random: StdRng,
}

impl Direction {
    fn run(mut self, has_ended: &AtomicBool) {
        let mut packet = vec![0; MTU.into()];
        while !has_ended.load(Ordering::Relaxed) {
            let next = self.waiting.front().map(|(due, _)| *due);
            let pause = next.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
            if let Ok(length) = self.from.recv_timeout(&mut packet, pause.min(IDLE)) {
                self.receive(&packet[..length]);
            }
            while let Some((due, packet)) = self.waiting.pop_front() {
                if due > Instant::now() {
                    self.waiting.push_front((due, packet));
                    break;
                }
                // A device that is full loses packets, as a real one does.
                let _ = self.to.send(&packet);
            }
        }
    }

    fn receive(&mut self, packet: &[u8]) {
        let conditions = *lock(&self.conditions);
        let is_lost = self.random.random_bool(conditions.loss_percent / 100.0);
        if !conditions.is_cut && !is_lost && self.waiting.len() < MAX_WAITING {
            let due = Instant::now() + conditions.delay;
            self.waiting.push_back((due, packet.to_vec()));
        }
    }
}

fn lock(conditions: &Mutex<Conditions>) -> MutexGuard<'_, Conditions> {
    conditions.lock().unwrap_or_else(PoisonError::into_inner)
}
