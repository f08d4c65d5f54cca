//! When a node is put to sleep, and how it is woken.
//!
//! [`NodeSleep::apply`] is given what happens, and says what to do. A node sleeps because a user
//! wants it so, or because it had nothing to do for some time. It is woken by magic packets, whose
//! arrival nobody confirms: they are repeated until its hive responds.

use std::time::Duration;

use queen_contract::{NodeStatus, SleepCause};

/// A node that was asked to suspend and still responds after this time did not.
pub const SUSPEND_LIMIT: Duration = Duration::from_secs(30);
/// Pause after a suspension that was refused, before the next one without a user.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// Pauses between two magic packets; the last one is repeated.
const PACKET_PAUSES: [u64; 6] = [1, 1, 2, 4, 8, 15];
/// Pauses after attempts to wake a node that failed. After one more, only a user wakes it.
const WAKE_PAUSES: [u64; 2] = [60, 300];

/// What is known of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeUse {
    /// It is put to sleep when it had nothing to do for this time.
    pub sleep_after: Option<Duration>,
    /// Whether it is known how to wake it.
    pub can_wake: bool,
    /// Whether it has something to do.
    pub in_use: bool,
}

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SleepEvent {
    /// Time passed; sent about once per second.
    Tick(NodeUse),
    /// A user puts it to sleep.
    Sleep,
    /// A user wakes it.
    Wake,
    /// A request or a deployment needs it.
    Needed,
    /// A user has deployed something that may run there.
    Deployed,
    /// Nothing runs there any more.
    Left,
    /// It refused to suspend.
    Refused,
    /// Its hive, which was asked to suspend it, does not respond any more.
    Silent,
    /// Its hive is out of reach for another reason.
    Lost,
    /// Its hive responds.
    Responds,
}

/// What is to be done with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SleepEffect {
    /// No request goes there from now on, and what runs there ends. [`SleepEvent::Left`] must
    /// follow.
    Leave,
    /// Ask the hive to suspend it. [`SleepEvent::Refused`] or [`SleepEvent::Silent`] follows, unless
    /// it goes on responding.
    Suspend,
    /// It is not put to sleep after all: requests go there again.
    Stay,
    /// It is asleep from now on.
    Rest,
    /// Send magic packets, and look for its hive all the time.
    Call,
    /// It is awake again.
    Return,
    /// It did not respond in time.
    GiveUp,
}

/// How far a node is asleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SleepStage {
    Awake,
    /// What runs there ends.
    Leaving,
    /// Its hive was asked to suspend it.
    Suspending,
    Asleep,
    /// Magic packets were sent this often.
    Waking(u32),
}

/// Whether a node sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeSleep {
    phase: Phase,
    known: NodeUse,
    /// Its hive responds.
    responds: bool,
    /// Attempts to wake it that failed in a row.
    failures: u32,
    /// It is not woken for requests before this time.
    retry_at: Duration,
    /// Longest time for it to wake up.
    wake_limit: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Awake {
        /// It has nothing to do since this time.
        idle_since: Option<Duration>,
        /// It is not put to sleep without a user before this time.
        not_before: Duration,
    },
    Leaving(SleepCause),
    Suspending {
        cause: SleepCause,
        since: Duration,
    },
    Asleep(Rest),
    Waking {
        /// Why it was asleep; `None`: it was lost.
        from: Option<Rest>,
        since: Duration,
        packets: u32,
        next_packet: Duration,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rest {
    cause: SleepCause,
    /// Whether deployments may wake it. What was deployed when a user put it to sleep does not.
    for_deployments: bool,
}

impl Rest {
    fn new(cause: SleepCause) -> Self {
        Self {
            cause,
            for_deployments: cause == SleepCause::Idle,
        }
    }
}

const AWAKE: Phase = Phase::Awake {
    idle_since: None,
    not_before: Duration::ZERO,
};

impl NodeSleep {
    /// A node that is awake, or, for this reason, asleep. `wake_limit` is the longest time for it to
    /// wake up.
    pub fn new(asleep: Option<SleepCause>, wake_limit: Duration) -> Self {
        Self {
            phase: asleep.map_or(AWAKE, |cause| Phase::Asleep(Rest::new(cause))),
            known: NodeUse::default(),
            responds: false,
            failures: 0,
            retry_at: Duration::ZERO,
            wake_limit,
        }
    }

    pub fn stage(&self) -> SleepStage {
        match self.phase {
            Phase::Awake { .. } => SleepStage::Awake,
            Phase::Leaving(_) => SleepStage::Leaving,
            Phase::Suspending { .. } => SleepStage::Suspending,
            Phase::Asleep(_) => SleepStage::Asleep,
            Phase::Waking { packets, .. } => SleepStage::Waking(packets),
        }
    }

    /// What users see of it; `None`: it is awake, as far as is known.
    pub fn status(&self) -> Option<NodeStatus> {
        match self.stage() {
            SleepStage::Awake => None,
            SleepStage::Leaving | SleepStage::Suspending => Some(NodeStatus::Suspending),
            SleepStage::Asleep => Some(NodeStatus::Asleep),
            SleepStage::Waking(_) => Some(NodeStatus::Waking),
        }
    }

    /// Why it is asleep, or is being put to sleep.
    pub fn cause(&self) -> Option<SleepCause> {
        match self.phase {
            Phase::Awake { .. } => None,
            Phase::Leaving(cause) | Phase::Suspending { cause, .. } => Some(cause),
            Phase::Asleep(rest) => Some(rest.cause),
            Phase::Waking { from, .. } => from.map(|rest| rest.cause),
        }
    }

    /// Replaces what is known of it, apart from the time.
    pub fn set_known(&mut self, known: NodeUse) {
        self.known = known;
    }

    /// Whether a request wakes it, or waits for it to wake up.
    pub fn wakes_for_requests(&self, now: Duration) -> bool {
        match self.phase {
            Phase::Waking { .. } => true,
            Phase::Leaving(_) | Phase::Suspending { .. } => self.known.can_wake,
            Phase::Asleep(_) => self.may_try(now),
            Phase::Awake { .. } => !self.responds && self.is_automatic() && self.may_try(now),
        }
    }

    /// Whether a deployment wakes it, or waits for it to wake up.
    pub fn wakes_for_deployments(&self, now: Duration) -> bool {
        let rest = match self.phase {
            Phase::Asleep(rest) => Some(rest),
            Phase::Leaving(cause) | Phase::Suspending { cause, .. } => Some(Rest::new(cause)),
            Phase::Waking { .. } | Phase::Awake { .. } => None,
        };
        self.wakes_for_requests(now) && rest.is_none_or(|rest| rest.for_deployments)
    }

    /// Whether no attempt to wake it is made without a user any more.
    pub fn is_given_up(&self) -> bool {
        self.failures as usize > WAKE_PAUSES.len()
    }

    /// Applies an event that happened at `now`, the time since any moment.
    pub fn apply(&mut self, event: SleepEvent, now: Duration) -> Option<SleepEffect> {
        match event {
            SleepEvent::Tick(known) => {
                self.known = known;
                return self.tick(now);
            }
            SleepEvent::Responds => self.responds = true,
            SleepEvent::Lost | SleepEvent::Silent => self.responds = false,
            SleepEvent::Wake => self.failures = 0,
            _ => {}
        }
        let (phase, effect) = match (self.phase, event) {
            (Phase::Awake { .. }, SleepEvent::Sleep) if self.responds => {
                (Phase::Leaving(SleepCause::User), Some(SleepEffect::Leave))
            }
            (Phase::Leaving(_), SleepEvent::Sleep) => (Phase::Leaving(SleepCause::User), None),
            (Phase::Leaving(cause), SleepEvent::Left) => {
                let phase = Phase::Suspending { cause, since: now };
                (phase, Some(SleepEffect::Suspend))
            }
            (Phase::Leaving(_), SleepEvent::Wake | SleepEvent::Lost)
            | (Phase::Leaving(SleepCause::Idle), SleepEvent::Needed) => {
                (AWAKE, Some(SleepEffect::Stay))
            }
            (Phase::Suspending { .. }, SleepEvent::Refused) => refused(now),
            (Phase::Suspending { cause, .. }, SleepEvent::Silent) => {
                (Phase::Asleep(Rest::new(cause)), Some(SleepEffect::Rest))
            }
            (Phase::Asleep(rest), SleepEvent::Deployed) => {
                let for_deployments = true;
                let rest = Rest {
                    for_deployments,
                    ..rest
                };
                (Phase::Asleep(rest), None)
            }
            (Phase::Asleep(_) | Phase::Waking { .. }, SleepEvent::Responds) => {
                self.failures = 0;
                self.retry_at = Duration::ZERO;
                (AWAKE, Some(SleepEffect::Return))
            }
            (Phase::Asleep(rest), SleepEvent::Wake) => called(Some(rest), now),
            (Phase::Asleep(rest), SleepEvent::Needed) if self.may_try(now) => {
                called(Some(rest), now)
            }
            (Phase::Awake { .. }, SleepEvent::Wake) if !self.responds => called(None, now),
            (Phase::Awake { .. }, SleepEvent::Needed) if self.wakes_for_requests(now) => {
                called(None, now)
            }
            (Phase::Awake { .. }, SleepEvent::Responds) => {
                self.failures = 0;
                self.retry_at = Duration::ZERO;
                (self.phase, None)
            }
            (phase, _) => (phase, None),
        };
        self.phase = phase;
        effect
    }

    fn tick(&mut self, now: Duration) -> Option<SleepEffect> {
        let NodeUse {
            sleep_after,
            can_wake,
            in_use,
        } = self.known;
        let (phase, effect) = match self.phase {
            Phase::Awake { not_before, .. } if in_use || !self.responds => {
                let idle_since = None;
                let phase = Phase::Awake {
                    idle_since,
                    not_before,
                };
                (phase, None)
            }
            Phase::Awake {
                idle_since,
                not_before,
            } => {
                let since = idle_since.unwrap_or(now);
                let idle_for = now.saturating_sub(since);
                let is_over = sleep_after.is_some_and(|limit| idle_for >= limit);
                if is_over && can_wake && now >= not_before {
                    (Phase::Leaving(SleepCause::Idle), Some(SleepEffect::Leave))
                } else {
                    let idle_since = Some(since);
                    let phase = Phase::Awake {
                        idle_since,
                        not_before,
                    };
                    (phase, None)
                }
            }
            Phase::Leaving(SleepCause::Idle) if in_use => (AWAKE, Some(SleepEffect::Stay)),
            Phase::Suspending { since, .. } if now.saturating_sub(since) >= SUSPEND_LIMIT => {
                refused(now)
            }
            Phase::Waking { from, since, .. } if now.saturating_sub(since) >= self.wake_limit => {
                let pause = WAKE_PAUSES.get(self.failures as usize);
                self.failures += 1;
                self.retry_at = now + Duration::from_secs(pause.copied().unwrap_or(0));
                (from.map_or(AWAKE, Phase::Asleep), Some(SleepEffect::GiveUp))
            }
            Phase::Waking {
                from,
                since,
                packets,
                next_packet,
            } if now >= next_packet => {
                let phase = Phase::Waking {
                    from,
                    since,
                    packets: packets + 1,
                    next_packet: now + pause_after(packets + 1),
                };
                (phase, Some(SleepEffect::Call))
            }
            phase => (phase, None),
        };
        self.phase = phase;
        effect
    }

    fn may_try(&self, now: Duration) -> bool {
        self.known.can_wake && !self.is_given_up() && now >= self.retry_at
    }

    /// Whether it is put to sleep without a user, and woken although nobody put it to sleep.
    fn is_automatic(&self) -> bool {
        self.known.sleep_after.is_some()
    }
}

fn refused(now: Duration) -> (Phase, Option<SleepEffect>) {
    let phase = Phase::Awake {
        idle_since: None,
        not_before: now + REFUSED_PAUSE,
    };
    (phase, Some(SleepEffect::Stay))
}

fn called(from: Option<Rest>, now: Duration) -> (Phase, Option<SleepEffect>) {
    let phase = Phase::Waking {
        from,
        since: now,
        packets: 1,
        next_packet: now + pause_after(1),
    };
    (phase, Some(SleepEffect::Call))
}

/// The pause after this many packets.
fn pause_after(packets: u32) -> Duration {
    let last = PACKET_PAUSES.len() - 1;
    let index = (packets.saturating_sub(1) as usize).min(last);
    Duration::from_secs(PACKET_PAUSES[index])
}
