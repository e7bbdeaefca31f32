//! What an evaluation may cost. The interpreter knows no limit, so the checked expression calls back: each
//! turn of a macro's loop ticks, each value that is handed on is weighed.
//!
//! Functions of the interpreter are plain pointers without state, so the account is the thread's. An
//! evaluation neither waits nor nests, so no two share it.

use std::cell::Cell;

use cel::ExecutionError;
use cel::common::types::{CelBytes, CelInt, CelList, CelMap, CelString};
use cel::common::value::{CowVal, Val};

use super::limits::{EVALUATION_UNITS, UNIT_BYTES, UNITS_MAX, VALUE_BYTES_MAX};

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
    static SPENT: Cell<bool> = const { Cell::new(false) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// What all evaluations of a policy that runs may still spend together.
    static TOGETHER: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Begins an evaluation, whose random numbers follow from `seed`.
pub(super) fn start(seed: u64) {
    let together = TOGETHER.get().checked_sub(EVALUATION_UNITS);
    TOGETHER.set(together.unwrap_or(0));
    LEFT.set(UNITS_MAX.min(together.unwrap_or(0)));
    SPENT.set(together.is_none());
    RANDOM.set(seed);
}

/// What evaluations may still spend together, to come [`back`] to.
pub(super) fn together() -> u64 {
    TOGETHER.get()
}

/// As if nothing had been spent since.
pub(super) fn back(together: u64) {
    TOGETHER.set(together);
}

/// Does something whose evaluations may spend `left` together; what is left then stands there.
pub(crate) fn within<T>(left: &mut u64, what: impl FnOnce() -> T) -> T {
    let before = TOGETHER.replace(*left);
    let done = what();
    *left = TOGETHER.replace(before);
    done
}

/// Whether the evaluation asked for more than there was. Operators such as `||` swallow errors, so this is
/// asked at the end as well.
pub(super) fn is_spent() -> bool {
    SPENT.get()
}

/// Takes units from the account.
pub(super) fn spend(units: u64) -> Result<(), ExecutionError> {
    match LEFT.get().checked_sub(units) {
        Some(left) if !SPENT.get() => {
            LEFT.set(left);
            TOGETHER.set(TOGETHER.get().saturating_sub(units));
            Ok(())
        }
        _ => {
            SPENT.set(true);
            Err(too_much())
        }
    }
}

/// Begins the name of the function in an error of our own. Those of the interpreter quote what they were
/// given, so their messages are not passed on, and ours must never quote.
pub(super) const OURS: char = '@';

/// An error of one of our own functions. `why` must not hold a value: it may be a secret.
pub(super) fn failed(function: &str, why: impl ToString) -> ExecutionError {
    ExecutionError::function_error(format!("{OURS}{function}").as_str(), why)
}

/// Pays for a value of so many bytes before it is made.
pub(super) fn make(bytes: usize) -> Result<(), ExecutionError> {
    if bytes > VALUE_BYTES_MAX {
        return Err(failed(
            "value",
            format!("a value would have more than {VALUE_BYTES_MAX} bytes"),
        ));
    }
    spend(u64::try_from(bytes / UNIT_BYTES).unwrap_or(u64::MAX))
}

/// Pays for so many bytes that are looked at where they stand.
pub(super) fn pass(bytes: usize) -> Result<(), ExecutionError> {
    spend(u64::try_from(bytes / UNIT_BYTES).unwrap_or(u64::MAX))
}

/// Pays for a value that was copied to evaluate with it.
pub(super) fn copied(value: &(dyn Val + '_)) -> Result<(), ExecutionError> {
    spend(units_of(bytes_of(value)))
}

/// Pays, outside of evaluations, for so many bytes of what they came to.
pub(crate) fn charge(bytes: usize) -> Result<(), String> {
    let left = TOGETHER.get().checked_sub(units_of(bytes));
    TOGETHER.set(left.unwrap_or(0));
    left.map(drop).ok_or_else(|| super::TOO_MUCH.to_owned())
}

fn units_of(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u64::MAX)
}

/// The next random number (SplitMix64).
pub(super) fn random() -> u64 {
    let state = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(state);
    mix(state)
}

/// Spreads the bits of a number.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `@weigh(value)`: the value, paid for.
pub(super) fn weigh<'b, 'v>(
    mut args: Vec<CowVal<'b, 'v>>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = args
        .pop()
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    make(bytes_of(value.as_ref()))?;
    Ok(value)
}

/// `@tick(value, units)`: the value, once the turn is paid for.
pub(super) fn tick<'b, 'v>(
    mut args: Vec<CowVal<'b, 'v>>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let units = args.pop();
    let value = args.pop();
    let (Some(units), Some(value)) = (units, value) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let units = units.downcast_ref::<CelInt>().map_or(1, |n| *n.inner());
    spend(u64::try_from(units).unwrap_or(1))?;
    Ok(value)
}

/// About how much memory a value takes, below it included.
pub(super) fn bytes_of(value: &(dyn Val + '_)) -> usize {
    let within = if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        text.inner().len()
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        bytes.inner().len()
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        list.inner()
            .iter()
            .map(|element| bytes_of(element.as_ref()))
            .sum()
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        map.inner()
            .iter()
            .map(|(key, value)| bytes_of(key.inner()) + bytes_of(value.as_ref()))
            .sum()
    } else {
        0
    };
    UNIT_BYTES + within
}

fn too_much() -> ExecutionError {
    failed("cost", super::TOO_MUCH)
}
