use daemon_shell::ProcessIdentity;
use diagnostics::{Code, Diagnostic};
use input_validation::{Generation, WorkerId};

/// What is known of the worker of this name before a spawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// Which spawn it was.
    pub generation: Generation,
    /// Its process, when it lives.
    pub running: Option<ProcessIdentity>,
}

/// How a spawn goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Nothing is in the way.
    Start,
    /// This older process is stopped first.
    Supersede(ProcessIdentity),
}

/// Decides by generation whether a worker may be spawned: a higher one supersedes, the
/// same one may be tried again once its process is gone, a lower one is fenced.
pub fn admit(
    id: &WorkerId,
    generation: Generation,
    existing: Option<Existing>,
) -> Result<Admission, Diagnostic> {
    let Some(existing) = existing else {
        return Ok(Admission::Start);
    };
    let known = existing.generation;
    let refuse = |code, message: String| {
        Err(Diagnostic::new(code, message)
            .hint(format!(
                "spawn it with a generation above {known}, or under another name"
            ))
            .detail("generation", generation.0)
            .detail("known_generation", known.0))
    };
    match existing.running {
        _ if generation < known => refuse(
            Code::Fenced,
            format!(
                "worker {id} was already spawned as generation {known}, asked for was {generation}"
            ),
        ),
        Some(_) if generation == known => refuse(
            Code::WorkerExists,
            format!("worker {id} already runs as generation {known}"),
        ),
        Some(process) => Ok(Admission::Supersede(process)),
        None => Ok(Admission::Start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_decide() {
        let id: WorkerId = "w-1".parse().unwrap();
        let process = ProcessIdentity {
            pid: 7,
            start_time: 1,
        };
        let ask = |generation, known, running| {
            let existing = Existing {
                generation: Generation(known),
                running,
            };
            admit(&id, Generation(generation), Some(existing)).map_err(|e| e.code)
        };
        assert_eq!(admit(&id, Generation(0), None), Ok(Admission::Start));
        assert_eq!(ask(4, 3, Some(process)), Ok(Admission::Supersede(process)));
        assert_eq!(ask(3, 3, Some(process)), Err(Code::WorkerExists));
        assert_eq!(ask(2, 3, Some(process)), Err(Code::Fenced));
        assert_eq!(ask(4, 3, None), Ok(Admission::Start));
        assert_eq!(ask(3, 3, None), Ok(Admission::Start));
        assert_eq!(ask(2, 3, None), Err(Code::Fenced));
    }
}
