//! Nodes that sleep: what happens to them is given to [`NodeSleep`], and what it says is done.

use std::{sync::Arc, time::Duration};

use diagnostics::Diagnostic;
use futures_util::future::join_all;
use hive_contract::WakeRequest;
use hive_lifecycle::HiveState;
use jiff::Timestamp;
use node_link::Attention;
use queen_contract::{Asleep, NodeSpec, SleepCause};
use queen_dispatch::Dispatcher;
use scheduler::{NodeSleep, NodeState, NodeUse, SleepEffect, SleepEvent, SleepStage, Sleeping};
use tokio::time::{MissedTickBehavior, interval};

use crate::{Node, Nodes, sleep_errors as errors};

/// How often it is looked at which nodes have something to do.
const TICK: Duration = Duration::from_secs(1);

impl Node {
    /// Whether the queen can put the node to sleep: not its own machine.
    pub(crate) fn may_sleep(&self) -> bool {
        self.has_hive() && *self.spec() != NodeSpec::Local
    }

    /// What is known of it, apart from whether it has something to do.
    pub(crate) fn known_use(&self, in_use: bool) -> NodeUse {
        let power = self.entry().power;
        let sleep_after = power.settings.sleep_after_seconds;
        NodeUse {
            sleep_after: sleep_after.map(|seconds| Duration::from_secs(seconds.into())),
            can_wake: !power.cards().is_empty(),
            in_use,
        }
    }

    /// That the node is asleep.
    pub(crate) fn asleep_error(&self) -> Diagnostic {
        let entry = self.entry();
        errors::asleep(
            &entry.name,
            entry.power.asleep.as_ref(),
            self.sleep().stage(),
        )
    }

    /// What the scheduler sees of a node that sleeps or could be woken; `None`: what its hive says.
    pub(crate) fn sleep_state(&self) -> Option<NodeState> {
        if !self.may_sleep() {
            return None;
        }
        let (sleep, now) = (self.sleep(), self.age());
        let for_requests = sleep.wakes_for_requests(now);
        let stage = sleep.stage();
        let failure = self.sleep_failure();
        match stage {
            SleepStage::Awake => {
                let state = self.hive_state()?;
                let is_down = matches!(&*state.borrow(), HiveState::Down(_));
                if !is_down {
                    return None;
                }
                if !for_requests {
                    return failure.map(NodeState::Down);
                }
            }
            SleepStage::Asleep if !for_requests => {
                // Its failure is more than that it is asleep.
                if let Some(failure) = failure {
                    return Some(NodeState::Down(failure));
                }
            }
            _ => {}
        }
        Some(NodeState::Asleep(Sleeping {
            leaves: matches!(stage, SleepStage::Leaving | SleepStage::Suspending),
            for_requests,
            for_deployments: sleep.wakes_for_deployments(now),
            reason: self.asleep_error(),
        }))
    }

    fn attend(&self, attention: Attention, reason: Option<Diagnostic>) {
        self.set_hive_attention(attention, reason);
        self.link().set_attention(attention);
    }
}

impl Nodes {
    /// Puts nodes to sleep that have nothing to do for the time that users have set, and follows
    /// those that sleep.
    pub fn watch_sleep(&self, dispatcher: Dispatcher) {
        let nodes = self.clone();
        nodes.set_dispatcher(dispatcher.clone());
        tokio::spawn(async move {
            let mut ticks = interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                nodes.tick_sleep(&dispatcher).await;
            }
        });
    }

    async fn tick_sleep(&self, dispatcher: &Dispatcher) {
        let may_sleep = |node: &Arc<Node>| {
            let is_automatic = node.known_use(false).sleep_after.is_some();
            node.may_sleep() && (is_automatic || node.sleep().stage() != SleepStage::Awake)
        };
        let followed: Vec<Arc<Node>> = self.all().into_iter().filter(may_sleep).collect();
        if followed.is_empty() {
            return;
        }
        let Ok(used) = dispatcher.nodes_in_use().await else {
            return;
        };
        for node in followed {
            let is_left = !node.entry().yielded.is_empty();
            let in_use = used.contains(node.name()) || is_left || self.is_changing(node.name());
            let was_suspending = node.sleep().stage() == SleepStage::Suspending;
            let known = node.known_use(in_use);
            let effect = self.sleep_event(&node, SleepEvent::Tick(known));
            if was_suspending && effect == Some(SleepEffect::Stay) {
                node.set_sleep_failure(errors::did_not_suspend(node.name()));
            }
            // What is possible also depends on the time.
            self.publish_node(node.name());
        }
    }

    /// Applies an event to a node, and begins to do what follows.
    pub(crate) fn sleep_event(&self, node: &Arc<Node>, event: SleepEvent) -> Option<SleepEffect> {
        if !node.may_sleep() {
            return None;
        }
        let now = node.age();
        let known = node.known_use(false);
        let effect = node.change_sleep(|sleep: &mut NodeSleep| {
            if !matches!(event, SleepEvent::Tick(_)) {
                sleep.set_known(known);
            }
            sleep.apply(event, now)
        });
        let effect = effect.flatten();
        if let Some(effect) = effect {
            self.perform(node, effect);
            self.publish_node(node.name());
        }
        effect
    }

    fn perform(&self, node: &Arc<Node>, effect: SleepEffect) {
        let name = node.name();
        let (nodes, of_task) = (self.clone(), Arc::clone(node));
        match effect {
            SleepEffect::Leave => {
                tracing::info!(node = %name, cause = ?node.sleep().cause(), "putting the node to sleep");
                node.clear_sleep_failure();
                tokio::spawn(async move { nodes.leave(&of_task).await });
            }
            SleepEffect::Suspend => {
                let hive = node.hive_now();
                // Its silence is no loss from now on.
                node.set_hive_attention(Attention::Rare, Some(node.asleep_error()));
                tokio::spawn(async move { nodes.suspend(&of_task, hive).await });
            }
            SleepEffect::Stay => {
                tracing::info!(node = %name, "the node stays awake");
                node.attend(Attention::Usual, None);
            }
            SleepEffect::Rest => {
                tracing::info!(node = %name, "the node is asleep");
                let cause = node.sleep().cause().unwrap_or(SleepCause::User);
                let since = Timestamp::now();
                node.update_entry(|entry| {
                    entry.power.asleep = Some(Asleep { since, cause });
                    entry.last_error = None;
                });
                node.attend(Attention::Rare, Some(node.asleep_error()));
                self.save_sleep(node);
            }
            SleepEffect::Call => {
                node.attend(Attention::Constant, None);
                tokio::spawn(async move { nodes.call(&of_task).await });
            }
            SleepEffect::Return => {
                tracing::info!(node = %name, "the node is awake");
                node.update_entry(|entry| entry.power.asleep = None);
                node.clear_sleep_failure();
                node.attend(Attention::Usual, None);
                self.save_sleep(node);
            }
            SleepEffect::GiveUp => {
                let sleep = node.sleep();
                let limit = self.limits().wake;
                let error = errors::not_woken(name, limit, sleep.is_given_up());
                tracing::warn!(node = %name, code = %error.code, "{error}");
                node.set_sleep_failure(error);
                let is_asleep = sleep.stage() == SleepStage::Asleep;
                let attention = if is_asleep {
                    Attention::Rare
                } else {
                    Attention::Usual
                };
                node.attend(attention, is_asleep.then(|| node.asleep_error()));
            }
        }
        node.update_entry(|_| {});
    }

    /// Sends magic packets, from here and from the nodes that are awake: the queen may be in another
    /// network.
    async fn call(&self, node: &Node) {
        let power = node.entry().power;
        let address = power.settings.wake_address;
        let others = self.all().into_iter();
        let others = others.filter(|other| other.may_sleep() && other.name() != node.name());
        let hives: Vec<_> = others.filter_map(|other| other.hive_now().ok()).collect();
        for mac in power.cards() {
            let own = wake_on_lan::send(mac, address).await;
            let request = WakeRequest { mac, address };
            let sent = join_all(hives.iter().map(|hive| hive.client.wake(&request))).await;
            match own {
                Ok(sent) => tracing::debug!(node = %node.name(), %mac, ?sent, "sent magic packets"),
                Err(error) if sent.iter().all(Result::is_err) => {
                    tracing::warn!(node = %node.name(), %error, "no magic packet was sent");
                }
                Err(error) => tracing::debug!(%error, "other nodes have sent magic packets"),
            }
        }
    }

    /// Stores that a node sleeps or does not.
    fn save_sleep(&self, node: &Node) {
        let (nodes, entry) = (self.clone(), node.entry());
        tokio::spawn(async move {
            let saved = nodes
                .state()
                .registry(move |registry| registry.save_state(&entry));
            if let Err(error) = saved.await {
                tracing::warn!(%error, "cannot save the state of a node");
            }
        });
    }
}
