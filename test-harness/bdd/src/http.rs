use eventsource_stream::Eventsource as _;
use futures::StreamExt as _;
use serde_json::Value;

/// An HTTP answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: reqwest::header::HeaderMap,
    /// Its body.
    pub text: String,
}

impl Answer {
    /// Reads an answer to its end.
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
    /// Its name; `message` when it has none.
    pub name: String,
    /// Its data.
    pub data: String,
}

impl SseEvent {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e}: {}", self.data))
    }
}
