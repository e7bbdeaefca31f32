//! The functions of expressions: which there are, and the interpreter's environment that has them.

mod encode;
mod hash;
mod lists;
mod net;
mod text;
mod time;

use std::sync::{Arc, LazyLock};

use cel::common::types::{CelString, DYN_TYPE, INT_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError, extensions};

use super::budget::{self, failed};

pub(super) use net::{address, is_private_address, network};
pub(super) use text::{check_regex, matches_kept};

/// What a function's arguments are.
type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
/// What a function comes to.
type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Called on a value, `x.f(…)`: with how many arguments.
const ON_VALUES: &[(&str, &[usize])] = &[
    ("add", &[1]),
    ("charAt", &[1]),
    ("contains", &[1]),
    ("crc32", &[0]),
    ("crc64", &[0]),
    ("decodeBase64", &[0]),
    ("decodeJson", &[0]),
    ("decodeQueryString", &[0]),
    ("distinct", &[0]),
    ("encodeBase64", &[0]),
    ("encodeJson", &[0]),
    ("encodeQueryString", &[0]),
    ("endsWith", &[1]),
    ("escapeUrl", &[0]),
    ("flatten", &[0, 1]),
    ("format", &[1]),
    ("getDate", &[0, 1]),
    ("getDayOfMonth", &[0, 1]),
    ("getDayOfWeek", &[0, 1]),
    ("getDayOfYear", &[0, 1]),
    ("getFullYear", &[0, 1]),
    ("getHours", &[0, 1]),
    ("getMilliseconds", &[0, 1]),
    ("getMinutes", &[0, 1]),
    ("getMonth", &[0, 1]),
    ("getSeconds", &[0, 1]),
    ("indexOf", &[1, 2]),
    ("isJson", &[0]),
    ("isPrivateIp", &[0]),
    ("isQueryString", &[0]),
    ("isURL", &[0]),
    ("join", &[0, 1]),
    ("lastIndexOf", &[1, 2]),
    ("lower", &[0]),
    ("lowerAscii", &[0]),
    ("matches", &[1]),
    ("md5", &[0]),
    ("parseUrl", &[0]),
    ("replace", &[2, 3]),
    ("reverse", &[0]),
    ("sha1", &[0]),
    ("sha256", &[0]),
    ("sha512", &[0]),
    ("size", &[0]),
    ("slice", &[2]),
    ("sort", &[0]),
    ("split", &[1, 2]),
    ("startsWith", &[1]),
    ("substring", &[1, 2]),
    ("subtract", &[1]),
    ("trim", &[0]),
    ("unescapeUrl", &[0]),
    ("upper", &[0]),
    ("upperAscii", &[0]),
    ("xxhash64", &[0]),
];

/// Called by name, `f(…)`: with how many arguments.
const BY_NAME: &[(&str, &[usize])] = &[
    ("base64.decode", &[1]),
    ("base64.encode", &[1]),
    ("basic_auth.encode", &[2]),
    ("bool", &[1]),
    ("bytes", &[1]),
    ("double", &[1]),
    ("duration", &[1]),
    ("dyn", &[1]),
    ("hash.crc32", &[1]),
    ("hash.crc64", &[1]),
    ("hash.md5", &[1]),
    ("hash.sha1", &[1]),
    ("hash.sha256", &[1]),
    ("hash.sha512", &[1]),
    ("hash.xxhash64", &[1]),
    ("inCidrRange", &[2]),
    ("inCidrRanges", &[2]),
    ("int", &[1]),
    ("json.decode", &[1]),
    ("json.encode", &[1]),
    ("lists.range", &[1]),
    ("matches", &[2]),
    ("queryString.decode", &[1]),
    ("queryString.encode", &[1]),
    ("rand.double", &[0]),
    ("rand.int", &[0, 2]),
    ("secrets.get", &[2]),
    ("size", &[1]),
    ("string", &[1]),
    ("strings.quote", &[1]),
    ("timestamp", &[1]),
    ("type", &[1]),
    ("uint", &[1]),
    ("url.escape", &[1]),
    ("url.parse", &[1]),
    ("url.unescape", &[1]),
];

/// Macros, which the parser knows; here for suggestions.
const MACROS: &[&str] = &[
    "all",
    "exists",
    "exists_one",
    "filter",
    "has",
    "map",
    "sortBy",
];

/// Functions of the interpreter's extensions that could make much of little; ours stand in for them.
const OURS: &[(&str, &str)] = &[
    ("distinct", "@distinct"),
    ("indexOf", "@indexOf"),
    ("join", "@join"),
    ("lastIndexOf", "@lastIndexOf"),
    ("lists.range", "@range"),
    ("replace", "@replace"),
    ("split", "@split"),
];

/// The numbers of arguments that a function takes.
pub(super) fn arities(name: &str, on_value: bool) -> Option<&'static [usize]> {
    let table = if on_value { ON_VALUES } else { BY_NAME };
    let (_, arities) = table.iter().find(|(known, _)| *known == name)?;
    Some(arities)
}

/// Whether functions are named `root.…`.
pub(super) fn is_namespace(root: &str) -> bool {
    BY_NAME
        .iter()
        .any(|(name, _)| name.split_once('.').is_some_and(|(space, _)| space == root))
}

/// The name under which the environment has a function.
pub(super) fn run_as(name: &str) -> &str {
    OURS.iter()
        .find(|(known, _)| *known == name)
        .map_or(name, |(_, ours)| ours)
}

/// All names of one form, for suggestions.
pub(super) fn names(on_value: bool) -> Vec<&'static str> {
    let table = if on_value { ON_VALUES } else { BY_NAME };
    let names = table.iter().map(|(name, _)| *name);
    names.chain(MACROS.iter().copied()).collect()
}

/// The environment: built once, for all expressions.
pub(super) static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(false);
    // A name that is registered twice is found by the first test that evaluates anything.
    register(&mut env).expect("each overload is registered once");
    Arc::new(env)
});

fn register(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_extension(extensions::strings)?;
    env.add_extension(extensions::lists)?;
    env.add_overload("@weigh", "@weigh", vec![DYN_TYPE], budget::weigh)?;
    env.add_overload("@tick", "@tick", vec![DYN_TYPE, INT_TYPE], budget::tick)?;
    text::register(env)?;
    lists::register(env)?;
    hash::register(env)?;
    encode::register(env)?;
    net::register(env)?;
    super::filter::register(env)?;
    time::register(env)
}

/// The function of one and the same kind, called on a value and by name.
fn both(
    env: &mut Env,
    on_value: &str,
    by_name: &str,
    types: fn() -> cel::common::types::Type,
    function: cel::common::functions::Function,
) -> Result<(), DeclarationError> {
    let id = format!("{}.{on_value}", types().name());
    env.add_member_overload(on_value, &id, types(), vec![], function)?;
    env.add_overload(by_name, &id, vec![types()], function)
}

/// The text in one place of the arguments.
fn text_at<'a>(args: &'a [CowVal<'_, '_>], at: usize) -> Result<&'a str, ExecutionError> {
    let value = args
        .get(at)
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    value
        .downcast_ref::<CelString<'_>>()
        .map(CelString::inner)
        .ok_or_else(|| ExecutionError::UnexpectedType {
            got: value.get_type().name().to_owned(),
            want: "string".to_owned(),
        })
}

/// The integer in one place of the arguments.
fn int_at(args: &[CowVal<'_, '_>], at: usize) -> Result<i64, ExecutionError> {
    args.get(at)
        .and_then(|value| value.downcast_ref::<cel::common::types::CelInt>())
        .map(|n| *n.inner())
        .ok_or_else(ExecutionError::missing_argument_or_target)
}

/// The value in one place of the arguments, as the interpreter's enum.
fn value_at(args: &[CowVal<'_, '_>], at: usize) -> Result<cel::Value, ExecutionError> {
    let value = args
        .get(at)
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    cel::Value::try_from(value.as_ref())
}

fn answer<'b, 'v>(value: cel::Value) -> Outcome<'b, 'v> {
    let value: Box<dyn Val> = value.try_into()?;
    Ok(CowVal::Owned(value))
}

/// Text that was made.
fn answer_text<'b, 'v>(text: String) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(CelString::from(text)))
}

fn answer_bool<'b, 'v>(is: bool) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(cel::common::types::CelBool::from(is)))
}
