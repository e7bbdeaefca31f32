//! What the parser says of a text that is no expression, in words for people.
//!
//! Must never: list the parser's tokens.

use cel::ParseError;
use portcullis_model::Code;

use super::Fault;
use super::limits::PARSER_DEPTH_MAX;
use crate::document::quoted;

/// How the parser calls the end of a text.
const END: &str = "<EOF>";
/// How its messages begin about a text that no rule of its grammar fits.
const SYNTAX: &str = "Syntax error: ";

/// The first of the parser's errors, with its place.
pub(super) fn fault_of(text: &str, errors: &[ParseError]) -> Fault {
    if errors
        .iter()
        .any(|error| error.msg.contains("Recursion limit"))
    {
        return Fault {
            code: Code::PolicyCost,
            message: format!("brackets can be nested {PARSER_DEPTH_MAX} deep at most"),
        };
    }
    let message = match first_of(errors) {
        Some(error) => {
            let (line, column) = error.pos;
            let place = super::place_at(text, line, column);
            format!("{place}: {}", said(&error.msg))
        }
        None => "it cannot be read".to_owned(),
    };
    Fault {
        code: Code::PolicyExpressions,
        message,
    }
}

/// What is wrong with the text goes before what the parser then makes of it.
fn first_of(errors: &[ParseError]) -> Option<&ParseError> {
    errors
        .iter()
        .min_by_key(|error| (!error.msg.starts_with(SYNTAX), error.pos))
}

/// One message of the parser.
fn said(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let Some(what) = message.strip_prefix(SYNTAX) else {
        return theirs(message);
    };
    if let Some(rest) = what
        .strip_prefix("mismatched input ")
        .or_else(|| what.strip_prefix("extraneous input "))
    {
        let (found, wanted) = rest.rsplit_once(" expecting ").unwrap_or((rest, ""));
        return match (unquoted(found), only(wanted)) {
            (END, Some(wanted)) => format!("{wanted} is missing at the end"),
            (END, None) => "something is missing at the end".to_owned(),
            (found, _) => format!("{} is not expected here{}", quoted(found), hint(found)),
        };
    }
    if let Some(rest) = what.strip_prefix("missing ") {
        let (wanted, found) = rest.rsplit_once(" at ").unwrap_or((rest, END));
        let wanted = only(wanted).unwrap_or_else(|| "something".to_owned());
        return match unquoted(found) {
            END => format!("{wanted} is missing at the end"),
            found => format!("{wanted} is missing before {}", quoted(found)),
        };
    }
    if let Some(rest) = what.strip_prefix("no viable alternative at input ") {
        let found = unquoted(rest);
        return match found.strip_suffix(END) {
            Some("") => "something is missing at the end".to_owned(),
            Some(begun) => format!("{} is not complete", quoted(begun)),
            None if found.starts_with('.') => "a name is missing behind `.`".to_owned(),
            None => format!("{} cannot be read", quoted(found)),
        };
    }
    if let Some(rest) = what.strip_prefix("token recognition error at: ") {
        let found = unquoted(rest).trim();
        return if found.starts_with(['\'', '"']) && found.contains('\\') {
            "the text that begins here is not closed, or has a `\\` that means nothing".to_owned()
        } else if found.starts_with(['\'', '"']) {
            "the text that begins here is not closed".to_owned()
        } else {
            format!("{} means nothing here{}", quoted(found), hint(found))
        };
    }
    if what.contains("recovery attempt limit") {
        return "there is too much wrong to go on".to_owned();
    }
    quoted(what)
}

/// What the parser says in words of its own, but for names of its own parts.
fn theirs(message: &str) -> String {
    let is_inner = message.starts_with("No `")
        || message.starts_with("Incomplete")
        || message.contains("Context")
        || message == "UNKNOWN";
    if is_inner {
        "it is not complete".to_owned()
    } else {
        message.chars().take(200).collect()
    }
}

/// `'x'` without the quotes around it.
fn unquoted(token: &str) -> &str {
    token
        .strip_prefix('\'')
        .and_then(|token| token.strip_suffix('\''))
        .unwrap_or(token)
}

/// The only token that is possible.
fn only(wanted: &str) -> Option<String> {
    match wanted {
        "" | END => None,
        "IDENTIFIER" => Some("a name".to_owned()),
        wanted if wanted.starts_with('{') => None,
        wanted => Some(quoted(unquoted(wanted))),
    }
}

/// What is meant by signs and words of other languages.
fn hint(found: &str) -> String {
    let meant = match found {
        "=" | "===" => "==",
        "&" | "and" | "AND" => "&&",
        "|" | "or" | "OR" => "||",
        "<>" => "!=",
        "not" | "NOT" => "!",
        found if found.starts_with(['‘', '’', '“', '”']) => {
            return "; write straight quotes".to_owned();
        }
        _ => return String::new(),
    };
    format!("; write `{meant}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parser_says_becomes_words() {
        for (theirs, ours) in [
            (
                "Syntax error: mismatched input '<EOF>' expecting {'[', '{', IDENTIFIER}",
                "something is missing at the end",
            ),
            (
                "Syntax error: mismatched input '<EOF>' expecting ')'",
                "`)` is missing at the end",
            ),
            (
                "Syntax error: extraneous input 'and' expecting <EOF>",
                "`and` is not expected here; write `&&`",
            ),
            (
                "Syntax error: missing ')' at '<EOF>'",
                "`)` is missing at the end",
            ),
            (
                "Syntax error: missing ':' at ')'",
                "`:` is missing before `)`",
            ),
            (
                "Syntax error: no viable alternative at input 'a.<EOF>'",
                "`a.` is not complete",
            ),
            (
                "Syntax error: no viable alternative at input '.('",
                "a name is missing behind `.`",
            ),
            (
                "Syntax error: no viable alternative at input '1 2'",
                "`1 2` cannot be read",
            ),
            (
                "Syntax error: token recognition error at: ''abc'",
                "the text that begins here is not closed",
            ),
            (
                "Syntax error: token recognition error at: '= '",
                "`=` means nothing here; write `==`",
            ),
            (
                "Syntax error: error recovery attempt limit exceeded: 30",
                "there is too much wrong to go on",
            ),
            ("No `MemberContextAll`!", "it is not complete"),
            ("invalid int literal", "invalid int literal"),
        ] {
            assert_eq!(said(theirs), ours);
        }
    }
}
