use std::collections::BTreeSet;

use brush_parser::{
    Parser, ParserOptions,
    ast::{
        AndOrList, Assignment, AssignmentName, AssignmentValue, Command, CommandPrefixOrSuffixItem,
        CompoundListItem, Program, SeparatorOperator, SimpleCommand, SourceLocation as _,
    },
};

use crate::{NeedsBash, PkgbuildError, Value, Variables, expand};

/// Largest PKGBUILD, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// Opening brackets and keywords at most: the parser is recursive.
const MAX_OPENING: usize = 2000;
/// Stack of the thread that parses, enough for `MAX_OPENING` in an unoptimized build.
const STACK: usize = 256 << 20;

/// A parsed PKGBUILD.
#[derive(Debug, Clone)]
pub struct Script {
    statements: Vec<Statement>,
    functions: BTreeSet<String>,
}

#[derive(Debug, Clone)]
enum Statement {
    Assign {
        line: usize,
        name: String,
        appends: bool,
        value: Assigned,
    },
    /// Anything else that can change values.
    Other(NeedsBash),
}

/// The words of an assignment, as they are in the file.
#[derive(Debug, Clone)]
enum Assigned {
    Text(String),
    List(Vec<String>),
}

impl Script {
    /// Parses a PKGBUILD.
    ///
    /// Errors: [`PkgbuildError::Syntax`], and [`PkgbuildError::TooComplex`] for a file beyond
    /// 64 KiB or with thousands of nested commands.
    pub fn parse(text: &[u8]) -> Result<Self, PkgbuildError> {
        let too_complex = |what: String| Err(PkgbuildError::TooComplex(what));
        if text.len() > MAX_BYTES {
            return too_complex(format!(
                "it has {} bytes, more than {MAX_BYTES}",
                text.len()
            ));
        }
        let text = std::str::from_utf8(text).map_err(|e| {
            PkgbuildError::Syntax(format!("not UTF-8 after byte {}", e.valid_up_to()))
        })?;
        if text.contains('\0') {
            return Err(PkgbuildError::Syntax("it contains a NUL byte".to_owned()));
        }
        if opening(text) > MAX_OPENING {
            return too_complex(format!(
                "it has more than {MAX_OPENING} brackets and blocks"
            ));
        }
        let text = text.to_owned();
        let thread = std::thread::Builder::new()
            .name("pkgbuild".to_owned())
            .stack_size(STACK)
            .spawn(move || parse(&text))
            .map_err(|e| PkgbuildError::TooComplex(format!("no thread to parse it: {e}")))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(PkgbuildError::Syntax("the parser failed".to_owned())))
    }

    /// Names of the functions that are defined, sorted.
    pub fn functions(&self) -> &BTreeSet<String> {
        &self.functions
    }

    /// Evaluates the assignments with these variables set before, exactly as bash would without
    /// an environment.
    ///
    /// Errors: all places that only bash can evaluate.
    pub fn evaluate(&self, preset: &Variables) -> Result<Variables, Vec<NeedsBash>> {
        let mut variables = preset.clone();
        let mut needs = Vec::new();
        for statement in &self.statements {
            let (line, name, appends, value) = match statement {
                Statement::Assign {
                    line,
                    name,
                    appends,
                    value,
                } => (*line, name, *appends, value),
                Statement::Other(need) => {
                    needs.push(need.clone());
                    continue;
                }
            };
            match assigned(value, &variables) {
                Ok(value) if appends => variables.append(name, value),
                Ok(value) => assign(&mut variables, name, value),
                Err(what) => needs.push(NeedsBash { line, what }),
            }
        }
        if needs.is_empty() {
            Ok(variables)
        } else {
            Err(needs)
        }
    }
}

impl Variables {
    /// Reads assignments as `declare -p` prints them, without `declare` and its options: one per
    /// line, with the elements of arrays as `[0]="…"`.
    ///
    /// Errors: [`PkgbuildError::Syntax`] for anything else. What bash prints is not trusted.
    pub fn from_declarations(text: &[u8]) -> Result<Self, PkgbuildError> {
        let script = Script::parse(text)?;
        if !script.functions().is_empty() {
            return Err(PkgbuildError::Syntax("not a list of values".to_owned()));
        }
        script.evaluate(&Self::default()).map_err(|needs| {
            let first = needs.first().map(NeedsBash::to_string);
            PkgbuildError::Syntax(format!(
                "not a list of values: {}",
                first.unwrap_or_default()
            ))
        })
    }
}

/// An assignment of a scalar to an array sets its first element.
fn assign(variables: &mut Variables, name: &str, value: Value) {
    let value = match (variables.get(name), value) {
        (Some(Value::List(old)), Value::Text(text)) => {
            let rest = old.iter().skip(1).cloned();
            Value::List(std::iter::once(text).chain(rest).collect())
        }
        (_, value) => value,
    };
    variables.set(name, value);
}

fn assigned(value: &Assigned, variables: &Variables) -> Result<Value, &'static str> {
    Ok(match value {
        Assigned::Text(word) => Value::Text(expand::text(word, variables)?),
        Assigned::List(words) => {
            let mut list = Vec::with_capacity(words.len());
            for word in words {
                list.extend(expand::words(word, variables)?);
            }
            Value::List(list)
        }
    })
}

/// Upper limit of the depth to which commands are nested.
fn opening(text: &str) -> usize {
    const KEYWORDS: [&str; 8] = ["if", "elif", "for", "while", "until", "case", "select", "!"];
    let brackets = text
        .bytes()
        .filter(|b| matches!(b, b'(' | b'{' | b'[' | b'`'));
    let words = text.split(|c: char| c.is_whitespace() || c == ';' || c == '&' || c == '|');
    brackets.count() + words.filter(|word| KEYWORDS.contains(word)).count()
}

fn parse(text: &str) -> Result<Script, PkgbuildError> {
    let mut parser = Parser::new(text.as_bytes(), &ParserOptions::default());
    let Program { complete_commands } = parser
        .parse_program()
        .map_err(|e| PkgbuildError::Syntax(e.to_string()))?;
    let mut script = Script {
        statements: Vec::new(),
        functions: BTreeSet::new(),
    };
    for CompoundListItem(list, separator) in complete_commands.iter().flat_map(|list| &list.0) {
        let line = list.location().map_or(0, |span| span.start.line);
        match (only_command(list), separator) {
            (Some(command), SeparatorOperator::Sequence) => script.add(command, line),
            _ => script.other(line, "several commands in one statement"),
        }
    }
    Ok(script)
}

/// The command of a list without pipes, conditions and negations.
fn only_command(list: &AndOrList) -> Option<&Command> {
    let pipeline = &list.first;
    let is_plain = list.additional.is_empty() && !pipeline.bang && pipeline.timed.is_none();
    match pipeline.seq.as_slice() {
        [command] if is_plain => Some(command),
        _ => None,
    }
}

impl Script {
    fn other(&mut self, line: usize, what: &'static str) {
        self.statements
            .push(Statement::Other(NeedsBash { line, what }));
    }

    fn add(&mut self, command: &Command, line: usize) {
        match command {
            Command::Simple(command) => self.simple(command, line),
            Command::Function(function) => {
                self.functions.insert(function.fname.value.clone());
            }
            Command::Compound(..) => self.other(line, "a compound command"),
            Command::ExtendedTest(..) => self.other(line, "a test"),
        }
    }

    fn simple(&mut self, command: &SimpleCommand, line: usize) {
        if let Some(name) = &command.word_or_name {
            // `true` and `:` without redirections do nothing.
            let does_nothing = matches!(name.value.as_str(), "true" | ":")
                && command.prefix.is_none()
                && command.suffix.is_none();
            if !does_nothing {
                self.other(line, "a command");
            }
            return;
        }
        for item in command.prefix.iter().flat_map(|prefix| &prefix.0) {
            match item {
                CommandPrefixOrSuffixItem::AssignmentWord(assignment, _) => self.assign(assignment),
                _ => self.other(line, "a redirection"),
            }
        }
    }

    fn assign(&mut self, assignment: &Assignment) {
        let line = assignment.loc.start.line;
        let AssignmentName::VariableName(name) = &assignment.name else {
            return self.other(line, "an assignment to an element of an array");
        };
        if name == "IFS" {
            return self.other(line, "an assignment to IFS");
        }
        let value = match &assignment.value {
            AssignmentValue::Scalar(word) => Assigned::Text(word.value.clone()),
            AssignmentValue::Array(elements) => {
                let in_order = elements.iter().enumerate().all(|(n, (index, _))| {
                    index
                        .as_ref()
                        .is_none_or(|index| index.value == n.to_string())
                });
                if !in_order
                    || (assignment.append && elements.iter().any(|(index, _)| index.is_some()))
                {
                    return self.other(line, "an array with indices");
                }
                Assigned::List(
                    elements
                        .iter()
                        .map(|(_, word)| word.value.clone())
                        .collect(),
                )
            }
        };
        self.statements.push(Statement::Assign {
            line,
            name: name.clone(),
            appends: assignment.append,
            value,
        });
    }
}
