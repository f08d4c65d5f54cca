use eventsource_stream::Eventsource as _;
use futures::StreamExt as _;
use serde_json::Value;

/// An HTTP response that was read to its end.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
    /// Body.
    pub text: String,
}

impl HttpResponse {
    /// Reads a response to its end.
    pub async fn read(response: reqwest::Response) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The body as server-sent events.
    pub async fn events(&self) -> Vec<SseEvent> {
        let text = self.text.clone();
        futures::stream::iter([Ok::<_, std::convert::Infallible>(text)])
            .eventsource()
            .map(|event| {
                let event = event.unwrap();
                SseEvent {
                    name: event.event,
                    data: event.data,
                }
            })
            .collect()
            .await
    }
}

/// A server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// Name; `message` if the event has none.
    pub name: String,
    /// Data.
    pub data: String,
}

impl SseEvent {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e}: {}", self.data))
    }
}
