//! The plain form of a condition: comparisons of variables with what is written out, decided without the
//! interpreter and without allocation.
//!
//! It is built from the checked expression (`build`) and asks for the values of variables only where it comes
//! to them (`seen`). Whatever it does not know, and every error, is [`None`]: then the interpreter evaluates
//! the whole expression, as if nothing had been tried. So there is one meaning of every expression, and one
//! text of every error. `a && b` is decided here where `a` is false,
//! even if only the interpreter knows `b`.
//!
//! Must never: decide what the interpreter would not, or cost more units than it.

mod build;
mod seen;

use std::cmp::Ordering;
use std::net::IpAddr;

use super::slots::{self, Slot};
use super::{Scope, budget, functions};
use crate::cidr::CidrSet;

use seen::Variable;
use seen::{Seen, Side};

/// A condition.
#[derive(Debug, Clone)]
pub(super) enum Test {
    Is(bool),
    /// A variable that is a bool.
    Variable(Variable),
    /// `has()` of a text or list.
    Holds(Variable),
    /// `has()` of anything else.
    Asked(Slot),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    If(Box<[Self; 3]>),
    /// Whether two conditions are the same.
    Same(Box<Self>, Box<Self>),
    Ints(Compare, Int, Int),
    Texts(Compare, Text, Text),
    /// Whether the text of an address is this one's; `None`: no address is written so.
    Address(Side, Option<IpAddr>),
    /// Sorted.
    AddressIn(Side, Box<[IpAddr]>),
    /// Sorted.
    IntIn(Int, Box<[i64]>),
    /// Sorted.
    TextIn(Text, Box<[Box<str>]>),
    /// Whether a list of texts has this one.
    Member(Text, Variable),
    Starts(Text, Text),
    Ends(Text, Text),
    Contains(Text, Text),
    Matches(Text, Box<str>),
    InRanges(Text, CidrSet),
    Private(Text),
    /// Only the interpreter can tell.
    Unknown,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Compare {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    fn holds_texts(self, a: &str, b: &str) -> bool {
        match self {
            // Different lengths tell at once.
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            _ => self.holds(a.cmp(b)),
        }
    }
}

/// A number.
#[derive(Debug, Clone)]
pub(super) enum Int {
    Is(i64),
    Variable(Variable),
    Negated(Box<Self>),
    Made(Arithmetic, Box<Self>, Box<Self>),
}

/// What makes a number of two.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A text.
#[derive(Debug, Clone)]
pub(super) enum Text {
    Is(Box<str>),
    Variable(Variable),
}

impl Test {
    /// Whether it may decide anything.
    fn may_decide(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Not(inner) => inner.may_decide(),
            Self::And(a, _) | Self::Or(a, _) => a.may_decide(),
            Self::Same(a, b) => a.may_decide() && b.may_decide(),
            Self::If(parts) => {
                let [condition, yes, no] = &**parts;
                condition.may_decide() && (yes.may_decide() || no.may_decide())
            }
            _ => true,
        }
    }

    /// Whether it holds; `None`: the interpreter has to tell.
    pub(super) fn eval(&self, scope: &Scope<'_>) -> Option<bool> {
        match self {
            Self::Is(is) => Some(*is),
            Self::Variable(variable) => variable.bool(scope),
            Self::Holds(variable) => variable.holds(scope),
            Self::Asked(slot) => match slots::look_up(slot, true, scope) {
                Ok(cel::Value::Bool(is)) => Some(is),
                _ => None,
            },
            Self::Not(inner) => inner.eval(scope).map(|is| !is),
            Self::And(a, b) => either(false, a, b, scope),
            Self::Or(a, b) => either(true, a, b, scope),
            Self::If(parts) => {
                let [condition, yes, no] = &**parts;
                if condition.eval(scope)? { yes } else { no }.eval(scope)
            }
            Self::Same(a, b) => Some(a.eval(scope)? == b.eval(scope)?),
            Self::Ints(compare, a, b) => Some(compare.holds(a.eval(scope)?.cmp(&b.eval(scope)?))),
            Self::IntIn(int, list) => Some(list.binary_search(&int.eval(scope)?).is_ok()),
            Self::Address(side, ip) => Some(*ip == Some(side.ip(scope))),
            Self::AddressIn(side, list) => Some(list.binary_search(&side.ip(scope)).is_ok()),
            Self::Unknown => None,
            text => text.eval_text(scope),
        }
    }

    /// The same, of texts.
    fn eval_text(&self, scope: &Scope<'_>) -> Option<bool> {
        let two = |a: &Text, b: &Text, is: fn(&str, &str) -> bool| {
            Some(is(a.seen(scope)?.as_str(), b.seen(scope)?.as_str()))
        };
        match self {
            Self::Texts(compare, a, b) => {
                Some(compare.holds_texts(a.seen(scope)?.as_str(), b.seen(scope)?.as_str()))
            }
            Self::TextIn(text, list) => {
                let text = text.seen(scope)?;
                let found = list.binary_search_by(|one| (**one).cmp(text.as_str()));
                Some(found.is_ok())
            }
            Self::Member(text, list) => list.has(text.seen(scope)?.as_str(), scope),
            Self::Starts(text, start) => two(text, start, |a, b| a.starts_with(b)),
            Self::Ends(text, end) => two(text, end, |a, b| a.ends_with(b)),
            Self::Contains(text, part) => two(text, part, |a, b| a.contains(b)),
            Self::Matches(text, pattern) => {
                functions::matches_kept(text.seen(scope)?.as_str(), pattern)
            }
            Self::InRanges(text, ranges) => Some(match text.address(scope)? {
                Some(ip) => ranges.contains(ip),
                None => false,
            }),
            Self::Private(text) => Some(functions::is_private_address(text.address(scope)?)),
            _ => None,
        }
    }
}

/// `&&` (decided by false) and `||` (decided by true). That the second may decide where the first fails is left
/// to the interpreter: nothing is looked at here that it would not look at.
fn either(decides: bool, a: &Test, b: &Test, scope: &Scope<'_>) -> Option<bool> {
    if a.eval(scope)? == decides {
        return Some(decides);
    }
    b.eval(scope)
}

impl Int {
    fn eval(&self, scope: &Scope<'_>) -> Option<i64> {
        match self {
            Self::Is(n) => Some(*n),
            Self::Variable(variable) => variable.int(scope),
            Self::Negated(inner) => inner.eval(scope)?.checked_neg(),
            Self::Made(how, a, b) => {
                let (a, b) = (a.eval(scope)?, b.eval(scope)?);
                match how {
                    Arithmetic::Add => a.checked_add(b),
                    Arithmetic::Subtract => a.checked_sub(b),
                    Arithmetic::Multiply => a.checked_mul(b),
                    Arithmetic::Divide => a.checked_div(b),
                    Arithmetic::Remainder => a.checked_rem(b),
                }
            }
        }
    }
}

impl Text {
    fn seen<'a>(&'a self, scope: &Scope<'a>) -> Option<Seen<'a>> {
        match self {
            Self::Is(text) => Some(Seen::Text(text)),
            Self::Variable(variable) => {
                let seen = variable.text(scope)?;
                if variable.is_long() {
                    budget::pass(seen.as_str().len()).ok()?;
                }
                Some(seen)
            }
        }
    }

    /// The address that it spells, if any.
    fn address(&self, scope: &Scope<'_>) -> Option<Option<IpAddr>> {
        if let Self::Variable(variable) = self
            && let Some(side) = variable.side()
        {
            return Some(Some(side.ip(scope)));
        }
        Some(functions::address(self.seen(scope)?.as_str()))
    }
}
