//! The runtime with the mock engine: slots, cancelling, slow readers, deadlines, faults.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
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

/// Far longer than anything here takes: reached only by a hang.
const HANG: Duration = Duration::from_secs(30);

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

/// Everything of a stream, checked for its shape: started first, indices without gaps,
/// exactly one terminal event, last.
#[derive(Debug)]
struct Answer {
    tokens: Vec<u32>,
    text: String,
    end: Result<FinishReason, Diagnostic>,
}

async fn collect(stream: &mut RequestStream, mut next_index: u32) -> Answer {
    let mut answer = Answer {
        tokens: Vec::new(),
        text: String::new(),
        end: Err(Diagnostic::internal("no end")),
    };
    let (mut started, mut metrics, mut ended) = (false, false, false);
    while let Some(event) = tokio::time::timeout(HANG, stream.recv()).await.unwrap() {
        assert!(!ended, "{event:?} came after the end");
        match event {
            StreamEvent::Started(_) => {
                assert!(!started && answer.tokens.is_empty());
                started = true;
            }
            StreamEvent::Token(token) => {
                assert!(started && !metrics);
                assert_eq!(token.i, next_index);
                next_index += 1;
                answer.tokens.push(token.id);
                answer.text.push_str(&token.t);
            }
            StreamEvent::Metrics(_) => metrics = true,
            StreamEvent::End(end) => {
                assert!(metrics && end.usage.completion_tokens == next_index);
                answer.end = Ok(end.reason);
                ended = true;
            }
            StreamEvent::Error(error) => {
                answer.end = Err(error);
                ended = true;
            }
        }
    }
    assert!(ended);
    answer
}

async fn answer_to(runtime: &Runtime, request: InferRequest) -> Answer {
    collect(&mut runtime.submit(request).unwrap(), 0).await
}

fn code<T: std::fmt::Debug>(result: Result<T, Diagnostic>) -> Code {
    result.unwrap_err().code
}

async fn idle(runtime: &Runtime) {
    tokio::time::timeout(HANG, runtime.idle()).await.unwrap();
    assert_eq!(runtime.status().slots_free, runtime.status().slots_total);
}

#[tokio::test]
async fn an_answer_streams_and_the_slot_is_free_when_it_has_ended() {
    let runtime = runtime("slots=1,length=30", |_| {});
    for _ in 0..3 {
        let answer = answer_to(&runtime, request("same-name", "hello")).await;
        assert_eq!(answer.end, Ok(FinishReason::Stop));
        assert_eq!((answer.text.len(), answer.tokens.len()), (30, 31));
    }
    let counts = runtime.counts();
    assert_eq!((counts.completed, counts.generated_tokens), (3, 93));
    assert_eq!(runtime.status().slots_free, 1);
}

#[tokio::test]
async fn the_last_slot_goes_to_exactly_one() {
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
async fn a_name_can_run_only_once() {
    let runtime = runtime("slots=3,tokens_per_second=20", |_| {});
    let first = runtime.submit(request("a", "x")).unwrap();
    assert_eq!(
        code(runtime.submit(request("a", "x"))),
        Code::DuplicateRequest
    );
    assert_eq!(
        runtime.status().slots_free,
        2,
        "the refused one holds no slot"
    );
    drop(first);
    idle(&runtime).await;
    runtime.submit(request("a", "x")).unwrap();
}

#[tokio::test]
async fn a_refused_request_holds_no_slot() {
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
async fn cancelling_ends_the_stream_and_is_harmless_for_the_unknown() {
    let runtime = runtime("slots=1,tokens_per_second=50,length=4000", |_| {});
    let mut stream = runtime.submit(request("a", "x")).unwrap();
    while !matches!(stream.recv().await, Some(StreamEvent::Token(_))) {}
    assert!(runtime.cancel(&"a".parse().unwrap()));
    while let Some(event) = stream.recv().await {
        if let StreamEvent::Error(error) = event {
            assert_eq!(error.code, Code::Cancelled);
        }
    }
    assert!(!runtime.cancel(&"a".parse().unwrap()));
    assert!(!runtime.cancel(&"b".parse().unwrap()));
    idle(&runtime).await;
    assert_eq!(runtime.counts().cancelled, 1);
}

#[tokio::test]
async fn cancelling_ends_what_is_left_of_the_answers() {
    let runtime = runtime("slots=4,tokens_per_second=50,length=4000", |_| {});
    let first = request("a", "x");
    // Of the first, nothing runs any more.
    let others = [1, 2].map(|choice| first.another(choice).unwrap());
    let mut streams: Vec<_> = others
        .into_iter()
        .map(|request| runtime.submit(request).unwrap())
        .collect();
    let mut foreign = runtime.submit(request("a_3", "x")).unwrap();
    assert!(runtime.cancel(&first.request_id));
    for stream in &mut streams {
        let mut last = None;
        while let Some(event) = stream.recv().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(StreamEvent::Error(e)) if e.code == Code::Cancelled));
    }
    while !matches!(foreign.recv().await, Some(StreamEvent::Token(_))) {}
    assert!(!runtime.cancel(&first.request_id));
    assert_eq!(runtime.counts().cancelled, 2);
}

#[tokio::test]
async fn a_reader_that_goes_away_frees_the_slot() {
    let runtime = runtime("slots=1,tokens_per_second=50,length=4000", |_| {});
    let mut stream = runtime.submit(request("a", "x")).unwrap();
    stream.recv().await.unwrap();
    drop(stream);
    idle(&runtime).await;
    assert_eq!(runtime.counts().cancelled, 1);
    assert_eq!(runtime.status().kv_cache.used, 0);
}

#[tokio::test]
async fn a_slow_reader_is_waited_for_and_holds_nobody_up() {
    let runtime = runtime("slots=2,length=1000", |_| {});
    let mut slow = runtime.submit(request("slow", "x")).unwrap();
    let undisturbed = answer_to(&runtime, request("quick", "x")).await;
    assert_eq!(undisturbed.tokens.len(), 1001);
    // The slow one's channel has long been full; what was generated is bounded by it.
    let generated = runtime.counts().generated_tokens - 1001;
    assert!(
        generated < 100,
        "{generated} tokens for a reader that reads nothing"
    );
    let late = collect(&mut slow, 0).await;
    assert_eq!(
        (late.tokens, late.text),
        (undisturbed.tokens, undisturbed.text)
    );
}

#[tokio::test]
async fn a_reader_that_goes_away_while_the_engine_waits_for_it_frees_the_slot() {
    let runtime = runtime("slots=1,length=1000", |_| {});
    let stream = runtime.submit(request("a", "x")).unwrap();
    // Nobody reads: generation comes to rest when the channel is full.
    let mut generated = u64::MAX;
    while generated != runtime.counts().generated_tokens {
        generated = runtime.counts().generated_tokens;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(stream);
    idle(&runtime).await;
}

#[tokio::test]
async fn a_deadline_ends_even_what_is_paused() {
    let runtime = runtime("slots=2,length=4000", |_| {});
    let in_ms = |ms: i64| Timestamp::now() + jiff::SignedDuration::from_millis(ms);
    let mut late = request("late", "x");
    late.deadline = Some(in_ms(-1));
    assert_eq!(code(runtime.submit(late)), Code::DeadlineExceeded);

    let mut soon = request("soon", "x");
    soon.deadline = Some(in_ms(80));
    let mut stream = runtime.submit(soon).unwrap();
    // Nobody reads, so it is paused when the deadline comes; the slot is freed regardless.
    idle(&runtime).await;
    assert_eq!(
        code(collect(&mut stream, 0).await.end),
        Code::DeadlineExceeded
    );
    assert_eq!(runtime.counts().expired, 1);
}

#[tokio::test]
async fn draining_finishes_what_runs_and_takes_nothing_new() {
    let runtime = runtime("slots=2,length=20,tokens_per_second=200", |_| {});
    let mut stream = runtime.submit(request("a", "x")).unwrap();
    runtime.drain();
    assert_eq!(code(runtime.submit(request("b", "x"))), Code::Draining);
    assert_eq!(collect(&mut stream, 0).await.end, Ok(FinishReason::Stop));
    idle(&runtime).await;
}

#[tokio::test]
async fn aborting_ends_everything_with_the_reason() {
    let runtime = runtime("slots=1,length=4000,tokens_per_second=50", |_| {});
    let mut stream = runtime.submit(request("a", "x")).unwrap();
    runtime.abort(Diagnostic::new(Code::Draining, "the worker stops"));
    assert_eq!(code(collect(&mut stream, 0).await.end), Code::Draining);
    idle(&runtime).await;
}

#[tokio::test]
async fn dropping_the_handle_lets_running_requests_finish() {
    let runtime = runtime("slots=1,length=20", |_| {});
    let mut stream = runtime.submit(request("a", "x")).unwrap();
    drop(runtime);
    assert_eq!(collect(&mut stream, 0).await.end, Ok(FinishReason::Stop));
}

#[tokio::test]
async fn a_failed_step_loses_its_requests_and_not_the_engine() {
    let runtime = runtime("slots=1,fail=step", |_| {});
    for _ in 0..2 {
        let answer = answer_to(&runtime, request("a", "x")).await;
        assert_eq!(code(answer.end), Code::Internal);
    }
    assert_eq!(runtime.failure(), None);
    assert_eq!(runtime.counts().failed, 2);
}

#[tokio::test]
async fn a_lost_engine_ends_every_request_and_is_told() {
    for fault in ["device", "panic"] {
        let runtime = runtime(&format!("slots=2,fail={fault}"), |_| {});
        let mut changes = runtime.changes();
        let answer = answer_to(&runtime, request("a", "x")).await;
        assert_eq!(code(answer.end), Code::Internal, "{fault}");
        let told = changes.wait_for(|_| runtime.failure().is_some());
        tokio::time::timeout(HANG, told).await.unwrap().unwrap();
        assert_eq!(code(runtime.submit(request("b", "x"))), Code::Internal);
    }
}

#[tokio::test]
async fn a_continued_request_goes_on_as_if_nothing_had_happened() {
    let runtime = runtime("slots=1,length=40", |_| {});
    let mut original = request("a", "hello");
    original.sampling.seed = Some(5);
    original.stop = vec!["never there".into()];
    // Hot enough for the seed to matter.
    original.sampling.temperature = 20.0;
    original.max_tokens = Some(60);
    let whole = answer_to(&runtime, original.clone()).await;
    for cut in [1, 7, whole.tokens.len() - 1] {
        let mut rest = original.clone();
        rest.continue_from = whole.tokens[..cut].to_vec();
        let mut stream = runtime.submit(rest).unwrap();
        let continued = collect(&mut stream, cut as u32).await;
        assert_eq!(continued.tokens, whole.tokens[cut..]);
        assert!(whole.text.ends_with(&continued.text));
        assert_eq!(continued.end, whole.end);
    }
    // Complete already: nothing to generate, the same end.
    let mut done = original;
    done.continue_from.clone_from(&whole.tokens);
    let mut stream = runtime.submit(done).unwrap();
    let nothing = collect(&mut stream, whole.tokens.len() as u32).await;
    assert!(nothing.tokens.is_empty());
    assert_eq!(nothing.end, whole.end);
}

#[tokio::test]
async fn an_answer_with_a_bound_above_the_room_ends_where_the_context_does() {
    let runtime = runtime("slots=1,length=100,context=16", |_| {});
    let mut long = request("a", "hello");
    long.max_tokens = Some(32_000);
    assert_eq!(
        code(runtime.submit(long.clone())),
        Code::ContextLengthExceeded
    );
    long.end_with_context = true;
    let answer = answer_to(&runtime, long).await;
    assert_eq!(answer.tokens.len(), 11);
    assert_eq!(answer.end, Ok(FinishReason::Length));
}

#[tokio::test]
async fn a_queue_takes_what_the_slots_cannot() {
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

async fn run_reader(runtime: Runtime, index: usize, reader: Reader) -> bool {
    let name = format!("r{index}");
    let mut request = request(&name, &format!("prompt {}", index % 5));
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
                runtime.cancel(&name.parse().unwrap());
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
    /// Little KV cache, so that sequences are put back and computed again all the time.
    #[test]
    fn any_workload_ends_every_request_once(readers in prop::collection::vec(reader(), 1..60)) {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2).enable_all().build().unwrap();
        tokio.block_on(async {
            let runtime = runtime("slots=6,length=90,context=256,kv=256", |c| c.token_budget = 8);
            let reference = answer_to(&runtime, request("reference", "prompt 0")).await;
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
            let again = answer_to(&runtime, request("again", "prompt 0")).await;
            assert_eq!(again.text, reference.text);
        });
    }

    /// Batched with others, with preemption, an answer is what it is alone.
    #[test]
    fn company_changes_no_text(prompts in prop::collection::vec("[a-z]{1,60}", 2..6)) {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let hot = |index: usize, prompt: &str| {
                let mut request = request(&format!("r{index}"), prompt);
                request.sampling.temperature = 8.0;
                request.sampling.seed = Some(index as u64);
                request.max_tokens = Some(100);
                request
            };
            let alone = runtime("slots=1,length=90,context=256", |_| {});
            let crowded = runtime("slots=6,length=90,context=256,kv=256", |c| c.token_budget = 7);
            let mut streams = Vec::new();
            for (index, prompt) in prompts.iter().enumerate() {
                streams.push(crowded.submit(hot(index, prompt)).unwrap());
            }
            for (index, (prompt, stream)) in prompts.iter().zip(&mut streams).enumerate() {
                let expected = answer_to(&alone, hot(index, prompt)).await;
                assert_eq!(collect(stream, 0).await.tokens, expected.tokens);
            }
        });
    }
}
