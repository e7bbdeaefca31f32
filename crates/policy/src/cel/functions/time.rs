//! Functions of moments.

use cel::common::types::{
    CelDuration, CelString, CelTimestamp, DURATION_TYPE, STRING_TYPE, TIMESTAMP_TYPE,
};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use chrono::TimeDelta;

use super::{Args, Outcome, failed};

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let at = || TIMESTAMP_TYPE;
    env.add_member_overload("add", "as", at(), vec![STRING_TYPE], add)?;
    env.add_member_overload("add", "ad", at(), vec![DURATION_TYPE], add)?;
    env.add_member_overload("subtract", "ss", at(), vec![STRING_TYPE], subtract)?;
    env.add_member_overload("subtract", "sd", at(), vec![DURATION_TYPE], subtract)
}

/// A length of time such as `7d`, `1h30m` or `2w`.
fn length(text: &str) -> Option<TimeDelta> {
    let mut total = TimeDelta::zero();
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at(digits);
        let number: i64 = number.parse().ok()?;
        let end = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, next) = unit.split_at(end);
        let part = match unit {
            "ms" => TimeDelta::try_milliseconds(number),
            "s" => TimeDelta::try_seconds(number),
            "m" => TimeDelta::try_minutes(number),
            "h" => TimeDelta::try_hours(number),
            "d" => TimeDelta::try_days(number),
            "w" => TimeDelta::try_weeks(number),
            _ => None,
        }?;
        total = total.checked_add(&part)?;
        rest = next;
    }
    // Beyond, the sum of two moments could not be held.
    (total.num_days() <= 366 * 1000).then_some(total)
}

fn add<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    moved(&args, "add")
}

fn subtract<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    moved(&args, "subtract")
}

fn moved<'b, 'v>(args: &Args<'b, 'v>, function: &str) -> Outcome<'b, 'v> {
    let (Some(at), Some(by)) = (args.first(), args.get(1)) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let at = at
        .downcast_ref::<CelTimestamp>()
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    let by = match by.downcast_ref::<CelString<'_>>() {
        Some(text) => CelDuration::from(length(text.inner()).ok_or_else(|| {
            failed(
                function,
                "a length of time is written like 7d, 12h or 1h30m",
            )
        })?),
        None => by
            .downcast_ref::<CelDuration>()
            .cloned()
            .ok_or_else(ExecutionError::missing_argument_or_target)?,
    };
    let result = if function == "add" {
        at.as_adder()
            .ok_or_else(ExecutionError::missing_argument_or_target)?
            .add(&by)?
    } else {
        at.as_subtractor()
            .ok_or_else(ExecutionError::missing_argument_or_target)?
            .sub(&by)?
    };
    Ok(CowVal::Owned(result.into_owned()))
}
