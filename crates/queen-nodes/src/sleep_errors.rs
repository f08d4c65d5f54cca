//! The errors about nodes that sleep.

use std::time::Duration;

use diagnostics::{Code, Diagnostic, excerpt};
use hive_contract::NetworkCard;
use input_validation::NodeName;
use queen_contract::{Asleep, MAX_SLEEP_AFTER_SECONDS, SleepCause};
use scheduler::{SUSPEND_LIMIT, SleepStage};

/// The node is asleep, and what was asked for does not wake it.
pub(crate) fn asleep(node: &NodeName, asleep: Option<&Asleep>, stage: SleepStage) -> Diagnostic {
    let message = match (stage, asleep) {
        (SleepStage::Leaving | SleepStage::Suspending, _) => {
            format!("node {node} is being put to sleep")
        }
        (SleepStage::Awake, _) => format!("node {node} does not respond"),
        (_, Some(Asleep { since, cause })) => {
            let cause = match cause {
                SleepCause::User => "",
                SleepCause::Idle => ", because it had nothing to do",
            };
            format!("node {node} is asleep since {since:.0}{cause}")
        }
        (_, None) => format!("node {node} is asleep"),
    };
    Diagnostic::new(Code::NodeAsleep, message)
        .hint(format!("`rbee-keeper node wake {node}` wakes it"))
        .detail("node", node.as_str())
}

/// Nothing says how to wake the node.
pub(crate) fn mac_unknown(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::MacAddressUnknown,
        format!("node {node} cannot be woken: the MAC address of its network card is not known"),
    )
    .hint(format!(
        "set it with `rbee-keeper node set {node} --mac MAC`; on the machine, `ip link` shows it after \
         `link/ether`. Hives report those of Ethernet cards by themselves"
    ))
    .param("mac")
}

/// The queen could not wake the node.
pub(crate) fn sleeps_for_ever(node: &NodeName) -> Diagnostic {
    let error = mac_unknown(node);
    let message = format!("node {node} is not put to sleep: {}", error.message);
    let hint = error.hint.clone().unwrap_or_default();
    Diagnostic { message, ..error }.hint(format!(
        "{hint}. `rbee-keeper node sleep {node} --force` suspends it all the same; someone has to \
         wake it at the machine then"
    ))
}

pub(crate) fn cannot_suspend(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::SuspendFailed,
        format!("the machine of node {node} cannot be suspended: its kernel has no such state"),
    )
    .hint(format!(
        "`/sys/power/state` on the machine lists its states. If the hive has another command that \
         suspends it, use `rbee-keeper node sleep {node} --force`"
    ))
}

/// A warning: the packets would not wake the machine.
pub(crate) fn card_does_not_wake(node: &NodeName, card: &NetworkCard) -> String {
    format!(
        "node {node}: its network card {} is not set to wake the machine; `sudo ethtool --change {} \
         wol g` on the machine sets it until its next start",
        excerpt(&card.name, 16),
        excerpt(&card.name, 16),
    )
}

/// The hive did not suspend its machine, for this reason.
pub(crate) fn not_suspended(node: &NodeName, reason: Diagnostic) -> Diagnostic {
    if reason.code == Code::NodeInUse {
        return reason;
    }
    let message = format!("node {node} was not suspended: {}", reason.message);
    if reason.code == Code::NotFound {
        return Diagnostic::new(Code::SuspendFailed, message).hint(format!(
            "its hive is of an older release: `rbee-keeper node upgrade {node}`"
        ));
    }
    Diagnostic { message, ..reason }
}

pub(crate) fn did_not_suspend(node: &NodeName) -> Diagnostic {
    let seconds = SUSPEND_LIMIT.as_secs();
    Diagnostic::new(
        Code::SuspendFailed,
        format!("node {node} was to suspend, and still responds {seconds} s later"),
    )
    .hint(format!(
        "`rbee-keeper node logs {node}` shows which command was executed; the log of the machine's \
         system says why it did not sleep, for example `journalctl -u systemd-suspend`"
    ))
}

/// Something else happened before the node was suspended.
pub(crate) fn kept_awake(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::SuspendFailed,
        format!("node {node} was not suspended: it is needed, was woken, or is out of reach"),
    )
    .hint(format!("`rbee-keeper node show {node}` shows its state"))
}

pub(crate) fn not_ready_to_sleep(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::SuspendFailed,
        format!("node {node} is not ready to be put to sleep: it is being connected or woken"),
    )
    .hint("try again in a moment")
}

pub(crate) fn not_woken(node: &NodeName, limit: Duration, is_last: bool) -> Diagnostic {
    let seconds = limit.as_secs();
    let then = if is_last {
        "; no request wakes it any more"
    } else {
        ""
    };
    Diagnostic::new(
        Code::WakeFailed,
        format!("node {node} did not wake up within {seconds} s{then}"),
    )
    .hint(format!(
        "its network card must be set to wake it (`sudo ethtool CARD` shows `Wake-on: g`), and so must \
         the firmware of the machine; magic packets do not pass routers: \
         `rbee-keeper node set {node} --wake-address ADDRESS` sends them elsewhere. \
         `rbee-keeper node wake {node}` tries again"
    ))
    .detail("node", node.as_str())
}

pub(crate) fn wrong_sleep_after(seconds: u32) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("a node cannot be put to sleep after {seconds} s without work"),
    )
    .hint(format!("choose 1 to {MAX_SLEEP_AFTER_SECONDS} s, or none"))
    .param("sleep_after_seconds")
}
