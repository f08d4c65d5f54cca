use std::{pin::pin, time::Duration};

use diagnostics::{Code, Diagnostic, Narration};
use futures_util::StreamExt as _;
use hive_contract::PullRequest;
use input_validation::RequestId;
use jiff::{SignedDuration, Timestamp};
use queen_contract::{InferCall, InferEvent, Priority, QueenClient};
use queen_lifecycle::QueenLifecycle;
use tokio::time::timeout;
use uuid::Uuid;
use worker_contract::{
    Constraint, InferInput, InferRequest, Message, ReasoningOptions, Role, Sampling,
    SamplingValues, StreamEvent,
};

use crate::{
    cli::{Infer, QUEEN_KEEPS_RUNNING, Think},
    errors,
    failure::Failure,
    interrupt::Interrupts,
    models, prompt, queen,
    render::{Screen, text::Footer},
    target::Target,
};

/// Limit for the call that cancels a request; dropping the stream cancels it as well.
const CANCEL_LIMIT: Duration = Duration::from_millis(500);

/// Runs `rbee-keeper infer`.
pub(crate) async fn run(
    args: Infer,
    target: &Target,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    let prompt = interrupts
        .unless_interrupted(prompt::read(&args.prompt, args.raw, screen))
        .await?;
    let mut call = request(&args, prompt, Timestamp::now())?;
    screen.hide_reasoning(args.hide_thinking);
    if let Some(path) = &args.json_schema {
        call.request.constraint = Some(Constraint::JsonSchema(prompt::schema(path).await?));
    }
    // The first interrupt does not abort the start of a queen, which takes only a moment: a
    // started queen is used, kept running, or stopped in order below.
    let (queen, started) = target.ensure_running().await?;
    let outcome = match announce_start(started, &queen, screen).await {
        Ok(()) => fetch_and_answer(&queen, call, screen, interrupts).await,
        Err(failure) => Err(failure),
    };
    match target {
        Target::Managed(lifecycle) if started && args.ephemeral => {
            match (outcome, stop_queen(lifecycle, screen).await) {
                (Ok(()), stopped) => stopped,
                (Err(failure), Ok(())) => Err(failure),
                (Err(failure), Err(second)) => {
                    if let Some(error) = second.diagnostic() {
                        let warning = Narration::warn("keeper", "stop", error.to_string());
                        // The first failure is returned, whether or not this is printed.
                        let _ = screen.narrate(&warning).await;
                    }
                    Err(failure)
                }
            }
        }
        _ if started && outcome.is_ok() => {
            let tip = Narration::info("keeper", "tip", QUEEN_KEEPS_RUNNING);
            screen.narrate(&tip).await
        }
        _ => outcome,
    }
}

/// Answers; if the queen refuses because the model would have to be fetched, fetches it first.
async fn fetch_and_answer(
    queen: &QueenClient,
    mut call: InferCall,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    match answer(queen, call.clone(), screen, interrupts).await {
        Err(Failure::Failed(error)) if can_be_fetched(&error) => {
            let request = PullRequest {
                model: call.model.clone(),
                revision: None,
            };
            models::fetch(queen, call.node.as_ref(), &request, screen, interrupts).await?;
            call.request.request_id = new_request_id()?;
            answer(queen, call, screen, interrupts).await
        }
        outcome => outcome,
    }
}

pub(crate) fn can_be_fetched(error: &Diagnostic) -> bool {
    let detail = |details: &diagnostics::Details| details.get("can_be_fetched").cloned();
    error.code == Code::ModelNotFound
        && error.details.as_deref().and_then(detail) == Some(true.into())
}

async fn announce_start(
    started: bool,
    queen: &QueenClient,
    screen: &mut Screen,
) -> Result<(), Failure> {
    if !started {
        return Ok(());
    }
    let message = format!("started the queen at {}", queen.base());
    screen
        .narrate(&Narration::info("keeper", "start", message))
        .await
}

/// Sends the request and prints its events. A model without a chat template continues the
/// prompt as it is.
async fn answer(
    queen: &QueenClient,
    mut call: InferCall,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    let outcome = generate(queen, &call, screen, interrupts).await;
    match (outcome, sole_prompt(&call.request.input)) {
        (Err(Failure::Failed(error)), Some(prompt)) if error.code == Code::NoChatTemplate => {
            let message = "the model has no chat template and continues the prompt as it is; \
                           pass `--raw` to ask for this";
            screen
                .narrate(&Narration::warn("keeper", "raw", message))
                .await?;
            call.request.request_id = new_request_id()?;
            call.request.input = InferInput::Prompt(prompt);
            generate(queen, &call, screen, interrupts).await
        }
        (outcome, _) => outcome,
    }
}

/// Returns the content of a conversation that is one message of the user.
fn sole_prompt(input: &InferInput) -> Option<String> {
    match input {
        InferInput::Messages(messages) => match messages.as_slice() {
            [message] => Some(message.content.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn new_request_id() -> Result<RequestId, Diagnostic> {
    format!("keeper-{}", Uuid::now_v7().simple()).parse()
}

/// Sends the request and prints its events. Cancels the request on an interrupt or when
/// standard output is closed.
async fn generate(
    queen: &QueenClient,
    call: &InferCall,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    let outcome = interrupts
        .unless_interrupted(print_events(queen, call, screen))
        .await;
    if matches!(
        outcome,
        Err(Failure::Interrupted(_) | Failure::OutputClosed)
    ) {
        let _ = timeout(CANCEL_LIMIT, queen.cancel(&call.request.request_id)).await;
    }
    outcome
}

async fn print_events(
    queen: &QueenClient,
    call: &InferCall,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let mut events = pin!(queen.infer(call).await?);
    let mut assigned = None;
    let mut seed = call.request.sampling.seed;
    while let Some(event) = events.next().await {
        match event? {
            InferEvent::Narration(narration) => screen.narrate(&narration).await?,
            InferEvent::Waiting(waiting) => screen.waiting(&waiting).await?,
            InferEvent::Assigned(event) => {
                screen.event("assigned", &event).await?;
                assigned = Some(event);
            }
            InferEvent::Worker(StreamEvent::Started(event)) => {
                screen.event("started", &event).await?;
                screen.notes(&event.notes).await?;
                seed = Some(event.seed);
            }
            InferEvent::Worker(StreamEvent::Token(event)) => screen.token(&event).await?,
            InferEvent::Worker(StreamEvent::Metrics(event)) => {
                screen.event("metrics", &event).await?;
            }
            InferEvent::Worker(StreamEvent::End(end)) => {
                screen.event("end", &end).await?;
                let footer = Footer {
                    end,
                    assigned,
                    seed,
                };
                return screen.footer(&footer).await;
            }
            InferEvent::Worker(StreamEvent::Error(error)) => return Err(error.into()),
        }
    }
    Err(errors::response_ended_early(queen.base()).into())
}

/// Stops the queen that this command started, after its workers and hives.
async fn stop_queen(lifecycle: &QueenLifecycle, screen: &mut Screen) -> Result<(), Failure> {
    let Some(stopped) = lifecycle.stop(true, None).await? else {
        return Err(errors::ephemeral_queen_exited().into());
    };
    for line in queen::stopped_lines(&stopped) {
        screen
            .narrate(&Narration::info("keeper", "stop", line))
            .await?;
    }
    queen::check_cascade(&stopped, true)?;
    screen
        .narrate(&Narration::info("keeper", "stop", "stopped the queen"))
        .await
}

/// Builds the request from the command line.
fn request(args: &Infer, prompt: String, now: Timestamp) -> Result<InferCall, Diagnostic> {
    let input = if args.raw {
        InferInput::Prompt(prompt)
    } else {
        let system = args
            .system
            .clone()
            .map(|text| Message::new(Role::System, text));
        InferInput::Messages(
            system
                .into_iter()
                .chain([Message::new(Role::User, prompt)])
                .collect(),
        )
    };
    let deadline = args
        .deadline
        .map(|seconds| now.checked_add(SignedDuration::from_secs(seconds.into())))
        .transpose()
        .map_err(Diagnostic::internal)?;
    Ok(InferCall {
        model: args.model.clone(),
        backend: args.backend,
        node: args.node.clone(),
        priority: args.batch.then_some(Priority::Batch),
        request: InferRequest {
            max_tokens: args.max_tokens,
            end_with_context: true,
            sampling: Sampling {
                values: SamplingValues {
                    temperature: args.temperature,
                    top_p: args.top_p,
                    top_k: args.top_k,
                    ..SamplingValues::default()
                },
                seed: args.seed,
                ..Sampling::default()
            },
            stop: args.stop.clone(),
            deadline,
            reasoning: reasoning(args),
            ..InferRequest::new(new_request_id()?, input)
        },
    })
}

fn reasoning(args: &Infer) -> ReasoningOptions {
    let enabled = args.think.map(|_| true).or(args.no_think.then_some(false));
    ReasoningOptions {
        enabled,
        effort: args.think.and_then(Think::effort).map(str::to_owned),
        required: enabled == Some(true),
        ..ReasoningOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn call(arguments: &[&str]) -> InferCall {
        let line = ["rbee-keeper", "infer"].iter().chain(arguments);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Infer(args) => request(&args, "Hi".into(), Timestamp::UNIX_EPOCH).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn request_without_options_is_a_chat_with_default_sampling() {
        let call = call(&[]);
        assert_eq!(call.request.sampling, Sampling::default());
        assert_eq!(
            serde_json::to_value(&call.request.input).unwrap(),
            serde_json::json!({"messages": [{"role": "user", "content": "Hi"}]})
        );
        assert_eq!((call.request.deadline, call.backend), (None, None));
        assert_eq!(call.priority, None);
        assert!(call.request.stream);
    }

    #[test]
    fn request_contains_every_option() {
        let call = call(&[
            "--model",
            "mock:load_ms=1",
            "--max-tokens",
            "9",
            "--temperature",
            "0.5",
            "--top-p",
            "0.9",
            "--top-k",
            "40",
            "--seed",
            "7",
            "--stop",
            "x",
            "--system",
            "Be brief",
            "--node",
            "box",
            "--backend",
            "cpu",
            "--deadline",
            "60",
            "--batch",
        ]);
        assert_eq!(call.model.to_string(), "mock:load_ms=1");
        let values = &call.request.sampling.values;
        assert_eq!((values.temperature, values.top_p), (Some(0.5), Some(0.9)));
        assert_eq!(
            (values.top_k, call.request.sampling.seed),
            (Some(40), Some(7))
        );
        assert_eq!(call.request.max_tokens, Some(9));
        assert_eq!(call.request.stop, ["x"]);
        assert_eq!(call.request.deadline.unwrap().as_second(), 60);
        assert_eq!(call.node.unwrap().as_str(), "box");
        assert_eq!(call.priority, Some(Priority::Batch));
        assert_eq!(call.backend.unwrap().to_string(), "cpu");
        let InferInput::Messages(messages) = call.request.input else {
            panic!("not a chat");
        };
        assert_eq!(
            messages,
            [
                Message::new(Role::System, "Be brief"),
                Message::new(Role::User, "Hi")
            ]
        );
    }

    #[test]
    fn reasoning_is_a_switch_or_an_effort() {
        let reasoning = |arguments: &[&str]| call(arguments).request.reasoning;
        assert_eq!(reasoning(&[]), ReasoningOptions::default());
        let on = reasoning(&["--think"]);
        assert_eq!(
            (on.enabled, on.effort, on.required),
            (Some(true), None, true)
        );
        let high = reasoning(&["--think=high"]);
        assert_eq!(
            (high.enabled, high.effort.as_deref()),
            (Some(true), Some("high"))
        );
        let off = reasoning(&["--no-think"]);
        assert_eq!(
            (off.enabled, off.effort, off.required),
            (Some(false), None, false)
        );
    }

    #[test]
    fn raw_prompt_is_sent_without_a_template() {
        assert_eq!(
            call(&["--raw"]).request.input,
            InferInput::Prompt("Hi".into())
        );
    }
}
