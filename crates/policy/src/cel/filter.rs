//! Filters over the objects of API lists: conditions with fewer operators and functions than policies have.

use std::cmp::Ordering;

use cel::common::types::{CelBool, CelString, CelTimestamp, DYN_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError, Value as Cel};
use chrono::DateTime;
use portcullis_model::{Code, Error};
use serde_json::Value;

use super::budget;
use super::limits::FILTER_BYTES_MAX;
use super::program::Program;
use super::slots::{Names, look_up_field};

/// A filter over the objects of an API list.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Program,
}

impl Filter {
    /// Reads a filter over objects with these fields. A field is named bare or as `obj.field`; `time.now`
    /// is known as well. A moment may be compared to a text that spells one.
    ///
    /// # Errors
    /// `PTC_API_FILTER_INVALID`, with what is wrong and where.
    pub fn parse(text: &str, fields: &[&str]) -> Result<Self, Error> {
        let invalid = |why: String| {
            Error::new(
                Code::ApiFilterInvalid,
                format!("the filter cannot be used: {why}"),
            )
        };
        if text.len() > FILTER_BYTES_MAX {
            return Err(invalid(format!(
                "it has {} bytes, at most {FILTER_BYTES_MAX} are possible",
                text.len()
            )));
        }
        let (program, _) = Program::compile(text, Names::Filter(fields))
            .map_err(|fault| invalid(fault.message))?;
        Ok(Self { program })
    }

    /// Whether the object passes. What cannot be evaluated does not. `now_seconds`: since 1970.
    pub fn matches(&self, object: &Value, now_seconds: i64) -> bool {
        let value = self.program.run(0, |slot, test| {
            Ok(look_up_field(slot, test, object, now_seconds))
        });
        matches!(value, Ok(Cel::Bool(true)))
    }
}

/// The comparisons of filters.
pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let two = || vec![DYN_TYPE, DYN_TYPE];
    env.add_overload("@eq", "eq", two(), |args| {
        pair(&args).map(|(a, b)| answer(is_equal(a, b)))
    })?;
    env.add_overload("@ne", "ne", two(), |args| {
        pair(&args).map(|(a, b)| answer(!is_equal(a, b)))
    })?;
    env.add_overload("@lt", "lt", two(), |args| compare(&args, Ordering::is_lt))?;
    env.add_overload("@le", "le", two(), |args| compare(&args, Ordering::is_le))?;
    env.add_overload("@gt", "gt", two(), |args| compare(&args, Ordering::is_gt))?;
    env.add_overload("@ge", "ge", two(), |args| compare(&args, Ordering::is_ge))
}

type Pair<'a> = (&'a dyn Val, &'a dyn Val);

fn pair<'a>(args: &'a [CowVal<'_, '_>]) -> Result<Pair<'a>, ExecutionError> {
    match args {
        [a, b] => Ok((a.as_ref(), b.as_ref())),
        _ => Err(ExecutionError::invalid_argument_count(2, args.len())),
    }
}

fn answer<'b, 'v>(is: bool) -> CowVal<'b, 'v> {
    CowVal::owned(CelBool::from(is))
}

/// The moment that a text spells.
fn spelled(value: &dyn Val) -> Option<CelTimestamp> {
    let text = value.downcast_ref::<CelString<'_>>()?;
    DateTime::parse_from_rfc3339(text.inner())
        .ok()
        .map(CelTimestamp::from)
}

fn is_moment(value: &dyn Val) -> bool {
    value.downcast_ref::<CelTimestamp>().is_some()
}

fn is_equal(a: &dyn Val, b: &dyn Val) -> bool {
    match (is_moment(a), is_moment(b)) {
        (true, false) => spelled(b).is_some_and(|b| a.equals(&b)),
        (false, true) => spelled(a).is_some_and(|a| b.equals(&a)),
        _ => a.equals(b),
    }
}

fn compare<'b, 'v>(
    args: &[CowVal<'b, 'v>],
    is: fn(Ordering) -> bool,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (a, b) = pair(args)?;
    let other = || budget::failed("compare", "these cannot be compared");
    let order = |a: &dyn Val, b: &dyn Val| a.as_comparer().ok_or_else(other)?.compare(b);
    let ordering = match (is_moment(a), is_moment(b)) {
        (true, false) => order(a, &spelled(b).ok_or_else(other)?)?,
        (false, true) => order(&spelled(a).ok_or_else(other)?, b)?,
        _ => order(a, b)?,
    };
    Ok(answer(is(ordering)))
}
