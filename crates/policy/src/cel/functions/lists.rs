//! Functions of lists whose cost is bounded here, and those that draw random numbers.

use cel::common::types::{CelDouble, CelInt, CelList, INT_TYPE, LIST_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::super::budget;
use super::super::limits::ELEMENTS_MAX;
use super::{Args, Outcome, failed, int_at};

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_member_overload("@distinct", "d", LIST_TYPE, vec![], distinct)?;
    env.add_overload("@range", "r", vec![INT_TYPE], range)?;
    env.add_overload("rand.double", "r", vec![], random_double)?;
    env.add_overload("rand.int", "r0", vec![], random_bit)?;
    env.add_overload("rand.int", "r2", vec![INT_TYPE, INT_TYPE], random_int)
}

fn distinct<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let list = args
        .first()
        .and_then(|list| list.downcast_ref::<CelList<'_>>())
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    let mut seen: Vec<&(dyn Val + '_)> = Vec::new();
    for element in list.inner() {
        // Each is compared to all that were kept.
        budget::spend(u64::try_from(seen.len() / 4 + 1).unwrap_or(u64::MAX))?;
        if !seen.iter().any(|one| element.equals(*one)) {
            seen.push(element.as_ref());
        }
    }
    let kept: Vec<Box<dyn Val + 'v>> = seen.iter().map(|one| one.clone_as_boxed()).collect();
    Ok(CowVal::owned(CelList::from(kept)))
}

fn range<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let wanted = int_at(&args, 0)?;
    let most = i64::try_from(ELEMENTS_MAX).unwrap_or(i64::MAX);
    if !(0..=most).contains(&wanted) {
        return Err(failed(
            "lists.range",
            format!("the number is not between 0 and {most}"),
        ));
    }
    budget::spend(wanted.unsigned_abs())?;
    let list: Vec<Box<dyn Val>> = (0..wanted)
        .map(|n| Box::new(CelInt::from(n)) as Box<dyn Val>)
        .collect();
    Ok(CowVal::owned(CelList::from(list)))
}

fn random_double<'b, 'v>(_args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    // 53 bits are what a double has, so every value below 1 is as likely.
    let bits = u32::try_from(budget::random() >> 38).unwrap_or_default();
    let more = u32::try_from(budget::random() >> 37).unwrap_or_default();
    let value = (f64::from(bits) * 134_217_728.0 + f64::from(more)) / 9_007_199_254_740_992.0;
    Ok(CowVal::owned(CelDouble::from(value)))
}

fn random_bit<'b, 'v>(_args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    between(0, 1)
}

fn random_int<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (min, max) = (int_at(&args, 0)?, int_at(&args, 1)?);
    if min < 0 || max < min {
        return Err(failed("rand.int", "the two are not a range from 0 up"));
    }
    between(min, max)
}

/// Both ends included.
fn between<'b, 'v>(min: i64, max: i64) -> Outcome<'b, 'v> {
    let width = max.abs_diff(min).saturating_add(1);
    // The high half of the product is even over the width but for one part in 2^64 / width.
    let product = u128::from(budget::random()) * u128::from(width);
    let drawn = i64::try_from(product >> 64).unwrap_or_default();
    Ok(CowVal::owned(CelInt::from(min.saturating_add(drawn))))
}
