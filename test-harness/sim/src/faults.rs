//! Faults that a file describes, for services that run as processes.
//!
//! The file is read again for every request, so that a fault can begin and end while the service
//! runs. Each line is a fault; the first one that applies to a response is used:
//!
//! ```text
//! SERVER FAULT [VALUE] [at BYTE] [times N]
//!
//! storage status 503 times 2      two responses are errors
//! storage cut at 2000000          the connection closes before this byte of a file
//! storage stall at 2000000        nothing is sent from this byte of a file on
//! storage flip at 2000000         this byte of a file is wrong
//! storage rate 100000             bytes per second of each response
//! ```
//!
//! `SERVER` is `front`, which clients know, or `storage`, which has the large files. With `at`,
//! a fault applies to responses with this byte only, and with `times` to so many responses.

use std::{
    fs,
    io::{self, ErrorKind},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

/// Bytes of a piece if the rate is limited.
const SLOW_PIECE: u64 = 16 << 10;

/// Which of the two servers of a service received a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerRole {
    /// The one that clients know.
    Front,
    /// The one with the large files, to which the front redirects.
    Storage,
}

/// A file with faults, which need not exist.
pub struct FaultsFile {
    path: PathBuf,
    known: Mutex<(String, Vec<Rule>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Status(StatusCode),
    Cut,
    Stall,
    Flip,
    Rate(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    server: ServerRole,
    fault: Fault,
    /// Byte of the file that the response must have.
    at: Option<u64>,
    /// Responses that it can still apply to.
    left: u64,
}

impl FaultsFile {
    /// Faults of a file. Fails if it is not valid.
    pub fn new(path: PathBuf) -> io::Result<Self> {
        let faults = Self {
            path,
            known: Mutex::default(),
        };
        faults.read(&mut faults.known())?;
        Ok(faults)
    }

    fn known(&self) -> MutexGuard<'_, (String, Vec<Rule>)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, (text, rules): &mut (String, Vec<Rule>)) -> io::Result<()> {
        let newest = match fs::read_to_string(&self.path) {
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            result => result?,
        };
        if newest != *text {
            let lines = newest
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty());
            let parsed = lines.map(|line| {
                parse(line).ok_or_else(|| io::Error::other(format!("not a fault: {line}")))
            });
            *rules = parsed.collect::<io::Result<_>>()?;
            *text = newest;
        }
        Ok(())
    }

    /// Applies a fault to a response.
    pub(crate) fn apply(&self, server: ServerRole, response: Response) -> Response {
        let sent = sent_range(&response);
        let rule = {
            let mut known = self.known();
            if let Err(error) = self.read(&mut known) {
                return (StatusCode::BAD_REQUEST, error.to_string()).into_response();
            }
            let mut rules = known.1.iter_mut();
            let rule = rules.find(|rule| rule.applies(server, sent));
            rule.map(|rule| {
                rule.left -= 1;
                rule.clone()
            })
        };
        match rule {
            None => response,
            Some(Rule {
                fault: Fault::Status(status),
                ..
            }) => status.into_response(),
            Some(rule) => {
                let (parts, body) = response.into_parts();
                let body = Sending {
                    body: body.into_data_stream(),
                    rest: Bytes::new(),
                    at: sent.map_or(0, |(start, _)| start),
                    fault: rule.fault,
                    position: rule.at.unwrap_or(0),
                };
                Response::from_parts(parts, body.into_body())
            }
        }
    }
}

impl Rule {
    fn applies(&self, server: ServerRole, sent: Option<(u64, u64)>) -> bool {
        let has_byte = |at: u64| sent.is_some_and(|(start, end)| start <= at && at < end);
        self.left > 0 && self.server == server && self.at.is_none_or(has_byte)
    }
}

fn parse(line: &str) -> Option<Rule> {
    let mut words = line.split_whitespace();
    let server = match words.next()? {
        "front" => ServerRole::Front,
        "storage" => ServerRole::Storage,
        _ => return None,
    };
    let fault = match words.next()? {
        "status" => Fault::Status(words.next()?.parse().ok()?),
        "rate" => Fault::Rate(words.next()?.parse().ok().filter(|rate| *rate > 0)?),
        "cut" => Fault::Cut,
        "stall" => Fault::Stall,
        "flip" => Fault::Flip,
        _ => return None,
    };
    let (mut at, mut left) = (None, u64::MAX);
    while let Some(word) = words.next() {
        let value = words.next()?.parse().ok()?;
        match word {
            "at" => at = Some(value),
            "times" => left = value,
            _ => return None,
        }
    }
    let needs_byte = matches!(fault, Fault::Cut | Fault::Stall | Fault::Flip);
    (at.is_some() || !needs_byte).then_some(Rule {
        server,
        fault,
        at,
        left,
    })
}

/// First byte of the file in a response, and the one after the last; `None` for responses
/// without content.
fn sent_range(response: &Response) -> Option<(u64, u64)> {
    let text = |name| response.headers().get(name)?.to_str().ok();
    let length: u64 = text(header::CONTENT_LENGTH)?.parse().ok()?;
    match response.status() {
        StatusCode::OK => Some((0, length)),
        StatusCode::PARTIAL_CONTENT => {
            let range = text(header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
            let start: u64 = range.split_once('-')?.0.parse().ok()?;
            Some((start, start + length))
        }
        _ => None,
    }
}

/// A body with a fault.
struct Sending {
    body: BodyDataStream,
    /// Bytes that were read and not sent.
    rest: Bytes,
    /// Position of the next byte in the file.
    at: u64,
    fault: Fault,
    /// Position of the byte where the fault is.
    position: u64,
}

impl Sending {
    fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, Self::next))
    }

    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let before = self.position.saturating_sub(self.at);
        match self.fault {
            Fault::Cut if before == 0 => {
                // Lets the connection send what it has.
                tokio::time::sleep(Duration::from_millis(1)).await;
                return Some((Err(ErrorKind::ConnectionReset.into()), self));
            }
            Fault::Stall if before == 0 => std::future::pending().await,
            _ => {}
        }
        while self.rest.is_empty() {
            match self.body.next().await? {
                Ok(bytes) => self.rest = bytes,
                Err(error) => return Some((Err(io::Error::other(error)), self)),
            }
        }
        let most = match self.fault {
            Fault::Cut | Fault::Stall => before,
            Fault::Rate(rate) => (rate / 20).clamp(1, SLOW_PIECE),
            Fault::Flip | Fault::Status(_) => u64::MAX,
        };
        let length = most.min(self.rest.len() as u64);
        let mut piece = self.rest.split_to(length as usize);
        if let Fault::Rate(rate) = self.fault {
            tokio::time::sleep(Duration::from_secs_f64(length as f64 / rate as f64)).await;
        }
        if self.fault == Fault::Flip && self.at <= self.position && before < length {
            let mut wrong = piece.to_vec();
            wrong[before as usize] ^= 1;
            piece = wrong.into();
        }
        self.at += length;
        Some((Ok(piece), self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_faults_with_conditions() {
        let rule = |server, fault, at, left| {
            Some(Rule {
                server,
                fault,
                at,
                left,
            })
        };
        let (front, storage) = (ServerRole::Front, ServerRole::Storage);
        let busy = Fault::Status(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            parse("front status 503 times 2"),
            rule(front, busy, None, 2)
        );
        assert_eq!(
            parse("storage status 503 at 7"),
            rule(storage, busy, Some(7), u64::MAX)
        );
        assert_eq!(
            parse("storage rate 9"),
            rule(storage, Fault::Rate(9), None, u64::MAX)
        );
        assert_eq!(
            parse(" storage  cut at 7 times 1"),
            rule(storage, Fault::Cut, Some(7), 1)
        );
        for wrong in [
            "",
            "storage",
            "back cut at 1",
            "storage cut",
            "storage cut at",
            "storage cut at x",
            "storage rate 0",
            "storage status 1x",
            "storage flip at 1 often",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
