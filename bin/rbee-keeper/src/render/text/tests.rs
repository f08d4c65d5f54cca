use super::*;
use diagnostics::Code;
use queen_contract::{ModelList, WorkerList};
use serde_json::json;
use worker_contract::{Timings, Usage};

const PLAIN: Style = Style { colored: false };
const COLORED: Style = Style { colored: true };

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
fn error_is_followed_by_its_hint() {
    let diagnostic =
        Diagnostic::new(Code::ModelNotFound, "model \"x\" does not exist").hint("a\u{7}b");
    assert_eq!(
        error(&diagnostic, PLAIN),
        "error: model \"x\" does not exist\n\nhint: a\\u{7}b\n"
    );
    assert_eq!(
        error(&diagnostic, COLORED),
        "\u{1b}[1;31merror:\u{1b}[0m model \"x\" does not exist\n\n\
         \u{1b}[1;36mhint:\u{1b}[0m a\\u{7}b\n"
    );
    let diagnostic = Diagnostic::new(Code::Internal, "a\u{1b}[2Jb");
    assert_eq!(error(&diagnostic, PLAIN), "error: a\\u{1b}[2Jb\n");
}

#[test]
fn usage_error_is_escaped_and_colored() {
    let message = "error: invalid value '\u{1b}[31mx'\n\nFor more information\n";
    assert_eq!(
        usage_error(message, COLORED),
        "\u{1b}[1;31merror:\u{1b}[0m invalid value '\\u{1b}[31mx'\n\nFor more information\n"
    );
}

#[test]
fn escapes_control_characters_except_line_feed_and_tab() {
    assert_eq!(
        escape_for_terminal("a\tb\r\n\u{1b}]0;x\u{7}é\n\n"),
        "a\tb\\r\n\\u{1b}]0;x\\u{7}é\n\n"
    );
    assert_eq!(escape_for_terminal(""), "");
}

#[test]
fn narration_names_actor_and_level() {
    let info = Narration::info("queen", "load", "loads builtin:haiku\n");
    assert_eq!(narration(&info, PLAIN), "queen: loads builtin:haiku\\n\n");
    let warning = Narration::warn("hive", "x", "slow");
    assert_eq!(narration(&warning, PLAIN), "hive: warning: slow\n");
    for (message, line) in [
        (
            "worker w-1: load 31 % of 4.1 GB",
            "worker w-1: warning: load 31 % of 4.1 GB\n",
        ),
        ("worker w-1 is slow", "warning: worker w-1 is slow\n"),
        ("workers: none", "worker: warning: workers: none\n"),
    ] {
        let warning = Narration::warn("worker", "x", message);
        assert_eq!(narration(&warning, PLAIN), line);
        let info = Narration::info("worker", "x", message);
        assert_eq!(narration(&info, PLAIN), line.replace("warning: ", ""));
    }
}

#[test]
fn footer_contains_statistics_and_assignment() {
    let mut content = Footer {
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
        footer(&content, PLAIN),
        "25 tokens · 123.4 tokens/s · worker w-1 · node local · device CPU-0 · seed 7\n"
    );
    content.end.reason = FinishReason::Length;
    content.end.usage.completion_tokens = 1;
    content.assigned = None;
    assert_eq!(
        footer(&content, PLAIN),
        "1 token · 123.4 tokens/s · length limit reached · seed 7\n"
    );
}

#[test]
fn workers_are_a_table() {
    assert_eq!(
        workers(&one_worker()),
        "WORKER  MODEL          NODE   DEVICE  STATUS  FREE SLOTS  REQUESTS  MEMORY\n\
         w-1     builtin:haiku  local  CPU-0   ready   3/4         1         70.0 MiB\n"
    );
    assert_eq!(workers(&[]), "no workers\n");
    let mut silent = one_worker();
    silent[0].availability = Availability::Silent;
    assert_eq!(
        workers(&silent),
        "WORKER  MODEL          NODE   DEVICE  STATUS  FREE SLOTS  REQUESTS  MEMORY\n\
         w-1     builtin:haiku  local  CPU-0   silent  3/4         1         70.0 MiB\n"
    );
}

#[test]
fn worker_is_a_list_of_properties() {
    assert_eq!(
        worker(&one_worker()[0]),
        "worker        w-1\n\
         status        ready\n\
         model         builtin:haiku\n\
         node          local\n\
         device        CPU-0\n\
         process       pid 42, port 8081\n\
         generation    3\n\
         engine        rbee-candle 0.1.0\n\
         capabilities  stream\n\
         slots         3 of 4 free\n\
         requests      1 running, 0 queued\n\
         context       512 tokens\n\
         sampling      -\n\
         KV cache      10 of 2048 tokens used\n\
         memory        70.0 MiB\n\
         heartbeat     120 ms ago\n"
    );
}

#[test]
fn models_are_a_table() {
    let list: ModelList = serde_json::from_value(json!({"models": [{
        "model": "builtin:haiku", "format": "gguf", "size_bytes": 5_776_384,
        "architecture": "llama", "quantization": "F16", "context_length": 512,
        "parameters": 2_880_000, "sampling": {"temperature": 0.7, "top_k": 20},
        "nodes": ["a", "b"], "ready_workers": 1
    }]}))
    .unwrap();
    assert_eq!(
        models(&list.models),
        "MODEL          SIZE     ARCHITECTURE  QUANTIZATION  PARAMETERS  CONTEXT  SAMPLING                   NODES  READY WORKERS\n\
         builtin:haiku  5.5 MiB  llama         F16           2.9M        512      temperature=0.7, top_k=20  a, b   1\n"
    );
    assert_eq!(models(&[]), "no models\n");
}

#[test]
fn status_has_a_section_for_each_kind() {
    let parsed: Status = serde_json::from_value(json!({
        "queen": {"status": "ok", "version": "0.1.0", "api_version": 1, "pid": 9},
        "uptime_seconds": 3725,
        "nodes": [{"name": "local", "spec": {"link": "local"}, "hive_url": null, "status": "unreachable", "devices": [],
                   "last_connected": null, "last_error": "the hive\u{1b} is gone"}],
        "workers": [], "deployments": [],
        "requests": {"waiting": 3, "running": 1, "completed": 2, "failed": 3, "cancelled": 4},
        "queues": [{"model": "builtin:haiku", "interactive": 2, "batch": 1,
                    "oldest_wait_ms": 61_900, "estimated_seconds": 12}]
    }))
    .unwrap();
    assert_eq!(
        status(&parsed, "http://127.0.0.1:8500"),
        "queen 0.1.0 at http://127.0.0.1:8500 (pid 9), up 1 h 2 min\n\
         requests: 3 waiting, 1 running, 2 completed, 3 failed, 4 cancelled\n\
         waiting for builtin:haiku: 2 interactive, 1 batch, the oldest for 1 min 1 s, \
         the last one starts in about 12 s\n\
         \n\
         NODE   STATUS       WORKERS  LAST ERROR\n\
         local  unreachable  0        the hive\\u{1b} is gone\n\
         \n\
         no deployments\n\
         \n\
         no workers\n"
    );
}

#[test]
fn durations_have_units() {
    assert_eq!(duration(59), "59 s");
    assert_eq!(duration(61), "1 min 1 s");
    assert_eq!(duration(90_000), "1 d 1 h");
}
