use std::{
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    time::{Duration, Instant},
};

use diagnostics::Diagnostic;
use llguidance::{
    ParserFactory, TokenParser,
    api::{ParserLimits, TopLevelGrammar},
    toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie},
};

use worker_contract::Constraint;

use crate::{
    errors, grammar, lenience::Lenience, mask::TokenMask, matcher::Matcher,
    output::OutputConstraint, threads::thread_builder,
};

/// Maximum number of concurrent compilations; further ones wait.
const MAX_COMPILATIONS: usize = 2;
/// Maximum duration of a compilation, including the wait for others.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Longer tokens are never allowed in constrained output; llguidance's trie rejects them.
const MAX_TOKEN_BYTES: usize = 1000;
/// First byte of the name of a token without text; it does not occur in UTF-8.
const NO_TEXT: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// Limits for one constraint, in llguidance's units: a token mask takes about 15 ms at most,
/// the states of one output about 50 MB.
fn limits() -> ParserLimits {
    ParserLimits {
        max_lexer_states: 32_768,
        // Verbose errors contain the model's own tokens and the entire grammar.
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// Vocabulary of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// Bytes of each token by id; empty for a token without text.
    pub tokens: Vec<Vec<u8>>,
    /// Ids that end the output.
    pub end_tokens: Vec<u32>,
}

/// A compiled constraint, positioned in an output.
pub struct ConstraintState {
    /// Follows the output from here on.
    pub matcher: Matcher,
    /// Tokens allowed next.
    pub allowed: TokenMask,
    /// What is not enforced, as sentences for the user.
    pub notes: Vec<String>,
}

/// Compiles constraints for one model. Clones share their state.
#[derive(Clone)]
pub struct Compiler(Arc<Inner>);

struct Inner {
    vocabulary: Box<dyn Fn() -> Vocabulary + Send + Sync>,
    /// Built for the first constraint: it takes half a second for 150,000 tokens.
    prepared: OnceLock<Result<Prepared, Diagnostic>>,
    running: Mutex<usize>,
    finished: Condvar,
}

struct Prepared {
    factory: ParserFactory,
    tokens: usize,
    end_tokens: TokenMask,
    /// Tokens without text, except those that end the output.
    special: Vec<u32>,
}

impl Compiler {
    /// Creates a compiler. `vocabulary` is called once, for the first constraint.
    pub fn new(vocabulary: impl Fn() -> Vocabulary + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            vocabulary: Box::new(vocabulary),
            prepared: OnceLock::new(),
            running: Mutex::new(0),
            finished: Condvar::new(),
        }))
    }

    /// Compiles a constraint and consumes the output so far, which must not contain end
    /// tokens. Blocks for at most 10 s.
    ///
    /// Errors: `INVALID_REQUEST` and `UNSUPPORTED_PARAMETER` about the field `constraint`, or
    /// `tools` for calls, or `continue_from` for tokens that are not allowed.
    pub fn compile(
        &self,
        constraint: impl Into<OutputConstraint>,
        output: &[u32],
    ) -> Result<ConstraintState, Diagnostic> {
        let constraint = constraint.into();
        let field = constraint.field();
        let state = self.compile_on_thread(constraint, output.to_vec());
        state.map_err(|error| error.rename_param(errors::PARAM, field))
    }

    /// Compiles on a thread with a stack that is large enough.
    fn compile_on_thread(
        &self,
        constraint: OutputConstraint,
        output: Vec<u32>,
    ) -> Result<ConstraintState, Diagnostic> {
        let deadline = Instant::now() + TIME_LIMIT;
        let permit = self.acquire(deadline)?;
        let compiler = self.clone();
        let (sender, receiver) = sync_channel(1);
        thread_builder("grammar")
            .spawn(move || {
                let _permit = permit;
                // After a timeout the receiver is gone.
                let _ = sender.send(compiler.0.compile(&constraint, &output));
            })
            .map_err(|e| errors::thread_not_started(&e))?;
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(state) => state,
            Err(RecvTimeoutError::Timeout) => Err(errors::compilation_timeout(TIME_LIMIT)),
            Err(RecvTimeoutError::Disconnected) => Err(errors::compiler_panicked()),
        }
    }

    /// Waits until another compilation may start.
    fn acquire(&self, deadline: Instant) -> Result<Permit, Diagnostic> {
        let running = self.0.running.lock();
        let (mut running, waited) = self
            .0
            .finished
            .wait_timeout_while(
                running.unwrap_or_else(PoisonError::into_inner),
                deadline.saturating_duration_since(Instant::now()),
                |running| *running >= MAX_COMPILATIONS,
            )
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(errors::compilation_timeout(TIME_LIMIT));
        }
        *running += 1;
        Ok(Permit(self.clone()))
    }
}

/// Permit of one compilation.
struct Permit(Compiler);

impl Drop for Permit {
    fn drop(&mut self) {
        let inner = &self.0.0;
        *inner.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        inner.finished.notify_one();
    }
}

impl Inner {
    fn compile(
        &self,
        constraint: &OutputConstraint,
        output: &[u32],
    ) -> Result<ConstraintState, Diagnostic> {
        // Errors that need no vocabulary are found without building it.
        if self.prepared.get().is_none() {
            grammar::build(constraint, &Lenience::default(), &[])?;
        }
        let prepared = self
            .prepared
            .get_or_init(|| Prepared::new((self.vocabulary)()))
            .as_ref()
            .map_err(Clone::clone)?;
        let (parser, notes) = prepared.compile(constraint)?;
        let inner = llguidance::Matcher::new(Ok(parser));
        let end_tokens = prepared.end_tokens.clone();
        let mut matcher = Matcher::new(inner, prepared.tokens, end_tokens, constraint.field());
        for token in output {
            matcher
                .accept(*token)
                .map_err(|_| errors::token_not_allowed(*token))?;
        }
        let allowed = matcher.allowed()?;
        Ok(ConstraintState {
            matcher,
            allowed,
            notes,
        })
    }
}

impl Prepared {
    /// Compiles a constraint. Returns what is not enforced as well.
    fn compile(
        &self,
        constraint: &OutputConstraint,
    ) -> Result<(TokenParser, Vec<String>), Diagnostic> {
        let build = |lenience: &Lenience| {
            let built = grammar::build(constraint, lenience, &self.special)?;
            Ok((self.parser(built.grammar)?, built.notes))
        };
        let error = match build(&Lenience::default()) {
            Ok(compiled) => return Ok(compiled),
            Err(error) => error,
        };
        let lenience = self.lenience(constraint, &error)?;
        if lenience == Lenience::default() {
            return Err(grammar::with_syntax_hint(error, constraint));
        }
        build(&lenience)
    }

    /// Returns what must not be enforced to avoid an error. A schema that must be enforced is an
    /// error that names its function.
    fn lenience(
        &self,
        constraint: &OutputConstraint,
        error: &Diagnostic,
    ) -> Result<Lenience, Diagnostic> {
        let mut lenience = Lenience::default();
        let functions = constraint.calls().map_or(&[][..], |calls| &calls.functions);
        for (nth, function) in functions.iter().enumerate() {
            let parser = |coerce| grammar::arguments(function, coerce).and_then(|g| self.parser(g));
            let Err(error) = parser(false) else {
                continue;
            };
            if function.strict {
                return Err(errors::in_function(error, &function.name));
            }
            if errors::is_one_of(&error) && parser(true).is_ok() {
                lenience.one_of.insert(nth);
            } else {
                let note = errors::any_arguments(&function.name, &error);
                lenience.any.insert(nth, note);
            }
        }
        let schema = matches!(
            constraint,
            OutputConstraint::Text(Constraint::JsonSchema(_))
                | OutputConstraint::Either(Constraint::JsonSchema(_), _)
        );
        lenience.text_one_of = schema && errors::is_one_of(error);
        Ok(lenience)
    }

    fn parser(&self, grammar: TopLevelGrammar) -> Result<TokenParser, Diagnostic> {
        self.factory
            .create_parser(grammar)
            .map_err(|error| errors::from_compilation(&format!("{error:#}")))
    }

    fn new(vocabulary: Vocabulary) -> Result<Self, Diagnostic> {
        let Vocabulary {
            mut tokens,
            end_tokens,
        } = vocabulary;
        let Some(first_end) = end_tokens.first().copied() else {
            return Err(errors::no_end_token());
        };
        // An end token ends the output, even if it has text.
        for id in &end_tokens {
            if let Some(token) = tokens.get_mut(*id as usize) {
                *token = [&[NO_TEXT], format!("<|end {id}|>").as_bytes()].concat();
            }
        }
        for token in tokens.iter_mut().filter(|t| t.len() > MAX_TOKEN_BYTES) {
            token.clear();
        }
        let special = (0..)
            .zip(&tokens)
            .filter(|(id, token)| token.is_empty() && !end_tokens.contains(id));
        let special = special.map(|(id, _)| id).collect();
        let size = u32::try_from(tokens.len()).map_err(errors::unusable_vocabulary)?;
        let trie = TokTrie::from(&TokRxInfo::new(size, first_end), &tokens);
        let trie = trie.with_eos_tokens(&end_tokens);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new_simple(&environment).map_err(errors::unusable_vocabulary)?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self {
            factory,
            tokens: tokens.len(),
            end_tokens: TokenMask::of(&end_tokens),
            special,
        })
    }
}
