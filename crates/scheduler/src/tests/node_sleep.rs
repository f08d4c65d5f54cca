//! When a node is put to sleep, and how it is woken.

use std::time::Duration;

use proptest::prelude::*;
use queen_contract::{NodeStatus, SleepCause};

use super::{T0, secs};
use crate::*;

const WAKE_LIMIT: Duration = Duration::from_secs(120);

/// A node that sleeps after 10 s without work and can be woken.
fn idle() -> NodeUse {
    NodeUse {
        sleep_after: Some(secs(10)),
        can_wake: true,
        in_use: false,
    }
}

fn awake(known: NodeUse) -> NodeSleep {
    let mut node = NodeSleep::new(None, WAKE_LIMIT);
    assert_eq!(node.apply(SleepEvent::Responds, T0), None);
    assert_eq!(node.apply(SleepEvent::Tick(known), T0), None);
    node
}

fn asleep(known: NodeUse) -> NodeSleep {
    let mut node = awake(known);
    for (event, effect) in [
        (SleepEvent::Sleep, SleepEffect::Leave),
        (SleepEvent::Left, SleepEffect::Suspend),
        (SleepEvent::Silent, SleepEffect::Rest),
    ] {
        assert_eq!(node.apply(event, T0), Some(effect));
    }
    node
}

/// The effects of ticks in each second after `from` until `to`, with their seconds.
fn ticks(node: &mut NodeSleep, known: NodeUse, from: u64, to: u64) -> Vec<(u64, SleepEffect)> {
    let seconds = from + 1..=to;
    seconds
        .filter_map(|second| Some((second, node.apply(SleepEvent::Tick(known), secs(second))?)))
        .collect()
}

#[test]
fn a_user_puts_a_node_to_sleep_and_wakes_it() {
    let mut node = asleep(NodeUse::default());
    assert_eq!(node.status(), Some(NodeStatus::Asleep));
    assert_eq!(node.cause(), Some(SleepCause::User));
    assert_eq!(
        node.apply(SleepEvent::Wake, secs(9)),
        Some(SleepEffect::Call)
    );
    assert_eq!(node.status(), Some(NodeStatus::Waking));
    assert_eq!(
        node.apply(SleepEvent::Responds, secs(12)),
        Some(SleepEffect::Return)
    );
    assert_eq!((node.status(), node.cause()), (None, None));
}

#[test]
fn a_node_without_work_is_put_to_sleep_after_its_time_and_not_before() {
    let mut node = awake(idle());
    assert_eq!(ticks(&mut node, idle(), 0, 9), []);
    let busy = NodeUse {
        in_use: true,
        ..idle()
    };
    assert_eq!(ticks(&mut node, busy, 9, 100), []);
    // The time begins when the work has ended.
    assert_eq!(ticks(&mut node, idle(), 100, 110), []);
    let effects = ticks(&mut node, idle(), 110, 120);
    assert_eq!(effects, [(111, SleepEffect::Leave)]);
    assert_eq!(node.cause(), Some(SleepCause::Idle));
}

#[test]
fn a_node_that_cannot_be_woken_or_has_no_time_set_is_not_put_to_sleep() {
    let cannot_wake = NodeUse {
        can_wake: false,
        ..idle()
    };
    let never = NodeUse {
        sleep_after: None,
        ..idle()
    };
    for known in [cannot_wake, never] {
        assert_eq!(ticks(&mut awake(known), known, 0, 1000), []);
    }
    let mut silent = awake(idle());
    silent.apply(SleepEvent::Lost, T0);
    assert_eq!(ticks(&mut silent, idle(), 0, 1000), []);
}

#[test]
fn work_that_arrives_before_the_suspension_keeps_an_idle_node_awake() {
    for event in [
        SleepEvent::Needed,
        SleepEvent::Tick(NodeUse {
            in_use: true,
            ..idle()
        }),
    ] {
        let mut node = awake(idle());
        assert_eq!(ticks(&mut node, idle(), 0, 11).len(), 1);
        assert!(node.wakes_for_requests(secs(11)));
        assert_eq!(
            node.apply(event, secs(11)),
            Some(SleepEffect::Stay),
            "{event:?}"
        );
        assert_eq!(node.status(), None);
    }
    // A user who wants it to sleep gets that, and the request wakes it.
    let mut node = awake(NodeUse {
        sleep_after: None,
        ..idle()
    });
    node.apply(SleepEvent::Sleep, T0);
    assert_eq!(node.apply(SleepEvent::Needed, T0), None);
    node.apply(SleepEvent::Left, T0);
    node.apply(SleepEvent::Silent, T0);
    assert_eq!(node.apply(SleepEvent::Needed, T0), Some(SleepEffect::Call));
}

#[test]
fn a_node_that_refuses_to_suspend_stays_awake_and_is_left_alone_for_some_time() {
    let mut node = awake(idle());
    assert_eq!(ticks(&mut node, idle(), 0, 10), [(10, SleepEffect::Leave)]);
    assert_eq!(
        node.apply(SleepEvent::Left, secs(11)),
        Some(SleepEffect::Suspend)
    );
    assert_eq!(
        node.apply(SleepEvent::Refused, secs(12)),
        Some(SleepEffect::Stay)
    );
    assert_eq!(
        ticks(&mut node, idle(), 12, 320),
        [(312, SleepEffect::Leave)]
    );
    // A user does not wait for that.
    node.apply(SleepEvent::Left, secs(320));
    node.apply(SleepEvent::Refused, secs(321));
    assert_eq!(
        node.apply(SleepEvent::Sleep, secs(322)),
        Some(SleepEffect::Leave)
    );
}

#[test]
fn a_node_that_goes_on_responding_was_not_suspended() {
    let mut node = awake(idle());
    node.apply(SleepEvent::Sleep, T0);
    node.apply(SleepEvent::Left, T0);
    // That it responds is no reason to believe that it was woken.
    assert_eq!(node.apply(SleepEvent::Responds, secs(1)), None);
    let limit = SUSPEND_LIMIT.as_secs();
    let effects = ticks(&mut node, idle(), 0, limit);
    assert_eq!(effects, [(limit, SleepEffect::Stay)]);
    assert_eq!(node.status(), None);
}

#[test]
fn a_user_who_wakes_a_node_while_it_is_left_keeps_it_awake() {
    let mut node = awake(idle());
    node.apply(SleepEvent::Sleep, T0);
    assert_eq!(
        node.apply(SleepEvent::Wake, secs(1)),
        Some(SleepEffect::Stay)
    );
    assert_eq!(
        node.apply(SleepEvent::Left, secs(2)),
        None,
        "of the earlier attempt"
    );
}

#[test]
fn packets_are_repeated_with_growing_pauses_until_the_limit() {
    let mut node = asleep(idle());
    assert_eq!(node.apply(SleepEvent::Needed, T0), Some(SleepEffect::Call));
    let effects = ticks(&mut node, idle(), 0, 120);
    let (last, packets) = effects.split_last().unwrap();
    assert_eq!(*last, (120, SleepEffect::GiveUp));
    assert!(
        packets
            .iter()
            .all(|(_, effect)| *effect == SleepEffect::Call)
    );
    let times: Vec<u64> = packets.iter().map(|(second, _)| *second).collect();
    assert_eq!(times, [1, 2, 4, 8, 16, 31, 46, 61, 76, 91, 106]);
    assert_eq!(
        node.status(),
        Some(NodeStatus::Asleep),
        "nothing says otherwise"
    );
}

#[test]
fn attempts_to_wake_a_node_for_requests_are_limited_and_a_user_may_always_try() {
    let mut node = asleep(idle());
    let mut now = 0;
    let mut attempts = 0;
    while now < 3600 {
        now += 1;
        attempts += usize::from(node.apply(SleepEvent::Needed, secs(now)).is_some());
        node.apply(SleepEvent::Tick(idle()), secs(now));
    }
    assert_eq!(attempts, 3);
    assert!(node.is_given_up() && !node.wakes_for_requests(secs(now)));
    assert_eq!(
        node.apply(SleepEvent::Wake, secs(now)),
        Some(SleepEffect::Call)
    );
    assert_eq!(
        node.apply(SleepEvent::Responds, secs(now)),
        Some(SleepEffect::Return)
    );
    assert!(!node.is_given_up());
}

#[test]
fn a_failed_attempt_is_repeated_for_requests_after_a_pause() {
    let mut node = asleep(idle());
    node.apply(SleepEvent::Needed, T0);
    ticks(&mut node, idle(), 0, 120);
    assert!(!node.wakes_for_requests(secs(121)));
    assert_eq!(node.apply(SleepEvent::Needed, secs(121)), None);
    assert!(node.wakes_for_requests(secs(180)));
    assert_eq!(
        node.apply(SleepEvent::Needed, secs(180)),
        Some(SleepEffect::Call)
    );
}

#[test]
fn a_node_that_went_away_by_itself_is_woken_for_requests_only_if_it_sleeps_by_itself() {
    let by_hand = NodeUse {
        sleep_after: None,
        ..idle()
    };
    for (known, wakes) in [(idle(), true), (by_hand, false)] {
        let mut node = awake(known);
        node.apply(SleepEvent::Lost, secs(1));
        assert_eq!(node.status(), None, "it is unreachable, as far as is known");
        assert_eq!(node.wakes_for_requests(secs(1)), wakes);
        let effect = node.apply(SleepEvent::Needed, secs(1));
        assert_eq!(effect.is_some(), wakes);
        if !wakes {
            let effect = node.apply(SleepEvent::Wake, secs(2));
            assert_eq!(effect, Some(SleepEffect::Call), "a user wakes it");
        }
        // Without a response it is as before.
        let effects = ticks(&mut node, known, 2, 130);
        assert_eq!(effects.last().unwrap().1, SleepEffect::GiveUp);
        assert_eq!(node.status(), None);
    }
}

#[test]
fn a_node_that_is_awake_is_not_called() {
    let mut node = awake(idle());
    assert_eq!(node.apply(SleepEvent::Wake, secs(1)), None);
    assert_eq!(node.apply(SleepEvent::Needed, secs(1)), None);
    let mut lost = awake(idle());
    lost.apply(SleepEvent::Lost, secs(1));
    assert_eq!(lost.apply(SleepEvent::Sleep, secs(1)), None);
}

#[test]
fn a_node_that_wakes_up_by_itself_is_used_again() {
    let mut node = asleep(idle());
    assert_eq!(
        node.apply(SleepEvent::Responds, secs(7)),
        Some(SleepEffect::Return)
    );
    // Its time without work begins again.
    assert_eq!(ticks(&mut node, idle(), 7, 18), [(18, SleepEffect::Leave)]);
}

#[test]
fn what_was_deployed_before_does_not_wake_a_node_that_a_user_put_to_sleep() {
    let mut by_user = asleep(idle());
    assert!(by_user.wakes_for_requests(T0) && !by_user.wakes_for_deployments(T0));
    by_user.apply(SleepEvent::Deployed, T0);
    assert!(by_user.wakes_for_deployments(T0));
    let mut by_itself = NodeSleep::new(Some(SleepCause::Idle), WAKE_LIMIT);
    assert!(
        !by_itself.wakes_for_deployments(T0),
        "it is not known how to wake it"
    );
    by_itself.set_known(idle());
    assert!(by_itself.wakes_for_deployments(T0));
}

fn any_event() -> impl Strategy<Value = SleepEvent> {
    let known = (any::<bool>(), any::<bool>(), any::<bool>());
    let tick = known.prop_map(|(automatic, can_wake, in_use)| {
        SleepEvent::Tick(NodeUse {
            sleep_after: automatic.then_some(secs(10)),
            can_wake,
            in_use,
        })
    });
    prop_oneof![
        4 => tick,
        4 => Just(SleepEvent::Needed),
        1 => Just(SleepEvent::Sleep),
        1 => Just(SleepEvent::Wake),
        1 => Just(SleepEvent::Deployed),
        2 => Just(SleepEvent::Left),
        1 => Just(SleepEvent::Refused),
        2 => Just(SleepEvent::Silent),
        1 => Just(SleepEvent::Lost),
        2 => Just(SleepEvent::Responds),
    ]
}

proptest! {
    /// Whatever happens: a node is suspended only after it was left, rests only after it was asked
    /// to suspend, and every way leads back to one that is awake.
    #[test]
    fn no_step_is_left_out_and_a_response_ends_every_sleep(
        events in prop::collection::vec((any_event(), 0..20_u64), 0..200),
    ) {
        let mut node = NodeSleep::new(None, WAKE_LIMIT);
        let mut now = T0;
        let mut before = node.stage();
        for (event, seconds) in events {
            now += secs(seconds);
            let effect = node.apply(event, now);
            match effect {
                Some(SleepEffect::Leave) => prop_assert_eq!(before, SleepStage::Awake),
                Some(SleepEffect::Suspend) => prop_assert_eq!(before, SleepStage::Leaving),
                Some(SleepEffect::Rest) => prop_assert_eq!(before, SleepStage::Suspending),
                Some(SleepEffect::Stay) => prop_assert_eq!(node.stage(), SleepStage::Awake),
                Some(SleepEffect::Call) => {
                    prop_assert!(matches!(node.stage(), SleepStage::Waking(_)));
                }
                Some(SleepEffect::Return | SleepEffect::GiveUp) => {
                    prop_assert!(matches!(before, SleepStage::Waking(_) | SleepStage::Asleep));
                }
                None => prop_assert!(
                    before == node.stage(),
                    "{:?} became {:?} unnoticed", before, node.stage()
                ),
            }
            before = node.stage();
        }
        node.apply(SleepEvent::Silent, now);
        node.apply(SleepEvent::Responds, now);
        node.apply(SleepEvent::Wake, now);
        prop_assert!(matches!(node.stage(), SleepStage::Awake | SleepStage::Suspending));
    }
}
