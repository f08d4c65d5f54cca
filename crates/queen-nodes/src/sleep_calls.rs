//! Calls of users that put nodes to sleep and wake them, and requests that need a node.

use std::sync::Arc;

use diagnostics::{Diagnostic, Narration};
use input_validation::NodeName;
use queen_contract::{
    MAX_SLEEP_AFTER_SECONDS, NodeEntry, NodeSpec, PowerSettings, SleepCall, SleepCause,
};
use scheduler::{NodeSleep, SleepEvent, SleepStage};
use tokio::sync::watch;

use crate::{Narrate, Node, Nodes, errors::own_machine_awake, sleep_errors as errors};

impl Nodes {
    /// Sets how a node is woken and when it is put to sleep, also after a restart of the queen.
    ///
    /// Errors: [`Code::NodeNotFound`](diagnostics::Code::NodeNotFound),
    /// [`Code::InvalidRequest`](diagnostics::Code::InvalidRequest) for the queen's own machine or a
    /// time out of range, [`Code::MacAddressUnknown`](diagnostics::Code::MacAddressUnknown) if it
    /// would sleep and could not be woken.
    pub async fn set_power(
        &self,
        name: &NodeName,
        settings: PowerSettings,
    ) -> Result<NodeEntry, Diagnostic> {
        let node = self.sleeper(name)?;
        let seconds = settings.sleep_after_seconds;
        if seconds.is_some_and(|seconds| !(1..=MAX_SLEEP_AFTER_SECONDS).contains(&seconds)) {
            return Err(errors::wrong_sleep_after(seconds.unwrap_or_default()));
        }
        let mut power = node.entry().power;
        power.settings = settings;
        if seconds.is_some() && power.cards().is_empty() {
            return Err(errors::mac_unknown(name));
        }
        let stored = name.clone();
        self.state()
            .registry(move |registry| registry.set_power(&stored, &settings))
            .await?;
        node.update_entry(|entry| entry.power.settings = settings);
        self.publish_node(name);
        Ok(node.entry())
    }

    /// Stops what runs on a node and suspends its machine. Returns when it does not respond any
    /// more.
    ///
    /// Errors: [`Code::NodeNotFound`](diagnostics::Code::NodeNotFound),
    /// [`Code::MacAddressUnknown`](diagnostics::Code::MacAddressUnknown) and
    /// [`Code::NodeInUse`](diagnostics::Code::NodeInUse) without `force`,
    /// [`Code::SuspendFailed`](diagnostics::Code::SuspendFailed), and those of the hive.
    pub async fn sleep(
        &self,
        name: &NodeName,
        call: SleepCall,
        narrate: Narrate<'_>,
    ) -> Result<(), Diagnostic> {
        let node = self.sleeper(name)?;
        let _change = self.change(name)?;
        let power = node.entry().power;
        let say = |message: String| narrate(Narration::info("queen", "sleep", message));
        if node.sleep().stage() == SleepStage::Asleep {
            say(errors::asleep(name, power.asleep.as_ref(), SleepStage::Asleep).message);
            return Ok(());
        }
        node.hive_now()?;
        if power.cards().is_empty() {
            if !call.force {
                return Err(errors::sleeps_for_ever(name));
            }
        } else if power.reported.can_suspend == Some(false) && !call.force {
            return Err(errors::cannot_suspend(name));
        }
        let cards = &power.reported.cards;
        let is_deaf = !cards.is_empty() && cards.iter().all(|card| card.wakes == Some(false));
        if let Some(card) = cards.first()
            && is_deaf
            && power.settings.mac.is_none()
        {
            let warning = errors::card_does_not_wake(name, card);
            narrate(Narration::warn("queen", "sleep", warning));
        }
        node.set_sleep_call(call);
        let mut changes = node.sleep_changes();
        let is_waking = matches!(node.sleep().stage(), SleepStage::Waking(_));
        self.sleep_event(&node, SleepEvent::Sleep);
        if is_waking || node.sleep().stage() == SleepStage::Awake {
            return Err(errors::not_ready_to_sleep(name));
        }
        let mut last = None;
        loop {
            let stage = changes.borrow_and_update().stage();
            if last != Some(stage) {
                match stage {
                    SleepStage::Leaving => say(format!("node {name}: stopping its workers")),
                    SleepStage::Suspending => say(format!("node {name}: suspending the machine")),
                    SleepStage::Asleep | SleepStage::Waking(_) => {
                        say(format!(
                            "node {name} does not respond any more: it is asleep"
                        ));
                        return Ok(());
                    }
                    SleepStage::Awake => {
                        let failure = node.sleep_failure();
                        return Err(failure.unwrap_or_else(|| errors::kept_awake(name)));
                    }
                }
                last = Some(stage);
            }
            if changes.changed().await.is_err() {
                return Err(errors::kept_awake(name));
            }
        }
    }

    /// Wakes a node, and returns when its hive responds.
    ///
    /// Errors: [`Code::NodeNotFound`](diagnostics::Code::NodeNotFound),
    /// [`Code::MacAddressUnknown`](diagnostics::Code::MacAddressUnknown),
    /// [`Code::WakeFailed`](diagnostics::Code::WakeFailed).
    pub async fn wake(&self, name: &NodeName, narrate: Narrate<'_>) -> Result<(), Diagnostic> {
        let node = self.sleeper(name)?;
        let is_awake = node.sleep().stage() == SleepStage::Awake && node.hive_now().is_ok();
        if !is_awake && node.entry().power.cards().is_empty() {
            return Err(errors::mac_unknown(name));
        }
        let say = |message| narrate(Narration::info("queen", "wake", message));
        let mut waking = Waking::new(self, &node, SleepEvent::Wake);
        while let Some(message) = waking.next().await? {
            say(message);
        }
        say(format!("node {name} is awake"));
        Ok(())
    }

    /// A deployment that a user has made may wake these nodes; `None`: all.
    pub(crate) fn deployed_on(&self, names: Option<&[NodeName]>) {
        for node in self.all() {
            if names.is_none_or(|names| names.contains(node.name())) {
                self.sleep_event(&node, SleepEvent::Deployed);
                self.publish_node(node.name());
            }
        }
    }

    fn sleeper(&self, name: &NodeName) -> Result<Arc<Node>, Diagnostic> {
        let node = self.get(name)?;
        if *node.spec() == NodeSpec::Local {
            return Err(own_machine_awake());
        }
        Ok(node)
    }
}

/// A node that someone waits for.
pub(crate) struct Waking<'a> {
    nodes: &'a Nodes,
    node: &'a Arc<Node>,
    changes: watch::Receiver<NodeSleep>,
    event: SleepEvent,
    is_asked: bool,
    last: Option<SleepStage>,
}

impl<'a> Waking<'a> {
    /// `event` says who needs it.
    pub(crate) fn new(nodes: &'a Nodes, node: &'a Arc<Node>, event: SleepEvent) -> Self {
        Self {
            nodes,
            node,
            changes: node.sleep_changes(),
            event,
            is_asked: false,
            last: None,
        }
    }

    /// Returns what happens, as a sentence; `None` when the node is awake, as far as is known.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Diagnostic> {
        loop {
            let sleep = *self.changes.borrow_and_update();
            let stage = sleep.stage();
            let is_new = self.last.replace(stage) != Some(stage);
            let name = self.node.name();
            match stage {
                SleepStage::Awake if self.node.hive_now().is_ok() => return Ok(None),
                // A user, or the settings, want it to be woken all the same.
                SleepStage::Awake if !self.is_called(&sleep) => return Ok(None),
                SleepStage::Awake | SleepStage::Asleep => {
                    let may_ask = !std::mem::replace(&mut self.is_asked, true);
                    let effect = may_ask
                        .then(|| self.nodes.sleep_event(self.node, self.event))
                        .flatten();
                    if effect.is_some() {
                        continue;
                    }
                    let failure = self.node.sleep_failure();
                    return Err(failure.unwrap_or_else(|| self.node.asleep_error()));
                }
                SleepStage::Leaving => {
                    let by_user = sleep.cause() == Some(SleepCause::User);
                    self.nodes.sleep_event(self.node, self.event);
                    if is_new && by_user {
                        return Ok(Some(format!("node {name} is being put to sleep")));
                    }
                }
                SleepStage::Suspending if is_new => {
                    return Ok(Some(format!("node {name} is being put to sleep")));
                }
                SleepStage::Waking(packets) if is_new => {
                    let cards = self.node.entry().power.cards();
                    let cards: Vec<String> = cards.iter().map(ToString::to_string).collect();
                    let cards = cards.join(", ");
                    return Ok(Some(match packets {
                        1 => format!("waking node {name}: sending magic packets for {cards}"),
                        n => {
                            format!("node {name} does not respond yet; sending packets again ({n})")
                        }
                    }));
                }
                SleepStage::Suspending | SleepStage::Waking(_) => {}
            }
            if self.changes.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Whether a node that does not respond, and that nobody put to sleep, is woken.
    fn is_called(&self, sleep: &NodeSleep) -> bool {
        self.event == SleepEvent::Wake || self.is_asked || sleep.wakes_for_requests(self.node.age())
    }
}
