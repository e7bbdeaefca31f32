//! What can be told of an expression without a connection: of which type its value always is, and which
//! comparisons can never be.
//!
//! Must never: guess. What may be of several types has none here.

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};

use super::loops::SORT_BY_KEYS;
use super::paths::{self, Kind};
use super::slots::Slot;
use crate::document::quoted;

/// The slots of an expression, each with whether `has()` asks for it.
type Slots<'a> = &'a [(Slot, bool)];

/// What a value always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Bool,
    Number,
    Text,
    Bytes,
    Null,
    List,
    Map,
    Time,
    Duration,
    /// One of several, none of which is a bool.
    Other,
}

impl Type {
    fn what(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Null => "null",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Time => "a time",
            Self::Duration => "a duration",
            Self::Other => "something else",
        }
    }
}

impl From<Kind> for Type {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Int => Self::Number,
            Kind::Bool => Self::Bool,
            Kind::Texts | Kind::Maps => Self::List,
            Kind::Headers => Self::Map,
            Kind::Time => Self::Time,
        }
    }
}

/// The node for which a condition can never be true or false, and why.
pub(super) fn never_bool(node: &IdedExpr, slots: Slots<'_>) -> Option<(u64, String)> {
    if let Expr::Call(call) = &node.expr
        && [op::LOGICAL_AND, op::LOGICAL_OR, op::LOGICAL_NOT].contains(&call.func_name.as_str())
    {
        return call.args.iter().find_map(|arg| never_bool(arg, slots));
    }
    let is = of(node, slots).filter(|is| *is != Type::Bool)?;
    let what = match is {
        Type::Other => "never is".to_owned(),
        is => format!("is always {}", is.what()),
    };
    let is_word = matches!(&node.expr, Expr::Literal(LiteralValue::String(text)) if ["true", "false"].contains(&text.inner()));
    let advice = match (is, variable(node, slots)) {
        _ if is_word => "write it without quotes".to_owned(),
        (Type::Text, Some((name, _))) => format!("write such as `{name} == '…'`"),
        (Type::Number, Some((name, _))) => format!("write such as `{name} == 1`"),
        (Type::List, Some((name, _))) => format!("write such as `'…' in {name}`"),
        _ => "compare it with something".to_owned(),
    };
    let message = format!("a rule's expression is true or false, and this {what}; {advice}");
    Some((node.id, message))
}

/// What is wrong with an operator between a variable and what is written out: they are never of one type.
pub(super) fn mismatch(operator: &str, args: &[IdedExpr], slots: Slots<'_>) -> Option<String> {
    let [a, b] = args else {
        return None;
    };
    let (a, b) = (bare(a), bare(b));
    let is_ordered = match operator {
        op::IN => return within(a, b, slots),
        op::EQUALS | op::NOT_EQUALS => false,
        op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS => true,
        _ => return None,
    };
    compared(a, b, is_ordered, slots).or_else(|| compared(b, a, is_ordered, slots))
}

fn compared(of: &IdedExpr, with: &IdedExpr, is_ordered: bool, slots: Slots<'_>) -> Option<String> {
    let (name, is) = variable(of, slots)?;
    let other = written(with, slots).filter(|other| *other != is)?;
    let shown = match shown(&with.expr) {
        Some(text) => quoted(&text),
        None => "what it is compared with".to_owned(),
    };
    let advice = advice(&name, is, &with.expr, is_ordered);
    Some(format!(
        "`{name}` is {}, and {shown} is {}; {advice}",
        is.what(),
        other.what()
    ))
}

/// `a in b`.
fn within(a: &IdedExpr, b: &IdedExpr, slots: Slots<'_>) -> Option<String> {
    if let Expr::List(list) = &b.expr {
        let mut elements = list.elements.iter();
        return elements.find_map(|element| compared(a, bare(element), false, slots));
    }
    let (name, is) = variable(b, slots)?;
    let wanted = written(a, slots)?;
    let shown = quoted(&shown(&a.expr)?);
    match is {
        Type::List | Type::Map if wanted == Type::Text || holds_maps(b, slots) => None,
        Type::List | Type::Map => Some(format!(
            "`{name}` holds texts, and {shown} is {}; write it in quotes",
            wanted.what()
        )),
        Type::Text if wanted == Type::Text => Some(format!(
            "`in` looks into a list, and `{name}` is text; write `{name}.contains(…)`"
        )),
        is => Some(format!(
            "`in` looks into a list, and `{name}` is {}",
            is.what()
        )),
    }
}

fn advice(name: &str, is: Type, with: &Expr, is_ordered: bool) -> String {
    use LiteralValue::{Double, Int, Null, String as Text, UInt};
    match (is, with) {
        (Type::Number, Expr::Literal(Text(text))) if text.inner().trim().parse::<f64>().is_ok() => {
            format!("write {} without quotes", quoted(text.inner().trim()))
        }
        (Type::Text, Expr::Literal(Int(_) | UInt(_) | Double(_))) if is_ordered => {
            format!("compare it with text, or write `double({name})` where the text is a number")
        }
        (Type::Text, Expr::Literal(Int(_) | UInt(_) | Double(_))) => {
            format!(
                "write {}",
                quoted(&format!("'{}'", shown(with).unwrap_or_default()))
            )
        }
        (Type::Text, Expr::Literal(Null)) => "where it is unknown it is `''`".to_owned(),
        (Type::Bool, _) => format!("write `{name}` or `!{name}`"),
        (Type::List, Expr::Literal(Text(text))) => {
            format!("write {}", quoted(&format!("'{}' in {name}", text.inner())))
        }
        (Type::Time, Expr::Literal(Text(text))) => {
            format!(
                "write {}",
                quoted(&format!("timestamp('{}')", text.inner()))
            )
        }
        _ => format!("compare it with {}", is.what()),
    }
}

/// The value inside of a node that weighs it.
fn bare(node: &IdedExpr) -> &IdedExpr {
    match &node.expr {
        Expr::Call(call) if call.func_name == "@weigh" => call.args.first().unwrap_or(node),
        _ => node,
    }
}

/// The type of what is written out.
fn written(node: &IdedExpr, slots: Slots<'_>) -> Option<Type> {
    match &node.expr {
        Expr::Literal(_) | Expr::List(_) | Expr::Map(_) => of(node, slots),
        _ => None,
    }
}

/// What is written out, where that is short.
fn shown(expr: &Expr) -> Option<String> {
    let Expr::Literal(literal) = expr else {
        return None;
    };
    Some(match literal {
        LiteralValue::Boolean(is) => is.inner().to_string(),
        LiteralValue::Double(number) => number.inner().to_string(),
        LiteralValue::Int(number) => number.inner().to_string(),
        LiteralValue::UInt(number) => number.inner().to_string(),
        LiteralValue::Null => "null".to_owned(),
        LiteralValue::String(text) => format!("'{}'", text.inner()),
        LiteralValue::Bytes(_) => return None,
    })
}

fn slot<'a>(node: &IdedExpr, slots: Slots<'a>) -> Option<&'a (Slot, bool)> {
    match &node.expr {
        Expr::Ident(name) => slots.get(Slot::number(name)?),
        _ => None,
    }
}

/// The name and type of a variable that is always of one type.
fn variable(node: &IdedExpr, slots: Slots<'_>) -> Option<(String, Type)> {
    let (slot, test) = slot(node, slots)?;
    let name = match slot {
        Slot::Known(path) => path.clone(),
        Slot::Header(name) => format!("req.headers['{name}']"),
        _ => return None,
    };
    let is = of_slot(slot, *test)?;
    Some(if *test {
        (format!("has({name})"), is)
    } else {
        (name, is)
    })
}

fn holds_maps(node: &IdedExpr, slots: Slots<'_>) -> bool {
    matches!(slot(node, slots), Some((Slot::Known(path), _)) if paths::kind(path) == Some(Kind::Maps))
}

fn of_slot(slot: &Slot, test: bool) -> Option<Type> {
    if test {
        return Some(Type::Bool);
    }
    match slot {
        Slot::Known(path) => Some(paths::kind(path).map_or(Type::Map, Type::from)),
        Slot::Header(_) => Some(Type::List),
        Slot::Secret(..) => Some(Type::Text),
        Slot::Now => Some(Type::Time),
        Slot::Vars(_) | Slot::Outputs(_) | Slot::Field(_) => None,
    }
}

/// The type of a checked node's value; `None`: it may be any.
fn of(node: &IdedExpr, slots: Slots<'_>) -> Option<Type> {
    match &node.expr {
        Expr::Literal(literal) => Some(match literal {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Bytes(_) => Type::Bytes,
            LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Type::Number,
            LiteralValue::Null => Type::Null,
            LiteralValue::String(_) => Type::Text,
        }),
        Expr::Ident(_) => slot(node, slots).and_then(|(slot, test)| of_slot(slot, *test)),
        Expr::List(_) => Some(Type::List),
        Expr::Map(_) => Some(Type::Map),
        Expr::Call(call) => of_call(call, slots),
        // `map` and `filter` come to the list that they began with.
        Expr::Comprehension(it) => match &it.result.expr {
            Expr::Ident(name) if *name == it.accu_var => of(&it.accu_init, slots),
            _ => of(&it.result, slots),
        },
        _ => None,
    }
}

fn of_call(call: &CallExpr, slots: Slots<'_>) -> Option<Type> {
    let arg = |at: usize| call.args.get(at).and_then(|arg| of(bare(arg), slots));
    match call.func_name.as_str() {
        "@weigh" | "@tick" => arg(0),
        op::CONDITIONAL => match (arg(1)?, arg(2)?) {
            (a, b) if a == b => Some(a),
            (Type::Bool, _) | (_, Type::Bool) => None,
            _ => Some(Type::Other),
        },
        op::ADD => Some(match (arg(0), arg(1)) {
            (Some(is @ (Type::Number | Type::Text | Type::List)), _)
            | (_, Some(is @ (Type::Number | Type::Text | Type::List))) => is,
            _ => Type::Other,
        }),
        op::SUBSTRACT => Some(match (arg(0), arg(1)) {
            (Some(Type::Number), _) | (_, Some(Type::Number)) => Type::Number,
            _ => Type::Other,
        }),
        op::NEGATE | op::MULTIPLY | op::DIVIDE | op::MODULO => Some(Type::Number),
        op::INDEX => {
            let of = call.args.first().map(bare)?;
            (arg(0) == Some(Type::List) && variable(of, slots).is_some() && !holds_maps(of, slots))
                .then_some(Type::Text)
        }
        op::EQUALS
        | op::NOT_EQUALS
        | op::LESS
        | op::LESS_EQUALS
        | op::GREATER
        | op::GREATER_EQUALS
        | op::IN
        | op::LOGICAL_AND
        | op::LOGICAL_OR
        | op::LOGICAL_NOT => Some(Type::Bool),
        name => of_function(name),
    }
}

/// What a function comes to, by the name under which it runs.
fn of_function(name: &str) -> Option<Type> {
    Some(match name {
        "@indexOf" | "@lastIndexOf" | "double" | "getDate" | "getDayOfMonth" | "getDayOfWeek"
        | "getDayOfYear" | "getFullYear" | "getHours" | "getMilliseconds" | "getMinutes"
        | "getMonth" | "getSeconds" | "int" | "rand.double" | "rand.int" | "size" | "uint" => {
            Type::Number
        }
        "@join" | "@replace" | "base64.encode" | "basic_auth.encode" | "charAt" | "crc32"
        | "crc64" | "decodeBase64" | "encodeBase64" | "encodeJson" | "encodeQueryString"
        | "escapeUrl" | "format" | "hash.crc32" | "hash.crc64" | "hash.md5" | "hash.sha1"
        | "hash.sha256" | "hash.sha512" | "hash.xxhash64" | "json.encode" | "lower"
        | "lowerAscii" | "md5" | "queryString.encode" | "sha1" | "sha256" | "sha512" | "string"
        | "strings.quote" | "substring" | "trim" | "unescapeUrl" | "upper" | "upperAscii"
        | "url.escape" | "url.unescape" | "xxhash64" => Type::Text,
        "@distinct" | "@range" | "@split" | "flatten" | "slice" | "sort" | SORT_BY_KEYS => {
            Type::List
        }
        "decodeQueryString" | "parseUrl" | "queryString.decode" | "url.parse" => Type::Map,
        "base64.decode" | "bytes" => Type::Bytes,
        "add" | "subtract" | "timestamp" => Type::Time,
        "duration" => Type::Duration,
        "reverse" | "type" => Type::Other,
        _ => return None,
    })
}
