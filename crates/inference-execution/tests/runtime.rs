//! The runtime with the mock engine: slots, cancellation, slow readers, deadlines, faults.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::{sync::Arc, time::Duration};

use diagnostics::{Code, Diagnostic};
use inference_execution::{
    RequestStream, Runtime, RuntimeConfig,
    mock::{MockEngine, MockSettings},
};
use jiff::Timestamp;
use proptest::prelude::*;
use text_codec::Codec;
use worker_contract::{FinishReason, InferInput, InferRequest, StreamEvent};

/// Much longer than any test takes; exceeded only by a hang.
const HANG: Duration = Duration::from_secs(30);
/// Number of tokens generated for a reader that reads nothing: with the `started` event they fill
/// the channel.
const UNREAD_TOKENS: usize = 63;

fn runtime(settings: &str, change: impl FnOnce(&mut RuntimeConfig)) -> Runtime {
    let settings: MockSettings = settings.parse().unwrap();
    let mut config = RuntimeConfig::new("mock:test".parse().unwrap(), settings.slots);
    change(&mut config);
    let engine = Box::new(MockEngine::new(settings));
    Runtime::start(engine, Arc::new(Codec::byte_level()), config).unwrap()
}

fn request(id: &str, prompt: &str) -> InferRequest {
    InferRequest::new(id.parse().unwrap(), InferInput::Prompt(prompt.into()))
}

/// What a stream contained.
#[derive(Debug)]
struct Collected {
    tokens: Vec<u32>,
    /// Text of each token event.
    texts: Vec<String>,
    end: Result<FinishReason, Diagnostic>,
}

/// Reads a stream and checks its structure: `started` first, consecutive indices, exactly one
/// terminal event, last.
async fn collect(stream: &mut RequestStream, mut next_index: u32) -> Collected {
    let mut collected = Collected {
        tokens: Vec::new(),
        texts: Vec::new(),
        end: Err(Diagnostic::internal("no terminal event")),
    };
    let (mut started, mut metrics, mut ended) = (false, false, false);
    while let Some(event) = tokio::time::timeout(HANG, stream.recv()).await.unwrap() {
        assert!(!ended, "{event:?} follows the terminal event");
        match event {
            StreamEvent::Started(_) => {
                assert!(!started && collected.tokens.is_empty());
                started = true;
            }
            StreamEvent::Token(token) => {
                assert!(started && !metrics);
                assert_eq!(token.i, next_index);
                next_index += 1;
                collected.tokens.push(token.id);
                collected.texts.push(token.t);
            }
            StreamEvent::Metrics(_) => metrics = true,
            StreamEvent::End(end) => {
                assert!(metrics && end.usage.completion_tokens == next_index);
                collected.end = Ok(end.reason);
                ended = true;
            }
            StreamEvent::Error(error) => {
                collected.end = Err(error);
                ended = true;
            }
        }
    }
    assert!(ended, "no terminal event");
    collected
}

async fn run(runtime: &Runtime, request: InferRequest) -> Collected {
    collect(&mut runtime.submit(request).unwrap(), 0).await
}

/// Reads a stream to its end. Returns the error if it ended with one.
async fn last_event(stream: &mut RequestStream) -> Result<StreamEvent, Diagnostic> {
    let mut last = None;
    while let Some(event) = tokio::time::timeout(HANG, stream.recv()).await.unwrap() {
        last = Some(event);
    }
    match last {
        Some(StreamEvent::Error(error)) => Err(error),
        Some(event) => Ok(event),
        None => panic!("the stream had no events left"),
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Diagnostic>) -> Code {
    result.unwrap_err().code
}

async fn idle(runtime: &Runtime) {
    tokio::time::timeout(HANG, runtime.idle()).await.unwrap();
    assert_eq!(runtime.status().slots_free, runtime.status().slots_total);
}

#[tokio::test]
async fn request_streams_and_frees_its_slot() {
    let runtime = runtime("slots=1,length=30", |_| {});
    for _ in 0..3 {
        let collected = run(&runtime, request("same-id", "hello")).await;
        assert_eq!(collected.end, Ok(FinishReason::Stop));
        assert_eq!(
            (collected.texts.concat().len(), collected.tokens.len()),
            (30, 31)
        );
    }
    let counts = runtime.counts();
    assert_eq!((counts.completed, counts.generated_tokens), (3, 93));
    assert_eq!(runtime.status().slots_free, 1);
}

#[tokio::test]
async fn exactly_one_request_gets_the_last_slot() {
    let runtime = runtime("slots=2,tokens_per_second=20", |_| {});
    let held = runtime.submit(request("held", "x")).unwrap();
    let results: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|i| {
                let runtime = &runtime;
                scope.spawn(move || runtime.submit(request(&format!("r{i}"), "x")))
            })
            .collect();
        racers.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for error in lost {
        assert_eq!(code(error), Code::AllSlotsBusy);
    }
    drop((held, won));
    idle(&runtime).await;
}

#[tokio::test]
async fn refuses_id_of_an_open_request() {
    let runtime = runtime("slots=3,tokens_per_second=20", |_| {});
    let first = runtime.submit(request("a", "x")).unwrap();
    assert_eq!(
        code(runtime.submit(request("a", "x"))),
        Code::DuplicateRequest
    );
    assert_eq!(
        runtime.status().slots_free,
        2,
        "the refused request holds no slot"
    );
    drop(first);
    idle(&runtime).await;
    runtime.submit(request("a", "x")).unwrap();
}

#[tokio::test]
async fn refused_request_holds_no_slot() {
    let runtime = runtime("slots=1,context=64", |_| {});
    let mut bad = request("a", "x");
    bad.max_tokens = Some(0);
    assert_eq!(code(runtime.submit(bad)), Code::InvalidRequest);
    let long = request("a", &"x".repeat(64));
    let error = runtime.submit(long).unwrap_err();
    assert_eq!(error.code, Code::ContextLengthExceeded);
    assert_eq!(error.correlation_id.as_deref(), Some("a"));
    assert_eq!(runtime.status().slots_free, 1);
}

#[tokio::test]
async fn cancel_ends_the_stream_and_ignores_unknown_ids() {
    let runtime = runtime("slots=1,tokens_per_second=50,length=4000", |_| {});
    let mut stream = runtime.submit(request("a", "x")).unwrap();
    while !matches!(stream.recv().await, Some(StreamEvent::Token(_))) {}
    assert!(runtime.cancel(&"a".parse().unwrap()));
    assert_eq!(code(last_event(&mut stream).await), Code::Cancelled);
    assert!(!runtime.cancel(&"a".parse().unwrap()));
    assert!(!runtime.cancel(&"b".parse().unwrap()));
    idle(&runtime).await;
    assert_eq!(runtime.counts().cancelled, 1);
}

#[tokio::test]
async fn cancel_ends_the_other_choices_of_a_request() {
    let runtime = runtime("slots=4,tokens_per_second=50,length=4000", |_| {});
    let first = request("a", "x");
    // The first choice is not open.
    let others = [1, 2].map(|choice| first.for_choice(choice).unwrap());
    let mut streams: Vec<_> = others
        .into_iter()
        .map(|request| runtime.submit(request).unwrap())
        .collect();
    let mut unrelated = runtime.submit(request("a_3", "x")).unwrap();
    assert!(runtime.cancel(&first.request_id));
    for stream in &mut streams {
        assert_eq!(code(last_event(stream).await), Code::Cancelled);
    }
    while !matches!(unrelated.recv().await, Some(StreamEvent::Token(_))) {}
    assert!(!runtime.cancel(&first.request_id));
    assert_eq!(runtime.counts().cancelled, 2);
}

#[tokio::test]
async fn frees_slot_when_reader_disconnects() {
    let runtime = runtime("slots=1,tokens_per_second=50,length=4000", |_| {});
    let mut stream = runtime.submit(request("a", "x")).unwrap();
    stream.recv().await.unwrap();
    drop(stream);
    idle(&runtime).await;
    assert_eq!(runtime.counts().cancelled, 1);
    assert_eq!(runtime.status().kv_cache.used, 0);
}

#[tokio::test]
async fn slow_reader_pauses_its_request_and_does_not_delay_others() {
    let runtime = runtime("slots=2,length=1000", |_| {});
    let mut slow = runtime.submit(request("slow", "x")).unwrap();
    let undisturbed = run(&runtime, request("quick", "x")).await;
    assert_eq!(undisturbed.tokens.len(), 1001);
    assert_eq!(
        runtime.counts().generated_tokens as usize,
        undisturbed.tokens.len() + UNREAD_TOKENS
    );
    let late = collect(&mut slow, 0).await;
    assert_eq!(
        (late.tokens, late.texts),
        (undisturbed.tokens, undisturbed.texts)
    );
}

#[tokio::test]
async fn frees_slot_when_reader_of_a_paused_request_disconnects() {
    let runtime = runtime("slots=2,length=1000", |_| {});
    let unread = runtime.submit(request("unread", "x")).unwrap();
    // Every step of this request has a token of the other one too, until that one is paused.
    let read = run(&runtime, request("read", "x")).await;
    assert_eq!(
        runtime.counts().generated_tokens as usize,
        read.tokens.len() + UNREAD_TOKENS,
        "the unread request is paused"
    );
    drop(unread);
    idle(&runtime).await;
    assert_eq!(runtime.counts().cancelled, 1);
}

#[tokio::test]
async fn deadline_ends_a_paused_request() {
    let runtime = runtime("slots=2,length=4000", |_| {});
    let in_ms = |ms: i64| Timestamp::now() + jiff::SignedDuration::from_millis(ms);
    let mut late = request("late", "x");
    late.deadline = Some(in_ms(-1));
    assert_eq!(code(runtime.submit(late)), Code::DeadlineExceeded);

    let mut soon = request("soon", "x");
    soon.deadline = Some(in_ms(1000));
    let mut stream = runtime.submit(soon).unwrap();
    // Frees the slot although nothing is read.
    idle(&runtime).await;
    let collected = collect(&mut stream, 0).await;
    assert_eq!(
        collected.tokens.len(),
        UNREAD_TOKENS,
        "the request was paused"
    );
    assert_eq!(code(collected.end), Code::DeadlineExceeded);
    assert_eq!(runtime.counts().expired, 1);
}

#[tokio::test]
async fn drain_finishes_open_requests_and_refuses_new_ones() {
    let runtime = runtime("slots=2,length=20,tokens_per_second=200", |_| {});
    let mut stream = runtime.submit(request("a", "x")).unwrap();
    runtime.drain();
    assert_eq!(code(runtime.submit(request("b", "x"))), Code::Draining);
    assert_eq!(collect(&mut stream, 0).await.end, Ok(FinishReason::Stop));
    idle(&runtime).await;
}

#[tokio::test]
async fn a_full_worker_that_drains_says_that_it_drains() {
    let runtime = runtime("slots=1,length=4000,tokens_per_second=50", |_| {});
    let held = runtime.submit(request("a", "x")).unwrap();
    let refused = runtime.submit(request("b", "x"));
    assert_eq!(code(refused), Code::AllSlotsBusy);
    runtime.drain();
    assert_eq!(code(runtime.submit(request("c", "x"))), Code::Draining);
    drop(held);
    idle(&runtime).await;
}

#[tokio::test]
async fn abort_ends_open_requests_with_its_error() {
    let runtime = runtime("slots=1,length=4000,tokens_per_second=50", |_| {});
    let mut stream = runtime.submit(request("a", "x")).unwrap();
    runtime.abort(Diagnostic::new(Code::Draining, "the worker stops"));
    assert_eq!(code(collect(&mut stream, 0).await.end), Code::Draining);
    idle(&runtime).await;
}

#[tokio::test]
async fn open_requests_finish_after_the_handle_is_dropped() {
    let runtime = runtime("slots=1,length=20", |_| {});
    let mut stream = runtime.submit(request("a", "x")).unwrap();
    drop(runtime);
    assert_eq!(collect(&mut stream, 0).await.end, Ok(FinishReason::Stop));
}

#[tokio::test]
async fn failed_step_ends_its_requests_but_not_the_engine() {
    let runtime = runtime("slots=1,fail=step", |_| {});
    for _ in 0..2 {
        let collected = run(&runtime, request("a", "x")).await;
        assert_eq!(code(collected.end), Code::Internal);
    }
    assert_eq!(runtime.failure(), None);
    assert_eq!(runtime.counts().failed, 2);
}

#[tokio::test]
async fn lost_engine_ends_every_request_and_is_reported() {
    for fault in ["device", "panic"] {
        let runtime = runtime(&format!("slots=2,fail={fault}"), |_| {});
        let mut changes = runtime.changes();
        let collected = run(&runtime, request("a", "x")).await;
        assert_eq!(code(collected.end), Code::Internal, "{fault}");
        let reported = changes.wait_for(|_| runtime.failure().is_some());
        tokio::time::timeout(HANG, reported).await.unwrap().unwrap();
        assert_eq!(code(runtime.submit(request("b", "x"))), Code::Internal);
    }
}

#[tokio::test]
async fn continued_request_yields_the_same_output() {
    let runtime = runtime("slots=1,length=40", |_| {});
    let mut original = request("a", "hello");
    original.sampling.seed = Some(5);
    original.stop = vec!["not in the output".into()];
    // Hot enough for the seed to matter.
    original.sampling.values.temperature = Some(20.0);
    original.max_tokens = Some(60);
    let complete = run(&runtime, original.clone()).await;
    for cut in [1, 7, complete.tokens.len() - 1] {
        let mut rest = original.clone();
        rest.continue_from = complete.tokens[..cut].to_vec();
        let mut stream = runtime.submit(rest).unwrap();
        let continued = collect(&mut stream, cut as u32).await;
        assert_eq!(continued.tokens, complete.tokens[cut..]);
        assert_eq!(continued.texts, complete.texts[cut..]);
        assert_eq!(continued.end, complete.end);
    }
    // A complete output has the same finish reason and generates nothing.
    let mut done = original;
    done.continue_from.clone_from(&complete.tokens);
    let mut stream = runtime.submit(done).unwrap();
    let nothing = collect(&mut stream, complete.tokens.len() as u32).await;
    assert!(nothing.tokens.is_empty());
    assert_eq!(nothing.end, complete.end);
}

#[tokio::test]
async fn output_with_an_upper_bound_ends_with_the_context() {
    let runtime = runtime("slots=1,length=100,context=16", |_| {});
    let mut long = request("a", "hello");
    long.max_tokens = Some(32_000);
    assert_eq!(
        code(runtime.submit(long.clone())),
        Code::ContextLengthExceeded
    );
    long.end_with_context = true;
    let collected = run(&runtime, long).await;
    assert_eq!(collected.tokens.len(), 11);
    assert_eq!(collected.end, Ok(FinishReason::Length));
}

#[tokio::test]
async fn queue_accepts_requests_beyond_the_slots() {
    let runtime = runtime("slots=1,length=30", |config| config.queue = 2);
    let mut streams: Vec<_> = (0..3)
        .map(|i| runtime.submit(request(&format!("r{i}"), "x")).unwrap())
        .collect();
    for stream in &mut streams {
        assert_eq!(collect(stream, 0).await.end, Ok(FinishReason::Stop));
    }
}

#[derive(Debug, Clone)]
enum Reader {
    ReadsAll,
    Drops(usize),
    Cancels(usize),
    Expires,
}

fn reader() -> impl Strategy<Value = Reader> {
    prop_oneof![
        3 => Just(Reader::ReadsAll),
        1 => (0..20_usize).prop_map(Reader::Drops),
        1 => (0..20_usize).prop_map(Reader::Cancels),
        1 => Just(Reader::Expires),
    ]
}

/// Returns whether the request was accepted.
async fn run_reader(runtime: Runtime, index: usize, reader: Reader) -> bool {
    let id = format!("r{index}");
    let mut request = request(&id, &format!("prompt {}", index % 5));
    if matches!(reader, Reader::Expires) {
        request.deadline = Some(Timestamp::now() + jiff::SignedDuration::from_millis(3));
    }
    let mut stream = match runtime.submit(request) {
        Ok(stream) => stream,
        Err(error) => {
            assert!(matches!(
                error.code,
                Code::AllSlotsBusy | Code::DeadlineExceeded
            ));
            return false;
        }
    };
    let mut received = 0;
    let mut ends = 0;
    loop {
        match reader {
            Reader::Drops(after) if received >= after => return true,
            Reader::Cancels(after) if received == after => {
                runtime.cancel(&id.parse().unwrap());
            }
            _ => {}
        }
        match tokio::time::timeout(HANG, stream.recv()).await.unwrap() {
            Some(event) => {
                received += 1;
                ends += usize::from(event.is_terminal());
            }
            None => break,
        }
    }
    assert_eq!(ends, 1, "exactly one terminal event");
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The KV cache is small, so that sequences are preempted frequently.
    #[test]
    fn any_workload_ends_every_request_once(readers in prop::collection::vec(reader(), 1..60)) {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2).enable_all().build().unwrap();
        tokio.block_on(async {
            let runtime = runtime("slots=6,length=90,context=256,kv=256", |c| c.token_budget = 8);
            let reference = run(&runtime, request("reference", "prompt 0")).await;
            let mut tasks = tokio::task::JoinSet::new();
            for (index, reader) in readers.into_iter().enumerate() {
                tasks.spawn(run_reader(runtime.clone(), index, reader));
            }
            let mut accepted = 0;
            while let Some(result) = tasks.join_next().await {
                accepted += u64::from(result.unwrap());
            }
            idle(&runtime).await;
            assert_eq!(runtime.status().kv_cache.used, 0);
            assert_eq!(runtime.status().queue_depth, 0);
            let counts = runtime.counts();
            let ended = counts.completed + counts.cancelled + counts.expired + counts.failed;
            assert_eq!(ended, accepted + 1);
            assert_eq!(counts.failed, 0);
            let again = run(&runtime, request("again", "prompt 0")).await;
            assert_eq!(again.texts, reference.texts);
        });
    }

    /// The output of a request is the same alone and batched with others, with preemption.
    #[test]
    fn batching_does_not_change_the_text(prompts in prop::collection::vec("[a-z]{1,60}", 2..6)) {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let hot = |index: usize, prompt: &str| {
                let mut request = request(&format!("r{index}"), prompt);
                request.sampling.values.temperature = Some(8.0);
                request.sampling.seed = Some(index as u64);
                request.max_tokens = Some(100);
                request
            };
            let alone = runtime("slots=1,length=90,context=256", |_| {});
            let batched = runtime("slots=6,length=90,context=256,kv=256", |c| c.token_budget = 7);
            let mut streams = Vec::new();
            for (index, prompt) in prompts.iter().enumerate() {
                streams.push(batched.submit(hot(index, prompt)).unwrap());
            }
            for (index, (prompt, stream)) in prompts.iter().zip(&mut streams).enumerate() {
                let expected = run(&alone, hot(index, prompt)).await;
                assert_eq!(collect(stream, 0).await.tokens, expected.tokens);
            }
        });
    }
}
