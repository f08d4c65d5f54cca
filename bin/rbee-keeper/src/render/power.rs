//! Nodes that sleep, and how they are woken.

use diagnostics::escape;
use jiff::Timestamp;
use queen_contract::{Asleep, NodeEntry, NodePower, NodeStatus, PowerSettings, SleepCause};

use super::table::wire_name;

/// The status of a node, and since when it is asleep.
pub(super) fn status(node: &NodeEntry) -> String {
    let status = wire_name(&node.status);
    match (&node.status, &node.power.asleep) {
        (NodeStatus::Asleep, Some(Asleep { since, cause })) => {
            let cause = match cause {
                SleepCause::User => "",
                SleepCause::Idle => ", idle",
            };
            format!("{status} since {}{cause}", time(*since))
        }
        _ => status,
    }
}

/// Without fractions of a second.
fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// How a node is woken, and when it is put to sleep, for `rbee-keeper node show`.
pub(super) fn facts(node: &NodeEntry) -> Vec<(&'static str, String)> {
    let NodePower {
        settings, reported, ..
    } = &node.power;
    let mut facts = Vec::new();
    if let Some(mac) = settings.mac {
        facts.push(("wakes by", format!("{mac}, as you have set")));
    } else {
        facts.extend(reported.cards.iter().map(|card| {
            let set = match card.wakes {
                Some(true) => ", which is set to wake the machine",
                Some(false) => ", which is not set to wake the machine",
                None => "",
            };
            ("wakes by", format!("{} of {}{set}", card.mac, card.name))
        }));
    }
    let address = settings.wake_address.map(|address| address.to_string());
    facts.extend(address.map(|address| ("packets to", address)));
    facts.extend(sleep_after(settings).map(|after| ("sleeps", after)));
    facts
}

fn sleep_after(settings: &PowerSettings) -> Option<String> {
    let seconds = settings.sleep_after_seconds?;
    let time = match seconds {
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    };
    Some(format!("after {time} without work"))
}

/// Formats the result of `rbee-keeper node set`.
pub(crate) fn settings(node: &NodeEntry) -> String {
    let mut facts = facts(node);
    if node.power.settings.sleep_after_seconds.is_none() {
        facts.push(("sleeps", "on request only".to_owned()));
    }
    let lines = facts.iter();
    let lines = lines.map(|(name, value)| format!("{name:<12}{}\n", escape(value)));
    format!("node {}\n{}", node.name, lines.collect::<String>())
}

/// Formats the result of `rbee-keeper node sleep` and `node wake`.
pub(crate) fn state(node: &NodeEntry) -> String {
    format!("node {} is {}\n", node.name, status(node))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(status: &str, power: &serde_json::Value) -> NodeEntry {
        serde_json::from_value(json!({
            "name": "attic", "spec": {"link": "joined"}, "hive_url": null, "status": status,
            "devices": [], "last_connected": null, "power": power,
        }))
        .unwrap()
    }

    #[test]
    fn a_node_that_is_asleep_is_shown_with_since_when_and_why() {
        let asleep =
            |cause| json!({"asleep": {"since": "2026-01-02T03:04:05.678Z", "cause": cause}});
        let by_user = node("asleep", &asleep("user"));
        assert_eq!(
            state(&by_user),
            "node attic is asleep since 2026-01-02T03:04:05Z\n"
        );
        let by_itself = node("asleep", &asleep("idle"));
        assert_eq!(
            status(&by_itself),
            "asleep since 2026-01-02T03:04:05Z, idle"
        );
        assert_eq!(status(&node("waking", &asleep("user"))), "waking");
    }

    #[test]
    fn how_a_node_is_woken_is_shown() {
        let reported = json!({"reported": {"cards": [
            {"name": "enp3s0", "mac": "52:54:00:00:00:01", "wakes": false},
            {"name": "enp4s0", "mac": "52:54:00:00:00:02"},
        ]}, "settings": {"sleep_after_seconds": 1800}});
        assert_eq!(
            settings(&node("reachable", &reported)),
            "node attic\n\
             wakes by    52:54:00:00:00:01 of enp3s0, which is not set to wake the machine\n\
             wakes by    52:54:00:00:00:02 of enp4s0\n\
             sleeps      after 30m without work\n"
        );
        let set = json!({"settings": {"mac": "52:54:00:00:00:03", "wake_address": "192.0.2.255"}});
        assert_eq!(
            settings(&node("reachable", &set)),
            "node attic\n\
             wakes by    52:54:00:00:00:03, as you have set\n\
             packets to  192.0.2.255:9\n\
             sleeps      on request only\n"
        );
    }
}
