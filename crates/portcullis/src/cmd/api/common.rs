//! What the resources share: their flags, request bodies, and how answers are shown.
//!
//! Must never: name a single resource.

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};

use crate::api_client::{self, ApiArgs, Client, Page};
use crate::failure::Failure;
use crate::output::{self, Format};

/// Fields that a table leaves out: links, and what is said in words below it.
const NOT_SHOWN: [&str; 4] = ["uri", "cname", "dns_hint", "traffic_policy_notices"];

/// How a resource is asked for and shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Its path, with a slash in front.
    pub(crate) path: &'static str,
    /// The key of the list in an answer.
    pub(crate) key: &'static str,
    /// Columns of a list: header and field.
    pub(crate) columns: &'static [(&'static str, &'static str)],
}

/// Flags of every request.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    /// How the answer is shown; a table on a terminal, JSON elsewhere.
    #[arg(long, short, value_enum)]
    pub(crate) output: Option<Format>,
}

/// `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    common: Common,
}

/// `get`, `delete`, and actions on one item.
#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// Its id.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Free text on a resource.
#[derive(Debug, Args)]
pub(crate) struct Labels {
    /// What it is for, at most 255 bytes.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Text for programs, often JSON, at most 4,096 bytes.
    #[arg(long, value_name = "TEXT")]
    metadata: Option<String>,
}

/// A request body under construction; absent fields are left out.
#[derive(Debug, Default)]
pub(crate) struct Body(Map<String, Value>);

impl Body {
    /// A body with the labels.
    pub(crate) fn labelled(labels: Labels) -> Self {
        Self::default()
            .with("description", labels.description)
            .with("metadata", labels.metadata)
    }

    /// Adds a field if there is a value.
    pub(crate) fn with(mut self, field: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.0.insert(field.to_owned(), value.into());
        }
        self
    }

    /// Adds a list if it has items.
    pub(crate) fn with_list(self, field: &str, items: Vec<String>) -> Self {
        let list =
            (!items.is_empty()).then(|| items.into_iter().map(Value::from).collect::<Vec<Value>>());
        self.with(field, list)
    }

    /// The JSON to send.
    pub(crate) fn value(self) -> Value {
        Value::Object(self.0)
    }
}

/// Lists a resource.
pub(crate) async fn list(kind: Kind, args: ListArgs) -> Result<(), Failure> {
    list_at(kind.path, kind, args).await
}

/// Lists what belongs to one item of another kind.
pub(crate) async fn list_below(
    above: Kind,
    id: &str,
    kind: Kind,
    args: ListArgs,
) -> Result<(), Failure> {
    let path = format!("{}/{}", item(above, id)?, kind.key);
    list_at(&path, kind, args).await
}

async fn list_at(path: &str, kind: Kind, args: ListArgs) -> Result<(), Failure> {
    let answer = Client::new(&args.common.api)?
        .list(path, kind.key, &args.page)
        .await?;
    match Format::settle(args.common.output) {
        Format::Json => print_json(&answer),
        Format::Table => print_list(kind, &answer),
    }
    Ok(())
}

/// Makes one.
pub(crate) async fn create(kind: Kind, body: Body, common: &Common) -> Result<Value, Failure> {
    let answer = Client::new(&common.api)?
        .call(Method::POST, kind.path, &[], Some(body.value()))
        .await?;
    show(&answer, common);
    Ok(answer)
}

/// Shows one.
pub(crate) async fn get(kind: Kind, args: &IdArgs) -> Result<Value, Failure> {
    let answer = Client::new(&args.common.api)?
        .call(Method::GET, &item(kind, &args.id)?, &[], None)
        .await?;
    show(&answer, &args.common);
    Ok(answer)
}

/// Changes one.
pub(crate) async fn update(
    kind: Kind,
    id: &str,
    body: Body,
    common: &Common,
) -> Result<(), Failure> {
    change(kind, id, body, common).await.map(drop)
}

/// Changes one; the answer.
pub(crate) async fn change(
    kind: Kind,
    id: &str,
    body: Body,
    common: &Common,
) -> Result<Value, Failure> {
    let answer = Client::new(&common.api)?
        .call(Method::PATCH, &item(kind, id)?, &[], Some(body.value()))
        .await?;
    show(&answer, common);
    Ok(answer)
}

/// Deletes one.
pub(crate) async fn delete(
    kind: Kind,
    args: &IdArgs,
    query: &[(&str, String)],
) -> Result<(), Failure> {
    Client::new(&args.common.api)?
        .call(Method::DELETE, &item(kind, &args.id)?, query, None)
        .await?;
    done(&args.common, &format!("{} deleted", args.id));
    Ok(())
}

/// An action on one.
pub(crate) async fn act(kind: Kind, verb: &str, args: &IdArgs, said: &str) -> Result<(), Failure> {
    let path = format!("{}/{verb}", item(kind, &args.id)?);
    Client::new(&args.common.api)?
        .call(Method::POST, &path, &[], Some(Body::default().value()))
        .await?;
    done(&args.common, &format!("{} {said}", args.id));
    Ok(())
}

/// The path of one item; an id is a word of its own, so that nothing else of the API can be reached by it.
fn item(kind: Kind, id: &str) -> Result<String, Failure> {
    let plain = !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if !plain {
        return Err(Failure::Usage(format!(
            "`{id}` is not an id; ids are letters, digits and an underscore, such as ep_2NfK3…"
        )));
    }
    Ok(format!("{}/{id}", kind.path))
}

/// Says that it is done, to people.
fn done(common: &Common, text: &str) {
    if Format::settle(common.output) == Format::Table {
        output::line(text);
    }
}

/// Shows one resource.
pub(crate) fn show(value: &Value, common: &Common) {
    match Format::settle(common.output) {
        Format::Json => print_json(value),
        Format::Table => print_item(value),
    }
}

fn print_json(value: &Value) {
    output::line(&serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string()));
}

fn print_list(kind: Kind, answer: &Value) {
    let empty = Vec::new();
    let items = answer
        .get(kind.key)
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    // With a filter a page may be empty, and a later one not.
    let next = api_client::next_page(answer);
    if items.is_empty() {
        output::note("nothing there");
        if let Some(before) = next {
            output::note(&format!("there may be more: --before-id {before}"));
        }
        return;
    }
    let headers: Vec<&str> = kind.columns.iter().map(|(header, _)| *header).collect();
    let rows = items
        .iter()
        .map(|item| {
            kind.columns
                .iter()
                .map(|(_, field)| cell(pick(item, field)))
                .collect()
        })
        .collect();
    output::line(&output::table(&headers, rows));
    if let Some(before) = next {
        output::note(&format!("there is more: --before-id {before}"));
    }
}

fn print_item(value: &Value) {
    let Some(fields) = value.as_object() else {
        return;
    };
    let shown = |(name, value): (&String, &Value)| {
        let text = cell(Some(value));
        (!NOT_SHOWN.contains(&name.as_str()) && !text.is_empty()).then(|| (name.clone(), text))
    };
    let rows: Vec<(String, String)> = fields.iter().filter_map(shown).collect();
    let rows: Vec<(&str, String)> = rows
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    output::line(&output::fields(&rows));
    if fields.get("token").is_some_and(Value::is_string) {
        output::note("The token is shown this once; keep it now.");
    }
}

/// A field by its dotted path.
fn pick<'a>(item: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(item, |value, part| value.get(part))
}

/// A value in few characters: a reference is its id, a list its items.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => clean(text),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| cell(Some(item)))
            .collect::<Vec<_>>()
            .join(", "),
        Some(Value::Object(map)) => match map.get("id") {
            Some(id) => cell(Some(id)),
            None => {
                let set = map.iter().filter(|(_, value)| !value.is_null());
                set.map(|(name, value)| format!("{name}={}", cell(Some(value))))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
        },
        Some(other) => other.to_string(),
    }
}

/// Text of others without control characters: it must not steer the terminal.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind {
        path: "/endpoints",
        key: "endpoints",
        columns: &[],
    };

    #[test]
    fn an_id_cannot_reach_another_path() {
        assert_eq!(item(KIND, "ep_1").unwrap(), "/endpoints/ep_1");
        for bad in ["", "../accounts", "a/b", "a?b", "a b"] {
            assert!(item(KIND, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cells_are_short_and_harmless() {
        let item: Value = serde_json::json!({"a": {"id": "cr_1", "uri": "x"}, "b": ["p", "q"], "c": "\u{1b}[2J", "d": null, "e": {"x": null, "y": 1}});
        assert_eq!(cell(pick(&item, "e")), "y=1");
        assert_eq!(cell(pick(&item, "a")), "cr_1");
        assert_eq!(cell(pick(&item, "a.uri")), "x");
        assert_eq!(cell(pick(&item, "b")), "p, q");
        assert_eq!(cell(pick(&item, "c")), "\u{fffd}[2J");
        assert_eq!(cell(pick(&item, "d")), "");
    }
}
