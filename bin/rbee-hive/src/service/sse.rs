use bytes::Bytes;
use hive_contract::JobEvent;

/// An event in the format of `text/event-stream`.
pub(super) fn encode(event: &JobEvent) -> Bytes {
    // Fails only for values that JSON cannot represent; an event has none.
    let data = event.data().unwrap_or_default();
    Bytes::from(format!("event: {}\ndata: {data}\n\n", event.name()))
}

#[cfg(test)]
mod tests {
    use diagnostics::Narration;

    use super::*;

    #[test]
    fn an_event_is_its_name_and_one_line_of_json() {
        let narration = Narration::info("hive", "test", "3");
        assert_eq!(
            encode(&JobEvent::Narration(narration)),
            "event: narration\ndata: {\"actor\":\"hive\",\"action\":\"test\",\"message\":\"3\",\"level\":\"info\"}\n\n"
        );
    }
}
