//! Pages: newest first, `limit` and `before_id`, and the absolute URL of the next page.
//!
//! The order is that of the ids, which is that of time to the second: it stays the same when what
//! `before_id` names is deleted while someone pages.

use std::fmt::Display;
use std::str::FromStr;

use portcullis_model::Code;
use portcullis_policy::Filter;
use serde::Serialize;
use utoipa::PartialSchema;
use utoipa::openapi::{RefOr, Schema};

use super::caller::Caller;
use super::errors::Refusal;
use super::id;
use crate::defaults::{FILTER_ITEMS_MAX, PAGE_ITEMS_MAX};

/// The parameters that every list takes.
pub(crate) const PARAMETERS: [&str; 3] = ["before_id", "limit", "filter"];

/// What a list was asked for.
#[derive(Debug)]
pub(crate) struct Page<I> {
    limit: usize,
    before: Option<I>,
    filter: Option<Filter>,
}

/// One page, ready to be shown.
#[derive(Debug)]
pub(crate) struct Paged<V> {
    pub(crate) items: Vec<V>,
    pub(crate) uri: String,
    pub(crate) next_page_uri: Option<String>,
}

impl<I> Page<I>
where
    I: FromStr + Ord + Display,
    I::Err: Display,
{
    /// Reads the parameters of a list of `V`s.
    pub(crate) fn of<V: PartialSchema>(caller: &Caller) -> Result<Self, Refusal> {
        let filter = caller.parameter("filter").filter(|text| !text.is_empty());
        let filter = filter.map(filter_of::<V>).transpose()?;
        let limit = match caller.parameter("limit").filter(|text| !text.is_empty()) {
            None => PAGE_ITEMS_MAX,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=PAGE_ITEMS_MAX).contains(limit))
                .ok_or_else(|| {
                    let shown: String = text.chars().take(20).collect();
                    Refusal::new(
                        Code::ApiPageSize,
                        format!("`{shown}` is no limit; use 1 to {PAGE_ITEMS_MAX}"),
                    )
                })?,
        };
        let before = caller
            .parameter("before_id")
            .filter(|text| !text.is_empty())
            .map(id::parse)
            .transpose()?;
        Ok(Self {
            limit,
            before,
            filter,
        })
    }

    /// What the page ends before, for a list that can begin there.
    pub(crate) fn before(&self) -> Option<&I> {
        self.before.as_ref()
    }

    /// Cuts the page out of `items`, which come newest first, and shows each that passes the filter. A page may
    /// hold fewer than its limit, and still have a next one: what one request looks at is bounded.
    pub(crate) fn cut<T, V: Serialize>(
        self,
        caller: &Caller,
        items: impl Iterator<Item = T>,
        id: impl Fn(&T) -> &I,
        show: impl Fn(T) -> V,
    ) -> Paged<V> {
        let before = self.before.as_ref();
        let items = items.filter(|item| before.is_none_or(|before| id(item) < before));
        let items = items.map(|item| (id(&item).to_string(), show(item)));
        let now = jiff::Timestamp::now().as_second();
        let passes = |shown: &V| {
            self.filter.as_ref().is_none_or(|filter| {
                serde_json::to_value(shown).is_ok_and(|value| filter.matches(&value, now))
            })
        };
        let (items, next) = gather(items, self.limit, FILTER_ITEMS_MAX, passes);
        Paged {
            items,
            uri: caller.page_uri(),
            next_page_uri: next.map(|last| caller.next_page_uri(&last)),
        }
    }
}

/// The first `limit` items that pass, looking at `most` at most; and, when another that passes follows or may
/// follow, the id behind which it does.
fn gather<V>(
    items: impl Iterator<Item = (String, V)>,
    limit: usize,
    most: usize,
    passes: impl Fn(&V) -> bool,
) -> (Vec<V>, Option<String>) {
    let mut page = Vec::with_capacity(limit.min(16));
    let mut last = None;
    for (looked_at, (id, shown)) in items.enumerate() {
        if looked_at == most {
            return (page, last);
        }
        if passes(&shown) {
            if page.len() == limit {
                return (page, last);
            }
            page.push(shown);
        }
        last = Some(id);
    }
    (page, None)
}

/// Reads a filter over what a `V` shows.
fn filter_of<V: PartialSchema>(text: &str) -> Result<Filter, Refusal> {
    let fields = fields_of(V::schema());
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    Ok(Filter::parse(text, &fields)?)
}

/// The fields of an object, as its schema names them.
fn fields_of(schema: RefOr<Schema>) -> Vec<String> {
    match schema {
        RefOr::T(Schema::Object(object)) => object.properties.into_keys().collect(),
        RefOr::T(_) | RefOr::Ref(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::views::api_key::ApiKeyView;
    use crate::views::endpoint::EndpointView;

    #[test]
    fn every_field_that_is_shown_can_be_asked_for() {
        for (fields, some) in [
            (fields_of(ApiKeyView::schema()), ["owner_id", "created_at"]),
            (fields_of(EndpointView::schema()), ["type", "hostport"]),
        ] {
            for name in some {
                assert!(fields.iter().any(|field| field == name), "{fields:?}");
            }
        }
    }

    /// Walks along the pages of 1 to `count` as a client does; what it saw, and in how many requests.
    fn walk(count: u32, limit: usize, most: usize, passes: fn(&u32) -> bool) -> (Vec<u32>, usize) {
        let (mut seen, mut requests, mut before) = (Vec::new(), 0, 0);
        loop {
            let items = (before + 1..=count).map(|n| (n.to_string(), n));
            let (page, next) = gather(items, limit, most, passes);
            assert!(page.len() <= limit);
            seen.extend(page);
            requests += 1;
            let Some(next) = next else {
                return (seen, requests);
            };
            let next = next.parse().expect("an id");
            assert!(next > before, "every page goes on");
            before = next;
        }
    }

    #[test]
    fn pages_with_a_filter_hold_every_match_once() {
        let even: fn(&u32) -> bool = |n| n % 2 == 0;
        let evens: Vec<u32> = (1..=100).filter(even).collect();
        for limit in [1, 3, 49, 50, 51, 100] {
            for most in [1, 2, 7, 99, 100, 1_000] {
                let (seen, _) = walk(100, limit, most, even);
                assert_eq!(seen, evens, "{limit} {most}");
            }
        }
        // The limit counts matches; a page that is just full is the last.
        assert_eq!(walk(100, 50, 1_000, even).1, 1);
        assert_eq!(walk(100, 25, 1_000, even).1, 2);
    }

    #[test]
    fn a_request_looks_at_so_many_and_no_more() {
        let looked_at = std::cell::Cell::new(0);
        let items = (1..).map(|n: u32| {
            looked_at.set(looked_at.get() + 1);
            (n.to_string(), n)
        });
        let (page, next) = gather(items, 10, 100, |_| false);
        assert_eq!((page.len(), next.as_deref()), (0, Some("100")));
        assert!(looked_at.get() <= 101, "{}", looked_at.get());
        assert_eq!(walk(1_000, 10, 100, |n| *n == 950).0, [950]);
    }
}
