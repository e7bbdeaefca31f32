//! Builds the plain form from a checked expression.

use std::net::IpAddr;

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};

use super::super::functions;
use super::super::paths::Kind;
use super::super::slots::Slot;
use super::{Arithmetic, Compare, Int, Test, Text, Variable};

/// The slots that an expression names, and whether `has()` asks for them.
type Slots = [(Slot, bool)];

impl Test {
    /// The plain form; `None`: there is nothing that it could decide.
    pub(in super::super) fn build(root: &IdedExpr, slots: &Slots) -> Option<Self> {
        let test = Builder { slots }.test(root);
        test.may_decide().then_some(test)
    }
}

struct Builder<'a> {
    slots: &'a Slots,
}

/// The value behind what weighs it.
fn bare(node: &IdedExpr) -> &IdedExpr {
    match &node.expr {
        Expr::Call(call) if call.func_name == "@weigh" => match call.args.as_slice() {
            [inner] => inner,
            _ => node,
        },
        _ => node,
    }
}

fn compare_of(name: &str) -> Option<Compare> {
    Some(match name {
        op::EQUALS => Compare::Equal,
        op::NOT_EQUALS => Compare::NotEqual,
        op::LESS => Compare::Less,
        op::LESS_EQUALS => Compare::LessOrEqual,
        op::GREATER => Compare::Greater,
        op::GREATER_EQUALS => Compare::GreaterOrEqual,
        _ => return None,
    })
}

fn arithmetic_of(name: &str) -> Option<Arithmetic> {
    Some(match name {
        op::ADD => Arithmetic::Add,
        op::SUBSTRACT => Arithmetic::Subtract,
        op::MULTIPLY => Arithmetic::Multiply,
        op::DIVIDE => Arithmetic::Divide,
        op::MODULO => Arithmetic::Remainder,
        _ => return None,
    })
}

impl Builder<'_> {
    fn slot(&self, node: &IdedExpr) -> Option<&(Slot, bool)> {
        match &bare(node).expr {
            Expr::Ident(name) => self.slots.get(Slot::number(name)?),
            _ => None,
        }
    }

    /// A variable's value, of one kind.
    fn variable(&self, node: &IdedExpr, kind: Kind) -> Option<Variable> {
        let (slot, asked) = self.slot(node)?;
        let variable = Variable::of(slot)?;
        (!asked && variable.kind() == kind).then_some(variable)
    }

    fn int(&self, node: &IdedExpr) -> Option<Int> {
        match &bare(node).expr {
            Expr::Literal(LiteralValue::Int(n)) => Some(Int::Is(*n.inner())),
            Expr::Ident(_) => self.variable(node, Kind::Int).map(Int::Variable),
            Expr::Call(call) if call.target.is_none() => match call.args.as_slice() {
                [inner] if call.func_name == op::NEGATE => {
                    Some(Int::Negated(Box::new(self.int(inner)?)))
                }
                [a, b] => Some(Int::Made(
                    arithmetic_of(&call.func_name)?,
                    Box::new(self.int(a)?),
                    Box::new(self.int(b)?),
                )),
                _ => None,
            },
            _ => None,
        }
    }

    fn text(&self, node: &IdedExpr) -> Option<Text> {
        match literal_text(node) {
            Some(text) => Some(Text::Is(text.into())),
            None => self.variable(node, Kind::Text).map(Text::Variable),
        }
    }

    fn test(&self, node: &IdedExpr) -> Test {
        self.known(node).unwrap_or(Test::Unknown)
    }

    fn known(&self, node: &IdedExpr) -> Option<Test> {
        match &bare(node).expr {
            Expr::Literal(LiteralValue::Boolean(is)) => Some(Test::Is(*is.inner())),
            Expr::Ident(_) => match self.slot(node)? {
                (slot, true) => Some(asked(slot)),
                (_, false) => self.variable(node, Kind::Bool).map(Test::Variable),
            },
            Expr::Call(call) => match &call.target {
                Some(target) => self.on_text(target, call),
                None => self.call(call),
            },
            _ => None,
        }
    }

    fn call(&self, call: &CallExpr) -> Option<Test> {
        let boxed = |node| Box::new(self.test(node));
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (op::LOGICAL_NOT, [inner]) => Some(Test::Not(boxed(inner))),
            (op::LOGICAL_AND, [a, b]) => Some(Test::And(boxed(a), boxed(b))),
            (op::LOGICAL_OR, [a, b]) => Some(Test::Or(boxed(a), boxed(b))),
            (op::CONDITIONAL, [condition, yes, no]) => Some(Test::If(Box::new([
                self.test(condition),
                self.test(yes),
                self.test(no),
            ]))),
            (op::IN, [element, list]) => self.is_in(element, list),
            ("inCidrRange", [ip, range]) => Some(Test::InRanges(
                self.text(ip)?,
                functions::network(literal_text(range)?)
                    .into_iter()
                    .collect(),
            )),
            ("inCidrRanges", [ip, ranges]) => {
                let ranges = texts(ranges)?.into_iter();
                let known = ranges.filter_map(functions::network);
                Some(Test::InRanges(self.text(ip)?, known.collect()))
            }
            ("matches", [text, pattern]) => Some(Test::Matches(
                self.text(text)?,
                literal_text(pattern)?.into(),
            )),
            (_, [a, b]) => self.compared(compare_of(name)?, a, b),
            _ => None,
        }
    }

    fn on_text(&self, target: &IdedExpr, call: &CallExpr) -> Option<Test> {
        let text = self.text(target)?;
        Some(match (call.func_name.as_str(), call.args.as_slice()) {
            ("startsWith", [start]) => Test::Starts(text, self.text(start)?),
            ("endsWith", [end]) => Test::Ends(text, self.text(end)?),
            ("contains", [part]) => Test::Contains(text, self.text(part)?),
            ("matches", [pattern]) => Test::Matches(text, literal_text(pattern)?.into()),
            ("isPrivateIp", []) => Test::Private(text),
            _ => return None,
        })
    }

    fn compared(&self, compare: Compare, a: &IdedExpr, b: &IdedExpr) -> Option<Test> {
        if let (Some(a), Some(b)) = (self.text(a), self.text(b)) {
            return Some(compared_texts(compare, a, b));
        }
        if let (Some(a), Some(b)) = (self.int(a), self.int(b)) {
            return Some(Test::Ints(compare, a, b));
        }
        let (a, b) = (Box::new(self.known(a)?), Box::new(self.known(b)?));
        match compare {
            Compare::Equal => Some(Test::Same(a, b)),
            Compare::NotEqual => Some(Test::Not(Box::new(Test::Same(a, b)))),
            _ => None,
        }
    }

    fn is_in(&self, element: &IdedExpr, list: &IdedExpr) -> Option<Test> {
        if let Some(list) = self.variable(list, Kind::Texts) {
            return Some(Test::Member(self.text(element)?, list));
        }
        if let (Some(text), Some(mut known)) = (self.text(element), texts(list)) {
            if let Text::Variable(variable) = &text
                && let Some(side) = variable.side()
            {
                let mut known: Vec<IpAddr> = known.into_iter().filter_map(spelled).collect();
                known.sort_unstable();
                return Some(Test::AddressIn(side, known.into()));
            }
            known.sort_unstable();
            let known: Vec<Box<str>> = known.into_iter().map(Box::from).collect();
            return Some(Test::TextIn(text, known.into()));
        }
        let mut known = ints(list)?;
        known.sort_unstable();
        Some(Test::IntIn(self.int(element)?, known.into()))
    }
}

fn asked(slot: &Slot) -> Test {
    match Variable::of(slot) {
        Some(variable) => match variable.kind() {
            Kind::Text | Kind::Texts => Test::Holds(variable),
            // Numbers, moments and the like are always there.
            Kind::Int | Kind::Bool | Kind::Time => Test::Is(true),
            Kind::Headers | Kind::Maps => Test::Asked(slot.clone()),
        },
        None => Test::Asked(slot.clone()),
    }
}

/// The address that has exactly this text.
fn spelled(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    (ip.to_string() == text).then_some(ip)
}

fn compared_texts(compare: Compare, a: Text, b: Text) -> Test {
    let address = match (&a, &b) {
        (Text::Variable(variable), Text::Is(text)) | (Text::Is(text), Text::Variable(variable)) => {
            variable.side().map(|side| (side, spelled(text)))
        }
        _ => None,
    };
    match (compare, address) {
        (Compare::Equal, Some((side, ip))) => Test::Address(side, ip),
        (Compare::NotEqual, Some((side, ip))) => Test::Not(Box::new(Test::Address(side, ip))),
        _ => Test::Texts(compare, a, b),
    }
}

fn literal_text(node: &IdedExpr) -> Option<&str> {
    match &bare(node).expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// A list that is written out and has nothing but texts.
fn texts(node: &IdedExpr) -> Option<Vec<&str>> {
    match &bare(node).expr {
        Expr::List(list) => list.elements.iter().map(literal_text).collect(),
        _ => None,
    }
}

/// A list that is written out and has nothing but numbers.
fn ints(node: &IdedExpr) -> Option<Vec<i64>> {
    let Expr::List(list) = &bare(node).expr else {
        return None;
    };
    let int = |node: &IdedExpr| match &bare(node).expr {
        Expr::Literal(LiteralValue::Int(n)) => Some(*n.inner()),
        _ => None,
    };
    list.elements.iter().map(int).collect()
}
