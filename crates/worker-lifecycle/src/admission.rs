use daemon_shell::ProcessIdentity;
use diagnostics::Diagnostic;
use input_validation::{Generation, WorkerId};

use crate::errors::{already_running, fenced};

/// The last spawn of a worker id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    pub generation: Generation,
    /// Its process, if it is alive.
    pub running: Option<ProcessIdentity>,
}

/// How an admitted spawn proceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Start,
    /// Stop this older process first.
    Supersede(ProcessIdentity),
}

/// Decides by generation whether a worker may be spawned. A higher generation supersedes, the
/// same generation may be retried once its process is gone, a lower generation is fenced.
pub fn admit(
    id: &WorkerId,
    generation: Generation,
    existing: Option<Existing>,
) -> Result<Admission, Diagnostic> {
    match existing {
        None => Ok(Admission::Start),
        Some(existing) if generation < existing.generation => {
            Err(fenced(id, generation, existing.generation))
        }
        Some(existing) => match existing.running {
            None => Ok(Admission::Start),
            Some(_) if generation == existing.generation => Err(already_running(id, generation)),
            Some(process) => Ok(Admission::Supersede(process)),
        },
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn generation_decides() {
        let id: WorkerId = "w-1".parse().unwrap();
        let process = ProcessIdentity {
            pid: 7,
            start_time: 1,
        };
        let decide = |generation, known, running| {
            let existing = Existing {
                generation: Generation(known),
                running,
            };
            admit(&id, Generation(generation), Some(existing)).map_err(|e| e.code)
        };
        assert_eq!(admit(&id, Generation(0), None), Ok(Admission::Start));
        assert_eq!(
            decide(4, 3, Some(process)),
            Ok(Admission::Supersede(process))
        );
        assert_eq!(decide(3, 3, Some(process)), Err(Code::WorkerExists));
        assert_eq!(decide(2, 3, Some(process)), Err(Code::Fenced));
        assert_eq!(decide(4, 3, None), Ok(Admission::Start));
        assert_eq!(decide(3, 3, None), Ok(Admission::Start));
        assert_eq!(decide(2, 3, None), Err(Code::Fenced));
    }
}
