//! Expressions: CEL, with the variables and functions of ngrok's Traffic Policy.
//!
//! A text is compiled once: parsed by the crate `cel`, checked and rewritten here (`check`), so that every
//! name is known, every cost has a bound (`budget`) and nothing needs a clock, a generator or a name
//! resolver. Evaluating it asks for the values of its variables first (`slots`, `paths`), then interprets.

mod budget;
mod certificates;
mod check;
mod filter;
mod functions;
mod known;
mod limits;
mod loops;
mod paths;
mod plain;
mod program;
mod slots;
mod syntax;
mod template;
mod types;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_model::Code;
use serde_json::Value;

use crate::run::Facts;
use crate::world::World;
use program::Program;
use slots::Names;

pub(crate) use budget::{charge, within};
pub use filter::Filter;
pub(crate) use template::Template;

/// What an evaluation says that cost too much.
pub(crate) const TOO_MUCH: &str = "the evaluation costs more than one connection may";

/// What names mean while one connection is decided.
pub(crate) struct Scope<'a> {
    /// Of the connection.
    pub(crate) facts: &'a Facts<'a>,
    /// Answers of the world.
    pub(crate) world: &'a dyn World,
    /// `vars.*`.
    pub(crate) vars: &'a BTreeMap<String, Value>,
    /// The tree under `actions.ngrok`: an object, such as `{"restrict_ips":{"action":"deny"}}`.
    pub(crate) outputs: &'a Value,
}

/// What an expression names: decides what must be read before it can be evaluated. And what can be told of it
/// at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// `req.*`
    pub(crate) request: bool,
    /// `conn.protocol`, `conn.sni`, `conn.alpn`, `conn.http.*`, `conn.minecraft.*`
    pub(crate) first: bool,
    /// `conn.tls.*`, but for `conn.tls.sni`
    pub(crate) tls: bool,
    /// Vault and name of `secrets.get`.
    pub(crate) secrets: Vec<(String, String)>,
    /// Names below `vars`.
    pub(crate) vars: Vec<String>,
    /// `vars` as a whole: any of them.
    pub(crate) all_vars: bool,
    /// What `rate-limit` leaves of its key under `actions.ngrok`.
    pub(crate) limit_key: bool,
    /// The first comparison that can never be, with its place.
    pub(crate) mismatch: Option<String>,
    /// Texts for `inCidrRange(s)` that are no networks.
    pub(crate) no_networks: Vec<String>,
}

impl Reads {
    /// Adds what another names.
    fn add(&mut self, other: &Self) {
        self.request |= other.request;
        self.first |= other.first;
        self.tls |= other.tls;
        self.all_vars |= other.all_vars;
        self.limit_key |= other.limit_key;
        for secret in &other.secrets {
            if !self.secrets.contains(secret) {
                self.secrets.push(secret.clone());
            }
        }
        for var in &other.vars {
            if !self.vars.contains(var) {
                self.vars.push(var.clone());
            }
        }
        if self.mismatch.is_none() {
            self.mismatch.clone_from(&other.mismatch);
        }
        for text in &other.no_networks {
            if !self.no_networks.contains(text) {
                self.no_networks.push(text.clone());
            }
        }
    }
}

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `PolicyExpressions` or `PolicyCost`.
    pub(crate) code: Code,
    /// For people, with the place in the text.
    pub(crate) message: String,
}

/// A compiled expression. Equal to another by its text, and one with all that have it.
#[derive(Debug, Clone)]
pub(crate) struct Expr(Arc<Compiled>);

/// What a text was compiled to.
#[derive(Debug)]
struct Compiled {
    text: String,
    program: Program,
    reads: Reads,
    /// Tells the random numbers of different expressions apart.
    salt: u64,
}

impl Compiled {
    fn compile(text: &str) -> Result<Self, Fault> {
        let (program, reads) = Program::compile(text, Names::Policy)?;
        Ok(Self {
            text: text.to_owned(),
            program,
            reads,
            salt: xxhash_rust::xxh64::xxh64(text.as_bytes(), 0),
        })
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Expr {}

impl Expr {
    /// Checks and compiles.
    pub(crate) fn compile(text: &str) -> Result<Self, Fault> {
        known::compiled(text).map(Self)
    }

    /// Its text.
    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }

    /// Evaluates. The error is for people.
    pub(crate) fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        values::to_json(&self.value(scope)?)
    }

    /// Evaluates; what is not a bool is an error.
    pub(crate) fn eval_bool(&self, scope: &Scope<'_>) -> Result<bool, String> {
        match self.0.program.decide(scope) {
            Some(is) => Ok(is),
            None => self.interpret_bool(scope),
        }
    }

    /// The same by the interpreter alone.
    fn interpret_bool(&self, scope: &Scope<'_>) -> Result<bool, String> {
        match self.value(scope)? {
            cel::Value::Bool(is) => Ok(is),
            other => Err(format!(
                "its value is of type {}, not bool",
                other.type_of()
            )),
        }
    }

    fn value(&self, scope: &Scope<'_>) -> Result<cel::Value, String> {
        let seed = budget::mix(scope.facts.random ^ self.0.salt);
        self.0
            .program
            .run(seed, |slot, test| slots::look_up(slot, test, scope))
    }

    /// Why its value is never true or false.
    pub(crate) fn never_bool(&self) -> Option<&str> {
        self.0.program.never_bool()
    }

    /// What it names.
    pub(crate) fn reads(&self) -> &Reads {
        &self.0.reads
    }
}

/// A place in a text for people, by its byte.
fn place(text: &str, byte: usize) -> String {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = text.get(..byte).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let character = before.get(start..).unwrap_or_default().chars().count() + 1;
    spelled(text, line, character)
}

/// A place in a text for people, by the parser's line and column.
fn place_at(text: &str, line: isize, column: isize) -> String {
    let number = |n: isize| usize::try_from(n).unwrap_or(1).max(1);
    spelled(text, number(line), number(column))
}

fn spelled(text: &str, line: usize, character: usize) -> String {
    if text.contains('\n') {
        format!("line {line}, character {character}")
    } else {
        format!("character {character}")
    }
}
