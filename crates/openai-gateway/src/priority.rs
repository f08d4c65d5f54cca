use queen_contract::Priority;

/// Returns the priority that OpenAI's `service_tier` and vLLM's `priority` say, if it is not the
/// usual one.
///
/// `flex` is OpenAI's tier for requests that may take longer
/// (<https://platform.openai.com/docs/guides/flex-processing>). vLLM serves requests with lower
/// numbers first; its default is 0
/// (<https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html>).
pub(crate) fn priority(service_tier: Option<&str>, number: Option<i64>) -> Option<Priority> {
    let is_batch = service_tier == Some("flex") || number.is_some_and(|number| number > 0);
    is_batch.then_some(Priority::Batch)
}
