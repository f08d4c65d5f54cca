use diagnostics::ErrorBody;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::verdict::{Checked, expect, miss};

/// A complete HTTP response.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub text: String,
    /// The body as JSON, or null.
    pub json: Value,
}

impl Answer {
    /// Reads the whole body of a response.
    pub async fn read(response: reqwest::Response) -> Checked<Self> {
        let status = response.status().as_u16();
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let text = response
            .text()
            .await
            .map_err(|error| miss("a complete HTTP response", error))?;
        Ok(Self {
            status,
            content_type,
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
        })
    }

    /// Shows status and body.
    pub fn shown(&self) -> String {
        format!("{} {}", self.status, self.text)
    }

    /// Fails unless the response has this status.
    pub fn status(&self, status: u16) -> Checked {
        expect(
            self.status == status,
            format_args!("status {status}"),
            self.shown(),
        )
    }

    /// Parses the body of a successful response as a type of the contract.
    pub fn parse<T: DeserializeOwned>(&self, what: &str) -> Checked<T> {
        serde_json::from_value(self.json.clone()).map_err(|error| {
            let body = self.shown();
            miss(what, format_args!("{error}: {body}"))
        })
    }

    /// Fails unless this is an error in the form of the contract with one of these statuses.
    pub fn refusal(&self, statuses: &[u16]) -> Checked {
        expect(
            statuses.contains(&self.status),
            format_args!("an error with status {}", or(statuses)),
            self.shown(),
        )?;
        let body: ErrorBody = self.parse(
            r#"an error {"error": {"message", "type", "param", "code", "hint", …}} of the contract"#,
        )?;
        expect(
            !body.error.diagnostic.message.is_empty(),
            "an error with a message",
            self.shown(),
        )
    }

    /// Fails unless this is an error with this status and code.
    pub fn error(&self, status: u16, code: &str) -> Checked {
        self.refusal(&[status])?;
        expect(
            self.json["error"]["code"] == code,
            format_args!("the code {code}"),
            self.shown(),
        )
    }
}

fn or(statuses: &[u16]) -> String {
    let statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();
    statuses.join(" or ")
}
