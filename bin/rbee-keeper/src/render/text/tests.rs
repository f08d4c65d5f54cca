use super::*;
use diagnostics::Code;
use queen_contract::WorkerList;
use serde_json::json;
use worker_contract::{Timings, Usage};

const PLAIN: Style = Style { coloured: false };

fn one_worker() -> Vec<WorkerEntry> {
    let list: WorkerList = serde_json::from_value(json!({"workers": [{
        "id": "w-1", "generation": 3, "hive_id": "local", "model_id": "builtin:haiku",
        "device": "CPU-0", "port": 8081, "pid": 42, "status": "ready",
        "implementation": "rbee-candle", "version": "0.1.0", "capabilities": ["stream"],
        "slots_total": 4, "slots_free": 3, "queue_depth": 0, "context_length": 512,
        "memory_bytes": 73_400_320, "kv_cache": {"total": 2048, "used": 10},
        "availability": "available", "heartbeat_age_ms": 120, "active_requests": 1
    }]}))
    .unwrap();
    list.workers
}

#[test]
fn an_error_has_its_hint_behind_an_empty_line() {
    let told = Diagnostic::new(Code::ModelNotFound, "no such model: builtin:x").hint("look");
    assert_eq!(
        error(&told, PLAIN),
        "error: no such model: builtin:x\n\nhint: look\n"
    );
    let told = Diagnostic::new(Code::Internal, "a\u{1b}[2Jb");
    assert_eq!(error(&told, PLAIN), "error: a\\u{1b}[2Jb\n");
    let coloured = error(&told, Style { coloured: true });
    assert!(coloured.starts_with("\u{1b}[1;31merror:\u{1b}[0m a\\u{1b}"));
}

#[test]
fn only_line_breaks_and_tabs_act_on_a_terminal() {
    assert_eq!(
        for_terminal("a\tb\r\n\u{1b}]0;x\u{7}é\n\n"),
        "a\tb\\r\n\\u{1b}]0;x\\u{7}é\n\n"
    );
    assert_eq!(for_terminal(""), "");
}

#[test]
fn narration_says_who_and_how_bad() {
    let told = Narration::info("queen", "load", "loads builtin:haiku\n");
    assert_eq!(narration(&told, PLAIN), "queen: loads builtin:haiku\\n\n");
    let told = Narration::warn("hive", "x", "slow");
    assert_eq!(narration(&told, PLAIN), "hive: warning: slow\n");
}

#[test]
fn the_footer_names_figures_and_place() {
    let mut told = Footer {
        end: EndEvent {
            stop: None,
            reason: FinishReason::Stop,
            usage: Usage {
                completion_tokens: 25,
                ..Usage::default()
            },
            timings: Timings {
                tokens_per_second: 123.44,
                ..Timings::default()
            },
        },
        assigned: Some(
            serde_json::from_value(
                json!({"worker": "w-1", "node": "local", "device": "CPU-0", "attempt": 1}),
            )
            .unwrap(),
        ),
        seed: Some(7),
    };
    assert_eq!(
        footer(&told, PLAIN),
        "25 tokens · 123.4 tokens/s · worker w-1 · node local · device CPU-0 · seed 7\n"
    );
    told.end.reason = FinishReason::Length;
    told.end.usage.completion_tokens = 1;
    told.assigned = None;
    assert_eq!(
        footer(&told, PLAIN),
        "1 token · 123.4 tokens/s · cut at the limit · seed 7\n"
    );
}

#[test]
fn workers_as_a_table() {
    assert_eq!(
        workers(&one_worker()),
        "WORKER  MODEL          NODE   DEVICE  STATUS  FREE SLOTS  REQUESTS  MEMORY\n\
         w-1     builtin:haiku  local  CPU-0   ready   3/4         1         70.0 MiB\n"
    );
    assert_eq!(workers(&[]), "no workers\n");
    let mut silent = one_worker();
    silent[0].availability = Availability::Silent;
    assert!(workers(&silent).contains("silent"));
}

#[test]
fn one_worker_as_facts() {
    let text = worker(&one_worker()[0]);
    assert!(text.contains("engine        rbee-candle 0.1.0\n"), "{text}");
    assert!(text.contains("slots         3 of 4 free\n"), "{text}");
    assert_eq!(text.lines().count(), 15);
}

#[test]
fn the_status_has_a_section_for_everything() {
    let told: Status = serde_json::from_value(json!({
        "queen": {"status": "ok", "version": "0.1.0", "api_version": 1, "pid": 9},
        "uptime_seconds": 3725,
        "nodes": [{"name": "local", "hive_url": null, "status": "unreachable", "devices": [],
                   "last_connected": null, "last_error": "the hive\u{1b} is gone"}],
        "workers": [], "deployments": [],
        "requests": {"waiting": 0, "running": 1, "completed": 2, "failed": 3, "cancelled": 4}
    }))
    .unwrap();
    assert_eq!(
        status(&told, "http://127.0.0.1:8500"),
        "queen 0.1.0 at http://127.0.0.1:8500 (pid 9), up 1 h 2 min\n\
         requests: 0 waiting, 1 running, 2 completed, 3 failed, 4 cancelled\n\
         \n\
         NODE   STATUS       TROUBLE\n\
         local  unreachable  the hive\\u{1b} is gone\n\
         \n\
         no deployments\n\
         \n\
         no workers\n"
    );
}

#[test]
fn figures_in_words() {
    assert_eq!(bytes(0), "0 B");
    assert_eq!(bytes(1023), "1023 B");
    assert_eq!(bytes(1024), "1.0 KiB");
    assert_eq!(bytes(150 * 1024 * 1024), "150 MiB");
    assert_eq!(bytes(u64::MAX), "16777216 TiB");
    assert_eq!(count(1_234_567), "1.2M");
    assert_eq!(duration(59), "59 s");
    assert_eq!(duration(61), "1 min 1 s");
    assert_eq!(duration(90_000), "1 d 1 h");
}
