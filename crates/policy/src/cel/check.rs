//! Turns what the parser made of a text into what is evaluated: every variable becomes a numbered slot,
//! every function is known and bounded, every value that is handed on is weighed.
//!
//! What is wrong is said with its place in the text.

use cel::common::ast::operators as op;
use cel::common::ast::{
    CallExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, SelectExpr, SourceInfo,
};
use portcullis_model::Code;

use super::limits::{DEPTH_MAX, ELEMENTS_MAX};
use super::loops;
use super::slots::{Names, Slot};
use super::{Fault, Reads, functions, types};
use crate::suggest;

/// A variable with string keys: `req.headers['host']` is three of them.
pub(super) struct Path {
    pub(super) names: Vec<String>,
    /// It was asked with `has()`.
    pub(super) test: bool,
    /// A key was written in brackets.
    indexed: bool,
}

/// Names of types, as in `type(x) == string`.
const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// Operators whose operands are conditions: small, and not always evaluated.
const LOGIC: &[&str] = &[
    op::CONDITIONAL,
    op::LOGICAL_AND,
    op::LOGICAL_OR,
    op::LOGICAL_NOT,
    op::NOT_STRICTLY_FALSE,
];

/// The other operators.
const OPERATORS: &[&str] = &[
    op::SUBSTRACT,
    op::ADD,
    op::MULTIPLY,
    op::DIVIDE,
    op::MODULO,
    op::EQUALS,
    op::NOT_EQUALS,
    op::GREATER_EQUALS,
    op::LESS_EQUALS,
    op::GREATER,
    op::LESS,
    op::NEGATE,
    op::INDEX,
    op::IN,
];

/// One walk over an expression.
pub(super) struct Walk<'a> {
    pub(super) names: Names<'a>,
    pub(super) source: &'a SourceInfo,
    pub(super) slots: Vec<(Slot, bool)>,
    pub(super) reads: Reads,
    /// Variables of the macros around.
    pub(super) locals: Vec<String>,
    /// How many macros are around.
    pub(super) loops: usize,
}

impl Walk<'_> {
    /// A fault at the place of one node.
    pub(super) fn fault(&self, id: u64, message: impl Into<String>) -> Fault {
        self.fault_of(Code::PolicyExpressions, id, message.into())
    }

    /// A fault of cost at the place of one node.
    pub(super) fn dear(&self, id: u64, message: impl Into<String>) -> Fault {
        self.fault_of(Code::PolicyCost, id, message.into())
    }

    fn fault_of(&self, code: Code, id: u64, message: String) -> Fault {
        let place = self
            .source
            .offset_for(id)
            .map(|(start, _)| super::place(&self.source.source, start as usize));
        Fault {
            code,
            message: match place {
                Some(place) => format!("{place}: {message}"),
                None => message,
            },
        }
    }

    /// The expression as it is evaluated.
    pub(super) fn walk(&mut self, node: IdedExpr, depth: usize) -> Result<IdedExpr, Fault> {
        let id = node.id;
        if depth > DEPTH_MAX {
            return Err(self.dear(id, format!("nested more than {DEPTH_MAX} deep")));
        }
        if let Some(path) = path_of(&node)
            && !self.is_local(&path)
        {
            return self.variable(id, &path);
        }
        let expr = match node.expr {
            Expr::Literal(_) | Expr::Ident(_) => node.expr,
            Expr::Select(select) => Expr::Select(SelectExpr {
                operand: Box::new(self.walk(*select.operand, depth + 1)?),
                ..select
            }),
            Expr::List(list) => self.list(id, list, depth)?,
            Expr::Map(map) => self.map(id, map, depth)?,
            Expr::Call(call) => self.call(id, call, depth)?,
            Expr::Comprehension(comprehension) => self.comprehension(id, *comprehension, depth)?,
            Expr::Struct(_) => return Err(self.fault(id, "messages cannot be made here")),
            Expr::Unspecified => return Err(self.fault(id, "the expression is not complete")),
        };
        Ok(IdedExpr { id, expr })
    }

    /// A value that is handed on: walked, and weighed unless it is small for sure.
    pub(super) fn handed(&mut self, node: IdedExpr, depth: usize) -> Result<IdedExpr, Fault> {
        let node = self.walk(node, depth + 1)?;
        let is_small = match &node.expr {
            // The elements of a list or map that is written out were weighed.
            Expr::Literal(_) | Expr::List(_) | Expr::Map(_) => true,
            Expr::Ident(name) => {
                name == loops::RESULT
                    || Slot::number(name)
                        .and_then(|number| self.slots.get(number))
                        .is_some_and(|(slot, test)| *test || slot.is_small())
            }
            Expr::Call(call) => {
                LOGIC.contains(&call.func_name.as_str()) && call.func_name != op::CONDITIONAL
            }
            Expr::Select(select) => select.test,
            _ => false,
        };
        Ok(if is_small {
            node
        } else {
            call_of("@weigh", vec![node])
        })
    }

    fn handed_all(&mut self, nodes: Vec<IdedExpr>, depth: usize) -> Result<Vec<IdedExpr>, Fault> {
        nodes
            .into_iter()
            .map(|node| self.handed(node, depth))
            .collect()
    }

    fn is_local(&self, path: &Path) -> bool {
        path.names
            .first()
            .is_some_and(|root| root.starts_with('@') || self.locals.contains(root))
    }

    /// Whether `space.name(…)` is a function's whole name. A filter's field may be named as functions are.
    fn is_namespace(&self, space: &str, name: &str) -> bool {
        functions::is_namespace(space)
            && (!self.names.is_filter()
                || functions::arities(&format!("{space}.{name}"), false).is_some())
    }

    fn list(&mut self, id: u64, list: ListExpr, depth: usize) -> Result<Expr, Fault> {
        if list.elements.len() > ELEMENTS_MAX {
            return Err(self.dear(id, format!("a list has at most {ELEMENTS_MAX} elements")));
        }
        if !list.optional_indices.is_empty() {
            return Err(self.fault(id, "optional values are not possible here"));
        }
        Ok(Expr::List(ListExpr::new(
            self.handed_all(list.elements, depth)?,
        )))
    }

    fn map(&mut self, id: u64, mut map: MapExpr, depth: usize) -> Result<Expr, Fault> {
        if self.names.is_filter() {
            return Err(self.fault(id, "maps are not possible in a filter"));
        }
        for entry in &mut map.entries {
            let EntryExpr::MapEntry(entry) = &mut entry.expr else {
                return Err(self.fault(id, "messages cannot be made here"));
            };
            if entry.optional {
                return Err(self.fault(id, "optional values are not possible here"));
            }
            entry.key = self.handed(std::mem::take(&mut entry.key), depth)?;
            entry.value = self.handed(std::mem::take(&mut entry.value), depth)?;
        }
        Ok(Expr::Map(map))
    }

    fn call(&mut self, id: u64, call: CallExpr, depth: usize) -> Result<Expr, Fault> {
        let name = call.func_name.as_str();
        match &call.target {
            Some(target) => {
                let space = match path_of(target) {
                    Some(path) if path.names.len() == 1 && !path.test && !self.is_local(&path) => {
                        path.names.first().cloned()
                    }
                    _ => None,
                };
                match space.filter(|space| self.is_namespace(space, name)) {
                    Some(space) => {
                        let name = format!("{space}.{name}");
                        self.by_name(id, &name, call.args, depth)
                    }
                    None => self.on_value(id, call, depth),
                }
            }
            None if LOGIC.contains(&name) || OPERATORS.contains(&name) => {
                self.operator(id, call, depth)
            }
            None => {
                let name = name.to_owned();
                self.by_name(id, &name, call.args, depth)
            }
        }
    }

    fn operator(&mut self, id: u64, call: CallExpr, depth: usize) -> Result<Expr, Fault> {
        let func_name = match self.names.operator(&call.func_name) {
            Some(name) => name.to_owned(),
            None => {
                return Err(self.fault(
                    id,
                    "indexing, arithmetic and `? :` are not possible in a filter",
                ));
            }
        };
        let args = if LOGIC.contains(&func_name.as_str()) {
            let walk = |node| self.walk(node, depth + 1);
            call.args
                .into_iter()
                .map(walk)
                .collect::<Result<Vec<_>, _>>()?
        } else {
            self.handed_all(call.args, depth)?
        };
        // A filter compares moments with texts.
        if self.reads.mismatch.is_none() && !self.names.is_filter() {
            self.reads.mismatch = types::mismatch(&func_name, &args, &self.slots)
                .map(|why| self.fault(id, why).message);
        }
        Ok(Expr::Call(CallExpr {
            func_name,
            target: None,
            args,
        }))
    }

    fn on_value(&mut self, id: u64, call: CallExpr, depth: usize) -> Result<Expr, Fault> {
        let name = call.func_name;
        if name != loops::SORT_BY_KEYS {
            self.check_function(id, &name, true, &call.args)?;
        }
        let target = match call.target {
            Some(target) => Some(Box::new(self.handed(*target, depth)?)),
            None => None,
        };
        Ok(Expr::Call(CallExpr {
            func_name: functions::run_as(&name).to_owned(),
            target,
            args: self.handed_all(call.args, depth)?,
        }))
    }

    fn by_name(
        &mut self,
        id: u64,
        name: &str,
        args: Vec<IdedExpr>,
        depth: usize,
    ) -> Result<Expr, Fault> {
        self.check_function(id, name, false, &args)?;
        if name == "secrets.get" {
            let [vault, secret] = args.as_slice() else {
                return Err(self.fault(id, "`secrets.get` takes a vault and a name"));
            };
            let (Some(vault), Some(secret)) = (literal_text(vault), literal_text(secret)) else {
                return Err(self.fault(
                    id,
                    "`secrets.get` takes two texts that are written out, such as \
                     secrets.get('vault', 'name')",
                ));
            };
            let pair = (vault.to_owned(), secret.to_owned());
            if !self.reads.secrets.contains(&pair) {
                self.reads.secrets.push(pair.clone());
            }
            return Ok(self.slot(Slot::Secret(pair.0, pair.1), false));
        }
        if name == "inCidrRange" || name == "inCidrRanges" {
            self.note_networks(args.get(1));
        }
        if name == "lists.range"
            && let Some(Expr::Literal(LiteralValue::Int(wanted))) =
                args.first().map(|arg| &arg.expr)
            && usize::try_from(*wanted.inner()).is_ok_and(|wanted| wanted > ELEMENTS_MAX)
        {
            return Err(self.dear(id, format!("`lists.range` makes at most {ELEMENTS_MAX}")));
        }
        Ok(Expr::Call(CallExpr {
            func_name: functions::run_as(name).to_owned(),
            target: None,
            args: self.handed_all(args, depth)?,
        }))
    }

    /// Notes what is written out for a network and is none. The function passes it over.
    fn note_networks(&mut self, ranges: Option<&IdedExpr>) {
        let written = match ranges.map(|ranges| &ranges.expr) {
            Some(Expr::List(list)) => list.elements.as_slice(),
            Some(Expr::Literal(_)) => ranges.map_or(&[][..], std::slice::from_ref),
            _ => return,
        };
        for text in written.iter().filter_map(literal_text) {
            let is_told = self.reads.no_networks.iter().any(|known| known == text);
            if !is_told && functions::network(text).is_none() {
                self.reads.no_networks.push(text.to_owned());
            }
        }
    }

    /// Whether the function exists, in this form and with so many arguments.
    fn check_function(
        &self,
        id: u64,
        name: &str,
        on_value: bool,
        args: &[IdedExpr],
    ) -> Result<(), Fault> {
        let Some(arities) = functions::arities(name, on_value) else {
            let names = functions::names(on_value);
            let hint = match functions::arities(name, !on_value) {
                Some(_) if on_value => format!("; it is called as {name}(…)"),
                Some(_) => format!("; it is called on a value, as in x.{name}(…)"),
                None => hint(suggest::nearest(name, &names)),
            };
            return Err(self.fault(id, format!("`{name}` is no function{hint}")));
        };
        if !self.names.has_function(name) {
            return Err(self.fault(id, format!("`{name}` is not possible in a filter")));
        }
        if !arities.contains(&args.len()) {
            let takes: Vec<String> = arities.iter().map(usize::to_string).collect();
            return Err(self.fault(
                id,
                format!(
                    "`{name}` takes {} arguments, not {}",
                    takes.join(" or "),
                    args.len()
                ),
            ));
        }
        if name == "matches"
            && let Some(pattern) = args.last().and_then(literal_text)
        {
            functions::check_regex(pattern).map_err(|why| self.fault(id, why))?;
        }
        Ok(())
    }

    fn variable(&mut self, id: u64, path: &Path) -> Result<IdedExpr, Fault> {
        if self.names.is_filter() && path.indexed {
            return Err(self.fault(id, "indexing is not possible in a filter"));
        }
        if let [name] = path.names.as_slice()
            && TYPES.contains(&name.as_str())
            && !self.names.is_filter()
        {
            return Ok(IdedExpr {
                id,
                expr: Expr::Ident(name.clone()),
            });
        }
        let slot = self.names.find(path, &mut self.reads).map_err(|unknown| {
            let nearest = hint(unknown.nearest.as_deref());
            self.fault(id, format!("`{}` is no variable{nearest}", unknown.name))
        })?;
        let expr = self.slot(slot, path.test);
        Ok(IdedExpr { id, expr })
    }

    /// The name by which the interpreter finds the slot's value.
    fn slot(&mut self, slot: Slot, test: bool) -> Expr {
        let wanted = (slot, test);
        let number = match self.slots.iter().position(|known| *known == wanted) {
            Some(number) => number,
            None => {
                self.slots.push(wanted);
                self.slots.len() - 1
            }
        };
        Expr::Ident(Slot::name(number))
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// A call of one of our own functions.
pub(super) fn call_of(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr {
        id: 0,
        expr: Expr::Call(CallExpr {
            func_name: name.to_owned(),
            target: None,
            args,
        }),
    }
}

fn literal_text(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// The variable that a node spells.
pub(super) fn path_of(node: &IdedExpr) -> Option<Path> {
    let mut path = Path {
        names: Vec::new(),
        test: false,
        indexed: false,
    };
    let mut at = node;
    loop {
        match &at.expr {
            Expr::Ident(name) => {
                path.names.push(name.clone());
                path.names.reverse();
                return Some(path);
            }
            Expr::Select(select) => {
                if select.test {
                    if !path.names.is_empty() {
                        return None;
                    }
                    path.test = true;
                }
                path.names.push(select.field.clone());
                at = &select.operand;
            }
            Expr::Call(call) if call.func_name == op::INDEX && call.target.is_none() => {
                let [of, key] = call.args.as_slice() else {
                    return None;
                };
                path.names.push(literal_text(key)?.to_owned());
                path.indexed = true;
                at = of;
            }
            _ => return None,
        }
    }
}
