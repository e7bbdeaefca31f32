//! Texts with `${…}`.

use portcullis_model::Code;
use serde_json::Value;

use super::limits::{TEMPLATE_BYTES_MAX, TEMPLATE_PARTS_MAX, VALUE_BYTES_MAX};
use super::values::as_text;
use super::{Expr, Fault, Reads, Scope};

/// Text with `${…}`. One that is exactly one `${…}` keeps its value's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Expr(Expr),
}

impl Template {
    /// Checks and compiles.
    pub(crate) fn compile(text: &str) -> Result<Self, Fault> {
        if !text.contains("${") {
            return Ok(Self {
                parts: vec![Part::Text(text.to_owned())],
            });
        }
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(Fault {
                code: Code::PolicyCost,
                message: format!(
                    "a text with `${{…}}` has at most {TEMPLATE_BYTES_MAX} bytes, this one has {}",
                    text.len()
                ),
            });
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let at = text.get(..text.len() - from.len()).unwrap_or_default();
            let at = at.chars().count() + 1;
            let inner = from.get(2..).unwrap_or_default();
            let end = end_of(inner).ok_or_else(|| Fault {
                code: Code::PolicyExpressions,
                message: format!("the `${{` at character {at} is not closed by a `}}`"),
            })?;
            let expression = inner.get(..end).unwrap_or_default();
            parts.push(Part::Expr(Expr::compile(expression).map_err(|fault| {
                Fault {
                    code: fault.code,
                    message: format!("in the `${{…}}` at character {at}: {}", fault.message),
                }
            })?));
            if parts.len() > 2 * TEMPLATE_PARTS_MAX {
                return Err(Fault {
                    code: Code::PolicyCost,
                    message: format!("a text has at most {TEMPLATE_PARTS_MAX} `${{…}}`"),
                });
            }
            rest = inner.get(end + 1..).unwrap_or_default();
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The text, if nothing is to be evaluated.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Its value.
    pub(crate) fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        match self.parts.as_slice() {
            [Part::Expr(expr)] => expr.eval(scope),
            _ => self.eval_text(scope).map(Value::String),
        }
    }

    /// Its value as text: null is empty, lists and maps are JSON.
    pub(crate) fn eval_text(&self, scope: &Scope<'_>) -> Result<String, String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Expr(expr) => out.push_str(&as_text(&expr.eval(scope)?)),
            }
            if self.literal().is_none() && out.len() > VALUE_BYTES_MAX {
                return Err(format!("the text has more than {VALUE_BYTES_MAX} bytes"));
            }
        }
        Ok(out)
    }

    /// What its expressions name.
    pub(crate) fn reads(&self) -> Reads {
        let mut all = Reads::default();
        for part in &self.parts {
            if let Part::Expr(expr) = part {
                all.add(expr.reads());
            }
        }
        all
    }
}

/// Where the expression ends that begins here: at the `}` that closes none of its own braces and is in none
/// of its texts.
fn end_of(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if let Some(open) = quote {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if c == open => quote = None,
                _ => {}
            }
            continue;
        }
        match c {
            '\'' | '"' => quote = Some(c),
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}
