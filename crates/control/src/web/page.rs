//! Pages: newest first, `limit` and `before_id`, and the absolute URL of the next page.
//!
//! The order is that of the ids, which is that of time to the second: it stays the same when what
//! `before_id` names is deleted while someone pages.

use std::fmt::Display;
use std::str::FromStr;

use portcullis_model::Code;

use super::caller::Caller;
use super::errors::Refusal;
use super::id;
use crate::defaults::PAGE_ITEMS_MAX;

/// The parameters that every list takes.
pub(crate) const PARAMETERS: [&str; 3] = ["before_id", "limit", "filter"];

/// What a list was asked for.
#[derive(Debug)]
pub(crate) struct Page<I> {
    limit: usize,
    before: Option<I>,
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
    /// Reads the parameters.
    pub(crate) fn of(caller: &Caller) -> Result<Self, Refusal> {
        if caller
            .parameter("filter")
            .is_some_and(|filter| !filter.is_empty())
        {
            return Err(Refusal::new(
                Code::ApiFilterInvalid,
                "filters are not supported yet; leave `filter` out",
            ));
        }
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
        Ok(Self { limit, before })
    }

    /// Cuts the page out of `items`, which come newest first, and shows each.
    pub(crate) fn cut<T, V>(
        self,
        caller: &Caller,
        items: impl Iterator<Item = T>,
        id: impl Fn(&T) -> &I,
        show: impl Fn(T) -> V,
    ) -> Paged<V> {
        let mut rest = items
            .filter(|item| self.before.as_ref().is_none_or(|before| id(item) < before))
            .peekable();
        let mut page = Vec::with_capacity(self.limit.min(16));
        let mut last = None;
        while page.len() < self.limit {
            let Some(item) = rest.next() else { break };
            last = Some(id(&item).to_string());
            page.push(show(item));
        }
        let next = rest
            .peek()
            .and(last)
            .map(|last| caller.next_page_uri(&last));
        Paged {
            items: page,
            uri: caller.page_uri(),
            next_page_uri: next,
        }
    }
}
