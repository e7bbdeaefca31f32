//! A checked expression and its evaluation.

use std::sync::Arc;

use cel::common::ast::IdedExpr;
use cel::common::value::Val;
use cel::{Context, ExecutionError, Value as Cel};
use portcullis_model::Code;

use super::check::Walk;
use super::functions::ENV;
use super::limits::{EXPRESSION_BYTES_MAX, OPERATORS_MAX, PARSER_DEPTH_MAX, PARSER_RECOVERIES_MAX};
use super::plain::Test;
use super::slots::{Names, Slot};
use super::{Fault, Reads, Scope, TOO_MUCH, budget, syntax, types};

/// A checked expression.
#[derive(Clone)]
pub(super) struct Program {
    root: Arc<IdedExpr>,
    slots: Arc<[(Slot, bool)]>,
    /// What decides without the interpreter. Only in policies: filters have operators of their own.
    plain: Option<Arc<Test>>,
    /// Why its value is never true or false.
    never_bool: Option<Box<str>>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// Reads and checks a text.
    pub(super) fn compile(text: &str, names: Names<'_>) -> Result<(Self, Reads), Fault> {
        check_text(text)?;
        let parser = ENV
            .parser()
            .max_recursion_depth(PARSER_DEPTH_MAX)
            .error_recovery_limit(PARSER_RECOVERIES_MAX);
        let (parsed, source) = parser
            .parse_with_source_info(text)
            .map_err(|errors| syntax::fault_of(text, &errors.errors))?;
        let mut walk = Walk {
            names,
            source: &source,
            slots: Vec::new(),
            reads: Reads::default(),
            locals: Vec::new(),
            loops: 0,
        };
        let root = walk.walk(parsed, 0)?;
        let plain = match names {
            Names::Policy => Test::build(&root, &walk.slots).map(Arc::new),
            Names::Filter(_) => None,
        };
        let never_bool = types::never_bool(&root, &walk.slots).map(|(id, why)| {
            let is_whole = id == root.id;
            Box::from(if is_whole {
                why
            } else {
                walk.fault(id, why).message
            })
        });
        let program = Self {
            root: Arc::new(root),
            slots: walk.slots.into(),
            plain,
            never_bool,
        };
        Ok((program, walk.reads))
    }

    /// Why its value is never true or false, as far as that can be told.
    pub(super) fn never_bool(&self) -> Option<&str> {
        self.never_bool.as_deref()
    }

    /// Decides a condition without the interpreter; `None`: that has to.
    pub(super) fn decide(&self, scope: &Scope<'_>) -> Option<bool> {
        let plain = self.plain.as_ref()?;
        let before = budget::together();
        budget::start(0);
        let decided = if budget::is_spent() {
            None
        } else {
            plain.eval(scope)
        };
        if decided.is_none() || budget::is_spent() {
            // The interpreter begins anew, and says what is wrong.
            budget::back(before);
            return None;
        }
        decided
    }

    /// Evaluates, with the values of slots as they are looked up. The error is for people.
    pub(super) fn run(
        &self,
        seed: u64,
        look_up: impl Fn(&Slot, bool) -> Result<Cel, String>,
    ) -> Result<Cel, String> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        // A value that is missing matters only where the expression comes to it.
        let mut missing = None;
        // The values that are copied for it are part of what it costs.
        budget::start(seed);
        if budget::is_spent() {
            return Err(TOO_MUCH.to_owned());
        }
        for (number, (slot, test)) in self.slots.iter().enumerate() {
            match look_up(slot, *test) {
                Ok(value) => {
                    let value: Box<dyn Val> = value
                        .try_into()
                        .map_err(|error: ExecutionError| say(&error))?;
                    if budget::copied(value.as_ref()).is_err() {
                        return Err(TOO_MUCH.to_owned());
                    }
                    context.add_variable_as_val(Slot::name(number), value);
                }
                Err(why) => missing = Some(why),
            }
        }
        let value = Cel::resolve_val(&self.root, &context);
        if budget::is_spent() {
            return Err(TOO_MUCH.to_owned());
        }
        match value {
            Ok(value) => {
                budget::make(budget::bytes_of(value.as_ref())).map_err(|error| say(&error))?;
                Cel::try_from(value.as_ref()).map_err(|error| say(&error))
            }
            Err(ExecutionError::UndeclaredReference(name))
                if Slot::number(&name).is_some() && missing.is_some() =>
            {
                Err(missing.unwrap_or_default())
            }
            Err(error) => Err(say(&error)),
        }
    }
}

fn check_text(text: &str) -> Result<(), Fault> {
    let dear = |message| Fault {
        code: Code::PolicyCost,
        message,
    };
    if text.trim().is_empty() {
        return Err(Fault {
            code: Code::PolicyExpressions,
            message: "the expression is empty".to_owned(),
        });
    }
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(dear(format!(
            "an expression has at most {EXPRESSION_BYTES_MAX} bytes, this one has {}",
            text.len()
        )));
    }
    if operators(text) > OPERATORS_MAX {
        return Err(dear(format!(
            "an expression has at most {OPERATORS_MAX} operators, dots and brackets"
        )));
    }
    Ok(())
}

/// How many operators, dots and brackets there may be at the most; those within texts count, but for the dots
/// of addresses.
fn operators(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let signs = bytes.iter().enumerate().filter(|(at, byte)| match byte {
        b'.' => !(is_digit(at.checked_sub(1)) && is_digit(Some(at + 1))),
        byte => b"+-*/%!?([{<>=".contains(byte),
    });
    signs.count() + text.matches("in").count()
}

/// What a function of the interpreter says that fails. Its own message quotes what it was given, and that
/// may be a secret.
fn theirs(function: &str) -> String {
    match function {
        "duration" | "timestamp" | "timezone" => {
            format!("`{function}` was given a text that it cannot read")
        }
        _ => format!("`{function}` was given a value that it cannot use"),
    }
}

/// What went wrong, for people. Names types and never values or keys: they may be secrets.
fn say(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchOverload(call) => {
            let types = call.argument_types().join(", ");
            format!(
                "{} is not possible with ({types})",
                operator(call.function())
            )
        }
        ExecutionError::UnsupportedBinaryOperator(name, a, b) => {
            format!(
                "{name} is not possible with ({}, {})",
                a.type_of(),
                b.type_of()
            )
        }
        ExecutionError::ValuesNotComparable(a, b) => {
            format!("{} and {} cannot be compared", a.type_of(), b.type_of())
        }
        // The interpreter writes the value itself in some places; no type's name has brackets or quotes.
        ExecutionError::UnexpectedType { got, want } if is_type(got) => {
            format!("got {got}, not {want}")
        }
        ExecutionError::UnexpectedType { want, .. } => format!("a {want} is needed"),
        ExecutionError::NoSuchKey(_) => "there is no such key".to_owned(),
        ExecutionError::FunctionError { function, message } => {
            match function.strip_prefix(budget::OURS) {
                Some(function) => format!("{function}: {message}"),
                None => theirs(function),
            }
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_owned()
        }
        ExecutionError::Overflow(name, _, _) => format!("the result of {name} is too large"),
        ExecutionError::IndexOutOfBounds(_) => "there is no element at this index".to_owned(),
        ExecutionError::DuplicateKey(_) => "a map has a key twice".to_owned(),
        ExecutionError::UndeclaredReference(name) => format!("`{name}` is not known"),
        ExecutionError::UnsupportedKeyType(value) => {
            format!("a {} is no key of a map", value.type_of())
        }
        ExecutionError::UnsupportedIndex(index, of) => {
            format!("a {} is no index of a {}", index.type_of(), of.type_of())
        }
        _ => "it cannot be evaluated".to_owned(),
    }
}

/// Whether this can be the name of a type.
fn is_type(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}

/// An operator as people write it.
fn operator(name: &str) -> String {
    let bare = name.trim_matches(|c| c == '_' || c == '@');
    format!("`{}`", if bare == "[_]" { "[]" } else { bare })
}
