//! `portcullis api ip-policies`: networks under one id, which traffic policies name.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use portcullis_model::{Code, Error};
use serde_json::{Value, json};

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use crate::defaults;
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/ip_policies",
    key: "ip_policies",
    columns: &[
        ("id", "id"),
        ("description", "description"),
        ("rules", "rule_count"),
        ("created", "created_at"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create an IP policy, with its rules where some are given.
    Create(CreateArgs),
    /// Show one.
    Get(IdArgs),
    /// List them.
    List(ListArgs),
    /// Change description or metadata, or replace all rules.
    Update(UpdateArgs),
    /// Delete one that no endpoint uses, with its rules.
    Delete(IdArgs),
}

/// Many rules at once.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// Rules, one on each line: `allow CIDR`, `deny CIDR`, or a CIDR to allow; `#` begins a comment (`-` reads
    /// standard input). They replace all there are.
    #[arg(long, value_name = "FILE")]
    rules_file: Option<PathBuf>,
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    common: Common,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Its id.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    common: Common,
}

/// Does it.
pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(args) => {
            let body = body(args.labels, &args.rules)?;
            common::create(KIND, body, &args.common).await.map(drop)
        }
        Verb::Get(args) => common::get(KIND, &args).await.map(drop),
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Update(args) => {
            let body = body(args.labels, &args.rules)?;
            common::update(KIND, &args.id, body, &args.common).await
        }
        Verb::Delete(args) => common::delete(KIND, &args, &[]).await,
    }
}

fn body(labels: Labels, rules: &Rules) -> Result<Body, Failure> {
    let rules = match &rules.rules_file {
        Some(path) => Some(read_rules(path, &read_file(path)?)?),
        None => None,
    };
    Ok(Body::labelled(labels).with("rules", rules))
}

fn unreadable(path: &Path, cause: impl std::fmt::Display) -> Failure {
    Failure::Known(Error::new(
        Code::ConfigUnreadable,
        format!("{}: {cause}", path.display()),
    ))
}

fn read_file(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let limit = defaults::RULES_FILE_BYTES_MAX;
    let mut text = String::new();
    let read = if path == Path::new("-") {
        let input = std::io::stdin().lock();
        input.take(limit + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).map_err(|cause| unreadable(path, cause))?;
        file.take(limit + 1).read_to_string(&mut text)
    };
    let bytes = read.map_err(|cause| unreadable(path, cause))?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > limit) {
        return Err(unreadable(path, "larger than 8 MiB"));
    }
    Ok(text)
}

/// The rules of a file. What a CIDR must be is for the API to say.
fn read_rules(path: &Path, text: &str) -> Result<Vec<Value>, Failure> {
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(rule, _)| rule);
        let words: Vec<&str> = line.split_whitespace().collect();
        let (action, cidr) = match words[..] {
            [] => continue,
            [cidr] => ("allow", cidr),
            [action @ ("allow" | "deny"), cidr] => (action, cidr),
            _ => {
                let cause = format!(
                    "line {}: write `allow CIDR`, `deny CIDR`, or a CIDR to allow",
                    number + 1
                );
                return Err(unreadable(path, cause));
            }
        };
        rules.push(json!({"cidr": cidr, "action": action}));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_rules_is_read_by_lines() {
        let text = "# office\nallow 10.0.0.0/8\n\n  deny 10.1.0.0/16 # guests\n192.0.2.0/24\n";
        let rules = read_rules(Path::new("f"), text).expect("legal");
        let expected = [
            json!({"cidr": "10.0.0.0/8", "action": "allow"}),
            json!({"cidr": "10.1.0.0/16", "action": "deny"}),
            json!({"cidr": "192.0.2.0/24", "action": "allow"}),
        ];
        assert_eq!(rules, expected);
        for wrong in ["drop 10.0.0.0/8", "allow 10.0.0.0/8 now"] {
            assert!(read_rules(Path::new("f"), wrong).is_err(), "{wrong}");
        }
    }
}
