use std::{collections::HashMap, fs, path::Path, time::Duration};

use cucumber::{given, then, when};
use futures::{StreamExt as _, future::join_all};
use queen_contract::{InferCall, InferEvent};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use worker_contract::{FinishReason, StreamEvent};

use crate::{Answer, SseEvent, World, eventually, within};

pub(super) fn link() {}

/// Longest that an answer in these scenarios may take, loading included.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// What the steps of inference remember.
#[derive(Debug, Default)]
pub struct Inference {
    /// The last request, as sent.
    request: Value,
    /// Its events.
    events: Vec<SseEvent>,
    /// The events of the one before.
    earlier: Vec<SseEvent>,
    /// Requests that run in the background, by name.
    streams: HashMap<String, Stream>,
    /// Answers to golden questions: the case and the text.
    golden: Vec<(usize, String)>,
    /// Answers of requests that were sent at once: status and body.
    answers: Vec<Answer>,
}

/// A request in the background.
#[derive(Debug)]
struct Stream {
    events: mpsc::Receiver<InferEvent>,
    seen: Vec<StreamEvent>,
}

impl Stream {
    /// Waits for one more event of the worker; none when the stream is over.
    async fn next(&mut self) -> Option<&StreamEvent> {
        loop {
            match within(ANSWER_LIMIT, "an event", self.events.recv()).await? {
                InferEvent::Worker(event) => {
                    self.seen.push(event);
                    return self.seen.last();
                }
                InferEvent::Narration(_) | InferEvent::Assigned(_) => {}
            }
        }
    }

    fn text(&self) -> String {
        self.seen
            .iter()
            .filter_map(|e| match e {
                StreamEvent::Token(token) => Some(token.t.as_str()),
                _ => None,
            })
            .collect()
    }
}

fn golden_cases() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku/golden.json");
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn url(world: &World, path: &str) -> String {
    format!("{}{path}", world.daemon("queen").expect("a queen runs").url)
}

async fn post(url: String, body: Value) -> Answer {
    let send = client().post(url).json(&body).send();
    let response = within(ANSWER_LIMIT, "an answer", send).await.unwrap();
    within(ANSWER_LIMIT, "an answer", Answer::read(response)).await
}

async fn infer(world: &mut World, request: Value) {
    let answer = post(url(world, "/v1/infer"), request.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let events = answer.events().await;
    let state = world.get::<Inference>();
    state.request = request;
    state.earlier = std::mem::replace(&mut state.events, events);
}

/// The worker's events: what the queen adds of its own is left out.
fn worker_events(events: &[SseEvent]) -> Vec<&SseEvent> {
    events
        .iter()
        .filter(|e| e.name != "narration" && e.name != "assigned")
        .collect()
}

fn tokens(events: &[SseEvent]) -> Vec<Value> {
    events
        .iter()
        .filter(|e| e.name == "token")
        .map(SseEvent::json)
        .collect()
}

fn text(events: &[SseEvent]) -> String {
    tokens(events)
        .iter()
        .map(|t| t["t"].as_str().unwrap())
        .collect()
}

fn event<'a>(events: &'a [SseEvent], name: &str) -> &'a SseEvent {
    events
        .iter()
        .find(|e| e.name == name)
        .unwrap_or_else(|| panic!("no event {name} in {events:?}"))
}

#[when("I infer")]
async fn infer_once(world: &mut World, step: &cucumber::gherkin::Step) {
    let request = serde_json::from_str(step.docstring.as_deref().unwrap()).unwrap();
    infer(world, request).await;
}

#[when("I infer the same again with the reported seed")]
async fn infer_again(world: &mut World) {
    let state = world.get::<Inference>();
    let seed = event(&state.events, "started").json()["seed"].clone();
    let mut request = state.request.clone();
    request["sampling"]["seed"] = seed;
    infer(world, request).await;
}

#[when(regex = r"^I infer the same again, continuing after (\d+) tokens$")]
async fn infer_continued(world: &mut World, count: usize) {
    let state = world.get::<Inference>();
    let ids: Vec<Value> = tokens(&state.events)
        .iter()
        .take(count)
        .map(|t| t["id"].clone())
        .collect();
    assert_eq!(ids.len(), count, "the answer is long enough to be cut");
    let mut request = state.request.clone();
    request["continue_from"] = ids.into();
    infer(world, request).await;
}

#[when(regex = r"^I sample `(.*)` with seed (\d+) and note the text as (\w+)$")]
async fn sample(world: &mut World, model: String, seed: u64, name: String) {
    let request = json!({
        "model": model, "request_id": format!("r-{name}"), "max_tokens": 40,
        "sampling": {"temperature": 1.0, "seed": seed},
        "input": {"messages": [{"role": "user", "content": "Write a haiku about rain"}]},
    });
    infer(world, request).await;
    let text = text(&world.get::<Inference>().events);
    assert!(!text.is_empty());
    world.noted.insert(name, text);
}

#[then(regex = r"^the texts (\w+) and (\w+) (are equal|differ)$")]
fn compare(world: &mut World, one: String, other: String, how: String) {
    let (one, other) = (&world.noted[&one], &world.noted[&other]);
    assert_eq!(one == other, how == "are equal", "{one}\n---\n{other}");
}

#[then("both texts are equal")]
fn both_equal(world: &mut World) {
    let state = world.get::<Inference>();
    assert!(!text(&state.events).is_empty());
    assert_eq!(text(&state.earlier), text(&state.events));
}

#[then("the tokens of both together are those of the undisturbed answer")]
fn continued(world: &mut World) {
    let state = world.get::<Inference>();
    let whole = tokens(&state.earlier);
    let rest = tokens(&state.events);
    assert_eq!(whole[whole.len() - rest.len()..], rest);
    assert_eq!(rest[0]["i"], 4, "the count goes on");
}

#[then(regex = r"^the worker's events are started, tokens, metrics, end$")]
fn in_order(world: &mut World) {
    let state = world.get::<Inference>();
    let mut names: Vec<&str> = worker_events(&state.events)
        .iter()
        .map(|e| e.name.as_str())
        .collect();
    names.dedup();
    assert_eq!(names, ["started", "token", "metrics", "end"]);
}

#[then("exactly one event is terminal, and it is the last")]
fn one_terminal(world: &mut World) {
    let state = world.get::<Inference>();
    let terminal = |e: &SseEvent| e.name == "end" || e.name == "error";
    assert_eq!(state.events.iter().filter(|e| terminal(e)).count(), 1);
    assert!(state.events.last().is_some_and(terminal));
}

#[then("the event `started` has a seed")]
fn has_seed(world: &mut World) {
    let started = event(&world.get::<Inference>().events, "started").json();
    assert!(started["seed"].is_u64(), "{started}");
}

#[then("the event `end` counts the tokens that were streamed")]
fn end_counts(world: &mut World) {
    let state = world.get::<Inference>();
    let end = event(&state.events, "end").json();
    assert_eq!(
        end["usage"]["completion_tokens"],
        tokens(&state.events).len()
    );
}

#[then("the event `metrics` tells the time to the first token")]
fn metrics_tell(world: &mut World) {
    let metrics = event(&world.get::<Inference>().events, "metrics").json();
    assert!(
        metrics["time_to_first_token_ms"].as_f64().unwrap() > 0.0,
        "{metrics}"
    );
}

#[then(regex = r"^(\d+) tokens were streamed$")]
fn token_count(world: &mut World, count: usize) {
    assert_eq!(tokens(&world.get::<Inference>().events).len(), count);
}

#[then(regex = r"^the reason is (\w+)$")]
fn end_reason(world: &mut World, reason: String) {
    let end = event(&world.get::<Inference>().events, "end").json();
    assert_eq!(end["reason"], Value::from(reason));
}

#[then(regex = r"^the last token is (\d+)$")]
fn last_token(world: &mut World, id: u32) {
    let tokens = tokens(&world.get::<Inference>().events);
    assert_eq!(tokens.last().unwrap()["id"], id);
}

#[then("the text is")]
fn text_is(world: &mut World, step: &cucumber::gherkin::Step) {
    let expected = step.docstring.as_deref().unwrap().trim_matches('\n');
    assert_eq!(text(&world.get::<Inference>().events), expected);
}

#[then("every piece of text is valid UTF-8 without replacement characters")]
fn whole_characters(world: &mut World) {
    let state = world.get::<Inference>();
    let text = text(&state.events);
    assert!(!text.is_ascii(), "characters of several bytes: {text}");
    assert!(!text.contains('\u{fffd}'), "{text}");
}

#[when(regex = r"^I ask `(.*)` the golden question (\d+) greedily$")]
async fn golden_one(world: &mut World, model: String, case: usize) {
    let url = url(world, "/v1/chat/completions");
    let cases = golden_cases();
    world.answer = Some(post(url, golden_request(&model, &cases[case])).await);
}

#[then(regex = r"^the answer is the golden text of case (\d+)$")]
fn golden_answer(world: &mut World, case: usize) {
    golden_at(world, "/choices/0/message/content".into(), case);
}

#[then(regex = r"^the answer's `(.*)` is the golden text of case (\d+)$")]
fn golden_at(world: &mut World, pointer: String, case: usize) {
    let answer = world.last_answer();
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        answer.json().pointer(&pointer),
        Some(&golden_cases()[case]["output_text"])
    );
}

fn golden_request(model: &str, case: &Value) -> Value {
    json!({"model": model, "temperature": 0, "max_tokens": 96, "messages": case["messages"]})
}

#[when(regex = r"^I ask `(.*)` every golden question greedily$")]
async fn golden_all(world: &mut World, model: String) {
    golden_clients(world, 1, model).await;
}

#[when(regex = r"^I ask `(.*)` every golden question greedily, all at once$")]
async fn golden_at_once(world: &mut World, model: String) {
    golden_clients(world, 20, model).await;
}

#[when(regex = r"^(\d+) clients ask `(.*)` every golden question greedily$")]
async fn golden_clients(world: &mut World, clients: usize, model: String) {
    let url = url(world, "/v1/chat/completions");
    let cases = golden_cases();
    let asked = cases.iter().enumerate().map(|(case, content)| {
        let (url, request) = (url.clone(), golden_request(&model, content));
        async move {
            let answer = post(url, request).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let text = answer.json()["choices"][0]["message"]["content"].clone();
            (case, text.as_str().unwrap_or_default().to_owned())
        }
    });
    world.get::<Inference>().golden = futures::stream::iter(asked)
        .buffer_unordered(clients)
        .collect()
        .await;
}

#[then("every answer is the golden text")]
fn golden_texts(world: &mut World) {
    let cases = golden_cases();
    let golden = &world.get::<Inference>().golden;
    assert_eq!(golden.len(), cases.len());
    for (case, text) in golden {
        assert_eq!(cases[*case]["output_text"], text.as_str(), "case {case}");
    }
}

#[when(regex = r"^I start a request (\S+) to `(.*)`$")]
async fn start_request(world: &mut World, id: String, model: String) {
    let call: InferCall = serde_json::from_value(json!({
        "model": model, "request_id": id, "sampling": {"seed": 1},
        "input": {"prompt": "count"},
    }))
    .unwrap();
    let stream = world.queen().infer(&call).await.unwrap();
    // Room for a whole answer, so that the reader never slows the stream down.
    let (sender, events) = mpsc::channel(10_000);
    world.spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            let Ok(event) = event else { return };
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    let stream = Stream {
        events,
        seen: Vec::new(),
    };
    world.get::<Inference>().streams.insert(id, stream);
}

#[when(regex = r"^the request (\S+) has streamed (\d+) tokens$")]
async fn has_streamed(world: &mut World, id: String, count: usize) {
    let stream = world.get::<Inference>().streams.get_mut(&id).unwrap();
    let mut tokens = 0;
    while tokens < count {
        match stream.next().await {
            Some(StreamEvent::Token(_)) => tokens += 1,
            Some(StreamEvent::Started(_)) => {}
            other => panic!("{other:?} after {tokens} tokens"),
        }
    }
}

#[when(regex = r"^I cancel the request (\S+)$")]
async fn cancel(world: &mut World, id: String) {
    let request = client().delete(url(world, &format!("/v1/infer/{id}")));
    world.answer = Some(Answer::read(request.send().await.unwrap()).await);
}

async fn to_the_end(world: &mut World, id: &str) -> Stream {
    let mut stream = world.get::<Inference>().streams.remove(id).unwrap();
    while stream.next().await.is_some() {}
    stream
}

#[then(regex = r"^the request (\S+) ends with the error ([A-Z_]+)$")]
async fn ends_with_error(world: &mut World, id: String, code: String) {
    let stream = to_the_end(world, &id).await;
    match stream.seen.last() {
        Some(StreamEvent::Error(error)) => assert_eq!(error.code.as_str(), code),
        other => panic!("ended with {other:?}"),
    }
}

#[then(regex = r"^the request (\S+) ends well$")]
async fn ends_well(world: &mut World, id: String) {
    let stream = to_the_end(world, &id).await;
    match stream.seen.last() {
        Some(StreamEvent::End(end)) => assert_eq!(end.reason, FinishReason::Stop),
        other => panic!("ended with {other:?}"),
    }
    let started = |e: &&StreamEvent| matches!(e, StreamEvent::Started(_));
    assert_eq!(stream.seen.iter().filter(started).count(), 1);
    let text = stream.text();
    world.noted.insert("disturbed".into(), text);
}

#[then("its text is that of an undisturbed run")]
async fn as_undisturbed(world: &mut World) {
    start_request(
        world,
        "undisturbed".into(),
        "mock:tokens_per_second=40,length=60".into(),
    )
    .await;
    let stream = to_the_end(world, "undisturbed").await;
    assert_eq!(world.noted["disturbed"], stream.text());
}

#[when(regex = r"^a client asks `(.*)` (with a stream|without a stream) and goes away$")]
async fn goes_away(world: &mut World, model: String, how: String) {
    let url = url(world, "/v1/chat/completions");
    let body = json!({"model": model, "stream": how == "with a stream",
        "messages": [{"role": "user", "content": "x"}]});
    let call = tokio::spawn(client().post(url).json(&body).send());
    eventually(Duration::from_secs(20), || async {
        let status = world.queen().status().await.map_err(|e| e.to_string())?;
        if status.requests.running == 1 {
            Ok(())
        } else {
            Err(format!("{:?}", status.requests))
        }
    })
    .await;
    // Dropping the call, or the answer that it already has, closes the connection.
    call.abort();
    let _ = call.await;
}

#[when(regex = r"^(\d+) requests reach the worker itself at once$")]
async fn at_the_worker(world: &mut World, count: usize) {
    let workers = world.queen().workers().await.unwrap().workers;
    let token = world.node_token();
    let url = format!("http://127.0.0.1:{}/v1/infer", workers[0].info.port);
    let calls = (0..count).map(|i| {
        let body = json!({"request_id": format!("direct-{i}"), "stream": false,
            "input": {"prompt": "count"}});
        let request = client().post(&url).bearer_auth(&token).json(&body);
        async move { Answer::read(request.send().await.unwrap()).await }
    });
    world.get::<Inference>().answers = join_all(calls).await;
}

#[then(regex = r"^(\d+) of them is answered and (\d+) are refused with ([A-Z_]+)$")]
fn some_refused(world: &mut World, answered: usize, refused: usize, code: String) {
    let answers = &world.get::<Inference>().answers;
    let good = answers.iter().filter(|a| a.status == 200).count();
    let bad = answers
        .iter()
        .filter(|a| a.status == 503 && a.json()["error"]["code"] == code.as_str())
        .count();
    assert_eq!((good, bad), (answered, refused), "{answers:?}");
}

#[when(regex = r"^(\d+) requests for `(.*)` reach the queen at once$")]
async fn at_the_queen(world: &mut World, count: usize, model: String) {
    let url = url(world, "/v1/chat/completions");
    let calls = (0..count).map(|_| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "x"}]});
        post(url.clone(), body)
    });
    world.get::<Inference>().answers = join_all(calls).await;
}

#[when(
    regex = r"^(\d+) requests for `(.*)` with the same system prompt of (\d+) tokens reach the queen at once$"
)]
async fn shared_prompt(world: &mut World, count: usize, model: String, tokens: usize) {
    let url = url(world, "/v1/chat/completions");
    // A token of the mock engine is a byte.
    let system = &"Answer as a sailor would. ".repeat(tokens)[..tokens];
    let calls = (0..count).map(|i| {
        let body = json!({"model": model, "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": format!("question {i:02}")}]});
        post(url.clone(), body)
    });
    world.get::<Inference>().answers = join_all(calls).await;
}

#[then(
    regex = r"^the tokens that were not cached are those of 1 system prompt and (\d+) questions$"
)]
fn computed_once(world: &mut World, count: u64) {
    let answers = &world.get::<Inference>().answers;
    let (mut prompts, mut computed) = (0, 0);
    for answer in answers {
        let usage = answer.json()["usage"].clone();
        let prompt = usage["prompt_tokens"].as_u64().unwrap();
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
        prompts += prompt;
        computed += prompt - cached.unwrap();
    }
    // Whatever the template adds, it is less than 60 tokens; and up to a block of what is
    // common may be computed by each.
    let most = 1000 + count * (60 + 16);
    assert!(prompts > count * 1000, "{prompts} tokens");
    assert!(computed <= most, "{computed} tokens were computed");
}

#[then(regex = r"^(\d+) tokens of the prompt were cached$")]
fn cached(world: &mut World, count: u64) {
    let events = &world.get::<Inference>().events;
    assert_eq!(event(events, "started").json()["cached_tokens"], count);
    assert_eq!(event(events, "end").json()["usage"]["cached_tokens"], count);
}

#[then("all but the last block of the prompt was cached")]
fn nearly_all_cached(world: &mut World) {
    let started = event(&world.get::<Inference>().events, "started").json();
    let prompt = started["prompt_tokens"].as_u64().unwrap();
    let count = started["cached_tokens"].as_u64().unwrap();
    assert!(count > 0 && count + 16 >= prompt, "{count} of {prompt}");
    cached(world, count);
}

#[then("all of them are answered")]
fn all_answered(world: &mut World) {
    let answers = &world.get::<Inference>().answers;
    assert!(answers.iter().all(|a| a.status == 200), "{answers:?}");
}

#[when(regex = r"^I ask `(.*)` for a chat of (\d+) words$")]
async fn long_chat(world: &mut World, model: String, words: usize) {
    let url = url(world, "/v1/chat/completions");
    let content = "rain ".repeat(words);
    let body = json!({"model": model, "messages": [{"role": "user", "content": content}]});
    world.answer = Some(post(url, body).await);
}

#[then("the queen still answers a good request")]
async fn still_answers(world: &mut World) {
    let url = url(world, "/v1/chat/completions");
    let body = json!({"model": "mock:length=3", "messages": [{"role": "user", "content": "x"}]});
    let answer = post(url, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[given(regex = r"^a copy of the embedded model cut to (\d+) bytes as `(.*)`$")]
fn cut_model(world: &mut World, bytes: usize, name: String) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku/rbee-haiku-tiny-f16.gguf");
    let whole = fs::read(path).unwrap();
    fs::write(world.dir().join(name), &whole[..bytes]).unwrap();
}

#[when(regex = r"^the haiku acceptance test runs on `(.*)`$")]
async fn haiku_runs(world: &mut World, model: String) {
    let options = haiku::Options {
        bin_dir: crate::binary("rbee-keeper").parent().unwrap().to_owned(),
        home: world.home(),
        model: Some(model),
        backend: "cpu".into(),
        node: None,
        environment: world.inherited(),
        show: false,
    };
    let report = tokio::task::spawn_blocking(move || haiku::run(&options));
    let report = within(Duration::from_secs(120), "the haiku", report).await;
    let report = report.unwrap().unwrap();
    world.noted.insert("haiku".into(), report.misses.join("\n"));
    world.nothing_left().await;
}

#[then("it passes")]
fn haiku_passes(world: &mut World) {
    assert_eq!(world.noted["haiku"], "");
}

#[then("it fails because of the text")]
fn haiku_fails(world: &mut World) {
    let misses = &world.noted["haiku"];
    assert!(
        misses.contains("the word") && misses.contains("not once"),
        "{misses}"
    );
    assert!(!misses.contains("counted"), "{misses}");
}
