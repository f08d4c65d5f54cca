use std::{
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    time::{Duration, Instant},
};

use crate::{Matcher, Shape, TokenMask, fault, source, thread_builder};
use diagnostics::{Code, Diagnostic};
use llguidance::{
    ParserFactory, TokenParser,
    api::{ParserLimits, TopLevelGrammar},
    toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie},
};

/// Constraints that are compiled at once; more wait.
const MOST_AT_ONCE: usize = 2;
/// Longest that a constraint is compiled, the wait for others included.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Longer tokens are never part of a constrained answer; the trie does not take them.
const MOST_TOKEN_BYTES: usize = 1000;
/// Begins the name of a token that stands for no text. No UTF-8 contains this byte.
const NO_TEXT: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// The work that is done for one constraint, in llguidance's units. With these a token's
/// mask takes some 15 ms at the most, and the states of one answer some 50 MB.
fn limits() -> ParserLimits {
    ParserLimits {
        max_lexer_states: 32_768,
        // Otherwise errors would show the model's own tokens and the whole grammar.
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// The tokens of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// The bytes of each token by its id; none for one that stands for no text.
    pub tokens: Vec<Vec<u8>>,
    /// Ids that end an answer.
    pub end_tokens: Vec<u32>,
}

/// The beginning of an answer.
pub struct Begun {
    /// Follows the answer from here on.
    pub matcher: Matcher,
    /// The tokens that may come first.
    pub allowed: TokenMask,
}

/// Turns constraints into matchers, for one model. Clones are the same compiler.
#[derive(Clone)]
pub struct Compiler(Arc<Inner>);

struct Inner {
    vocabulary: Box<dyn Fn() -> Vocabulary + Send + Sync>,
    /// Made with the first constraint: it takes half a second for 150,000 tokens.
    prepared: OnceLock<Result<Prepared, Diagnostic>>,
    running: Mutex<usize>,
    freed: Condvar,
}

struct Prepared {
    factory: ParserFactory,
    tokens: usize,
    end_tokens: TokenMask,
}

impl Compiler {
    /// A compiler for the model with this vocabulary, which is asked for when the first
    /// constraint comes.
    pub fn new(vocabulary: impl Fn() -> Vocabulary + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            vocabulary: Box::new(vocabulary),
            prepared: OnceLock::new(),
            running: Mutex::new(0),
            freed: Condvar::new(),
        }))
    }

    /// Compiles what an answer must be and takes the tokens of the answer so far, none of
    /// them an end token. Blocks for as long as that takes, 10 s at the most.
    ///
    /// Errors: `INVALID_REQUEST` and `UNSUPPORTED_PARAMETER` with the field `constraint`,
    /// or `tools` for calls, or `continue_from` for tokens that are not allowed.
    pub fn begin(&self, shape: impl Into<Shape>, so_far: &[u32]) -> Result<Begun, Diagnostic> {
        let shape = shape.into();
        let field = shape.field();
        let begun = self.begin_aside(shape, so_far.to_vec());
        begun.map_err(|error| error.renamed(fault::PARAM, field))
    }

    /// Does it on a thread with a stack that is large enough.
    fn begin_aside(&self, shape: Shape, so_far: Vec<u32>) -> Result<Begun, Diagnostic> {
        let end = Instant::now() + TIME_LIMIT;
        let place = self.place(end)?;
        let compiler = self.clone();
        let (sender, receiver) = sync_channel(1);
        thread_builder("grammar")
            .spawn(move || {
                let _place = place;
                // Nobody waits any more for what took too long.
                let _ = sender.send(compiler.0.begin(&shape, &so_far));
            })
            .map_err(|e| Diagnostic::internal(format!("cannot start a thread: {e}")))?;
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(begun) => begun,
            Err(RecvTimeoutError::Timeout) => Err(too_long()),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Diagnostic::internal("the compiler of constraints broke"))
            }
        }
    }

    /// Waits until there is room for one more compilation.
    fn place(&self, end: Instant) -> Result<Place, Diagnostic> {
        let running = self.0.running.lock();
        let (mut running, waited) = self
            .0
            .freed
            .wait_timeout_while(
                running.unwrap_or_else(PoisonError::into_inner),
                end.saturating_duration_since(Instant::now()),
                |running| *running >= MOST_AT_ONCE,
            )
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(too_long());
        }
        *running += 1;
        Ok(Place(self.clone()))
    }
}

fn too_long() -> Diagnostic {
    let seconds = TIME_LIMIT.as_secs();
    fault::too_complex(&format!("it is not compiled after {seconds} s"))
}

/// One of the compilations that run at once.
struct Place(Compiler);

impl Drop for Place {
    fn drop(&mut self) {
        let inner = &self.0.0;
        *inner.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        inner.freed.notify_one();
    }
}

impl Inner {
    fn begin(&self, shape: &Shape, so_far: &[u32]) -> Result<Begun, Diagnostic> {
        let grammar = source::grammar(shape)?;
        let prepared = self
            .prepared
            .get_or_init(|| Prepared::new((self.vocabulary)()))
            .as_ref()
            .map_err(Clone::clone)?;
        let parser = prepared.parser(grammar).map_err(|error| {
            let error = source::in_lark(error, shape);
            // Of what is put together, the part that is wrong alone is named.
            let mut functions = source::functions(shape);
            let wrong = functions.find_map(|(name, grammar)| {
                let error = prepared.parser(grammar.ok()?).err()?;
                Some(fault::of_function(error, name))
            });
            wrong.unwrap_or(error)
        })?;
        let inner = llguidance::Matcher::new(Ok(parser));
        let end_tokens = prepared.end_tokens.clone();
        let mut matcher = Matcher::new(inner, prepared.tokens, end_tokens, shape.field());
        for token in so_far {
            matcher.accept(*token).map_err(|_| {
                let message = format!(
                    "continue_from has token {token} where the constraint does not allow it"
                );
                Diagnostic::new(Code::InvalidRequest, message).param("continue_from")
            })?;
        }
        let allowed = matcher.allowed()?;
        Ok(Begun { matcher, allowed })
    }
}

impl Prepared {
    fn parser(&self, grammar: TopLevelGrammar) -> Result<TokenParser, Diagnostic> {
        self.factory
            .create_parser(grammar)
            .map_err(|error| fault::while_compiled(&format!("{error:#}")))
    }

    fn new(vocabulary: Vocabulary) -> Result<Self, Diagnostic> {
        let Vocabulary {
            mut tokens,
            end_tokens,
        } = vocabulary;
        let Some(first_end) = end_tokens.first().copied() else {
            return Err(Diagnostic::new(
                Code::UnsupportedParameter,
                "the model has no end token, so an answer to a constraint could not end",
            )
            .param("constraint"));
        };
        let mut nameless = |id: u32, name: String| {
            if let Some(token) = tokens.get_mut(id as usize) {
                *token = [&[NO_TEXT], name.as_bytes()].concat();
            }
        };
        // An end token ends the answer, whatever text it may stand for.
        for id in &end_tokens {
            nameless(*id, format!("<|end {id}|>"));
        }
        for token in tokens.iter_mut().filter(|t| t.len() > MOST_TOKEN_BYTES) {
            token.clear();
        }
        let internal = |e: &dyn std::fmt::Display| {
            Diagnostic::internal(format!("the model's vocabulary cannot be used: {e}"))
        };
        let size = u32::try_from(tokens.len()).map_err(|e| internal(&e))?;
        let trie = TokTrie::from(&TokRxInfo::new(size, first_end), &tokens);
        let trie = trie.with_eos_tokens(&end_tokens);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|e| internal(&e))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self {
            factory,
            tokens: tokens.len(),
            end_tokens: TokenMask::of(&end_tokens),
        })
    }
}
