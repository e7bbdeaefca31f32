//! Functions of texts whose cost is bounded here.

use std::cell::RefCell;
use std::collections::HashMap;

use cel::common::types::{CelInt, CelList, CelString, INT_TYPE, LIST_TYPE, STRING_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use regex::{Regex, RegexBuilder};

use super::super::budget;
use super::super::limits::{REGEX_BYTES_MAX, REGEX_COMPILED_BYTES_MAX, REGEX_KEPT_MAX};
use super::{Args, Outcome, answer_bool, answer_text, failed, int_at, text_at};

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let text = || STRING_TYPE;
    let int = || INT_TYPE;
    env.add_member_overload("matches", "string.matches", text(), vec![text()], matches)?;
    env.add_overload("matches", "matches", vec![text(), text()], matches)?;
    env.add_member_overload("lower", "string.lower", text(), vec![], lower)?;
    env.add_member_overload("upper", "string.upper", text(), vec![], upper)?;
    env.add_member_overload("@indexOf", "i1", text(), vec![text()], index_of)?;
    env.add_member_overload("@indexOf", "i2", text(), vec![text(), int()], index_of)?;
    env.add_member_overload("@lastIndexOf", "l1", text(), vec![text()], last_index_of)?;
    env.add_member_overload(
        "@lastIndexOf",
        "l2",
        text(),
        vec![text(), int()],
        last_index_of,
    )?;
    env.add_member_overload("@replace", "r2", text(), vec![text(), text()], replace)?;
    env.add_member_overload(
        "@replace",
        "r3",
        text(),
        vec![text(), text(), int()],
        replace,
    )?;
    env.add_member_overload("@split", "s1", text(), vec![text()], split)?;
    env.add_member_overload("@split", "s2", text(), vec![text(), int()], split)?;
    env.add_member_overload("@join", "j0", LIST_TYPE, vec![], join)?;
    env.add_member_overload("@join", "j1", LIST_TYPE, vec![text()], join)
}

fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > REGEX_BYTES_MAX {
        return Err(format!(
            "a regular expression has at most {REGEX_BYTES_MAX} bytes"
        ));
    }
    RegexBuilder::new(pattern)
        .size_limit(REGEX_COMPILED_BYTES_MAX)
        .dfa_size_limit(REGEX_COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                format!(
                    "no regular expression: {}",
                    last.trim_start_matches("error: ")
                )
            }
        })
}

/// What is wrong with a regular expression.
pub(in super::super) fn check_regex(pattern: &str) -> Result<(), String> {
    compile(pattern).map(drop)
}

thread_local! {
    /// The regular expressions that this thread evaluated. Compiling one takes a hundred times as long as
    /// matching it.
    static KEPT: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

fn matches<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (text, pattern) = (text_at(&args, 0)?, text_at(&args, 1)?);
    budget::spend(match_units(text))?;
    KEPT.with_borrow_mut(|kept| {
        if let Some(regex) = kept.get(pattern) {
            return answer_bool(regex.is_match(text));
        }
        // A compilation takes about 100 microseconds.
        budget::spend(1000)?;
        let regex = compile(pattern).map_err(|_| {
            failed(
                "matches",
                "the text is no regular expression that can be used",
            )
        })?;
        let is = regex.is_match(text);
        if kept.len() >= REGEX_KEPT_MAX {
            kept.clear();
        }
        kept.insert(pattern.to_owned(), regex);
        answer_bool(is)
    })
}

/// Whether a text matches an expression that this thread has compiled before; `None`: it has not, or that would
/// cost too much. Those that are kept are bounded for the thread, as one for each condition would not be.
pub(in super::super) fn matches_kept(text: &str, pattern: &str) -> Option<bool> {
    KEPT.with_borrow(|kept| {
        let regex = kept.get(pattern)?;
        budget::spend(match_units(text)).ok()?;
        Some(regex.is_match(text))
    })
}

/// At the worst every byte visits every state.
fn match_units(text: &str) -> u64 {
    u64::try_from(text.len() / 2).unwrap_or(u64::MAX)
}

fn lower<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    answer_text(text_at(&args, 0)?.to_lowercase())
}

fn upper<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    answer_text(text_at(&args, 0)?.to_uppercase())
}

/// The byte where a character begins; the text's end for the one behind the last.
fn byte_of(function: &str, text: &str, character: i64) -> Result<usize, ExecutionError> {
    let out = || failed(function, "there is no such place in the text");
    let character = usize::try_from(character).map_err(|_| out())?;
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .nth(character)
        .ok_or_else(out)
}

fn characters<'b, 'v>(text: Option<&str>) -> Outcome<'b, 'v> {
    let count = text.map_or(-1, |before| {
        i64::try_from(before.chars().count()).unwrap_or(i64::MAX)
    });
    Ok(CowVal::owned(CelInt::from(count)))
}

fn index_of<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (text, needle) = (text_at(&args, 0)?, text_at(&args, 1)?);
    let from = match args.len() {
        3 => byte_of("indexOf", text, int_at(&args, 2)?)?,
        _ => 0,
    };
    let rest = text.get(from..).unwrap_or_default();
    let found = rest.find(needle).and_then(|at| text.get(..from + at));
    characters(found)
}

fn last_index_of<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (text, needle) = (text_at(&args, 0)?, text_at(&args, 1)?);
    let until = match args.len() {
        // A find may begin at this character, so it may end as much later as it is long.
        3 => byte_of("lastIndexOf", text, int_at(&args, 2)?)?.saturating_add(needle.len()),
        _ => text.len(),
    };
    let mut until = until.min(text.len());
    while !text.is_char_boundary(until) {
        until -= 1;
    }
    let head = text.get(..until).unwrap_or_default();
    characters(head.rfind(needle).and_then(|at| text.get(..at)))
}

fn replace<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (text, from, to) = (text_at(&args, 0)?, text_at(&args, 1)?, text_at(&args, 2)?);
    let most = match args.len() {
        4 => usize::try_from(int_at(&args, 3)?).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let times = text.matches(from).count().min(most);
    let bytes = (text.len() - times.saturating_mul(from.len()).min(text.len()))
        .saturating_add(times.saturating_mul(to.len()));
    budget::make(bytes)?;
    answer_text(text.replacen(from, to, most))
}

fn split<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (text, separator) = (text_at(&args, 0)?, text_at(&args, 1)?);
    let most = match args.len() {
        3 => usize::try_from(int_at(&args, 2)?).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    // Every part is a value of its own.
    let parts = text.matches(separator).count().min(most).saturating_add(1);
    budget::spend(u64::try_from(parts).unwrap_or(u64::MAX).saturating_mul(4))?;
    let mut out: Vec<Box<dyn Val>> = Vec::new();
    let mut push = |part: &str| out.push(Box::new(CelString::from(part.to_owned())));
    match (most, separator.is_empty()) {
        (0, _) => {}
        (_, false) => text.splitn(most, separator).for_each(&mut push),
        (_, true) => {
            let mut rest = text;
            let mut left = most;
            while let Some(first) = rest.chars().next().filter(|_| left > 1) {
                let (head, tail) = rest.split_at(first.len_utf8());
                push(head);
                rest = tail;
                left -= 1;
            }
            if !rest.is_empty() {
                push(rest);
            }
        }
    }
    Ok(CowVal::owned(CelList::from(out)))
}

fn join<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let separator = match args.len() {
        2 => text_at(&args, 1)?,
        _ => "",
    };
    let list = args
        .first()
        .and_then(|list| list.downcast_ref::<CelList<'_>>())
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    let mut parts = Vec::with_capacity(list.inner().len());
    let mut bytes = list.inner().len().saturating_mul(separator.len());
    for part in list.inner() {
        let part = part
            .downcast_ref::<CelString<'_>>()
            .ok_or_else(|| failed("join", "only texts can be joined"))?
            .inner();
        bytes = bytes.saturating_add(part.len());
        parts.push(part);
    }
    budget::make(bytes)?;
    answer_text(parts.join(separator))
}
