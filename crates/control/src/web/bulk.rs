//! The body of a write that brings many items at once: larger than others, and never a tree of JSON values
//! in memory, which would be a hundred times its bytes. The items are read as what they are, up to the
//! most there may be, and every other field is a plain value.

use std::fmt;
use std::marker::PhantomData;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use portcullis_model::Code;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};

use super::body;
use super::errors::Refusal;
use super::fields;
use crate::app::App;
use crate::defaults::BULK_BODY_BYTES_MAX;

/// A request with one field that holds many items.
pub(crate) trait Bulk: DeserializeOwned {
    /// The field.
    const FIELD: &'static str;
    /// One more than this and the rest is not read.
    const ITEMS_MAX: usize;
    /// What it holds.
    type Item: DeserializeOwned;

    /// Puts them where they belong.
    fn take(&mut self, items: Vec<Self::Item>);
}

/// The body of a creation, as [`super::Body`].
pub(crate) struct BulkBody<T>(pub(crate) T);

/// The body of an update, as [`super::Changes`].
pub(crate) struct BulkChanges<T>(pub(crate) T);

impl<T: Bulk> FromRequest<App> for BulkBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        let mut parts: Parts<T> = read(request, app).await?;
        parts
            .plain
            .retain(|_, value| !value.is_null() && value.as_str() != Some(""));
        parts.whole().map(Self)
    }
}

impl<T: Bulk> FromRequest<App> for BulkChanges<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        let (request, id) = body::id_of_path(request, app).await;
        let mut parts: Parts<T> = read(request, app).await?;
        body::take_id(&mut parts.plain, &id)?;
        parts.plain.retain(|_, value| !value.is_null());
        if parts.plain.is_empty() && parts.items.is_none() {
            return Err(Refusal::of(Code::ApiEmptyUpdate));
        }
        parts.whole().map(Self)
    }
}

/// Reads a body. A large one takes one of few places while it arrives and is read.
async fn read<T: Bulk>(request: Request, app: &App) -> Result<Parts<T>, Refusal> {
    let (head, content) = request.into_parts();
    body::check_content_type(&head.headers)?;
    let usual = u64::try_from(app.config.body_bytes_max).unwrap_or(u64::MAX);
    let large = content.size_hint().upper().is_none_or(|most| most > usual);
    let _place = match large {
        true => Some(app.limits.start_bulk()?),
        false => None,
    };
    let most = app.config.body_bytes_max.max(BULK_BODY_BYTES_MAX);
    let bytes = body::read(content, most).await?;
    let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
    serde_json::from_slice(&bytes).map_err(|cause| {
        let unknown = cause.to_string().starts_with("unknown field");
        let (code, message) = match cause.is_data() {
            true if unknown => (Code::ApiUnknownField, cause.to_string()),
            true if is_object => (Code::ApiInvalidValue, cause.to_string()),
            true => {
                let message = "the body is JSON, but no object".to_owned();
                (Code::ApiBodyUnparsable, message)
            }
            false => {
                let message = format!("the body is not JSON: {cause}");
                (Code::ApiBodyUnparsable, message)
            }
        };
        Refusal::new(code, message)
    })
}

/// A body, its many items apart from the rest.
struct Parts<T: Bulk> {
    plain: Map<String, Value>,
    items: Option<Vec<T::Item>>,
}

impl<T: Bulk> Parts<T> {
    fn whole(self) -> Result<T, Refusal> {
        let mut whole: T = fields::read(self.plain)?;
        if let Some(items) = self.items {
            whole.take(items);
        }
        Ok(whole)
    }
}

impl<'de, T: Bulk> Deserialize<'de> for Parts<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PartsVisitor(PhantomData))
    }
}

struct PartsVisitor<T>(PhantomData<T>);

impl<'de, T: Bulk> Visitor<'de> for PartsVisitor<T> {
    type Value = Parts<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts<T>, A::Error> {
        let mut parts = Parts {
            plain: Map::new(),
            items: None,
        };
        while let Some(name) = map.next_key::<String>()? {
            if name == T::FIELD {
                parts.items = map.next_value::<Option<Items<T>>>()?.map(|items| items.0);
                continue;
            }
            if parts.plain.len() >= FIELDS_MAX {
                return Err(A::Error::custom("the object has too many fields"));
            }
            let shown: String = name.chars().take(64).collect();
            let Plain(value) = map
                .next_value()
                .map_err(|cause| A::Error::custom(format!("`{shown}`: {cause}")))?;
            parts.plain.insert(name, value);
        }
        Ok(parts)
    }
}

/// Fields beside the items; a request struct has a handful.
const FIELDS_MAX: usize = 64;

struct Items<T: Bulk>(Vec<T::Item>);

impl<'de, T: Bulk> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor(PhantomData))
    }
}

struct ItemsVisitor<T>(PhantomData<T>);

impl<'de, T: Bulk> Visitor<'de> for ItemsVisitor<T> {
    type Value = Items<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` as a list", T::FIELD)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items<T>, A::Error> {
        let mut items = Vec::new();
        while items.len() <= T::ITEMS_MAX {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(Items(items)),
            }
        }
        Err(A::Error::custom(format!(
            "`{}` has more than {} items",
            T::FIELD,
            T::ITEMS_MAX
        )))
    }
}

/// A value without a value inside.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor)
    }
}

struct PlainVisitor;

impl Visitor<'_> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a boolean")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Plain, E> {
        Ok(Plain(Value::Null))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Plain, E> {
        Ok(Plain(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Plain, E> {
        Ok(Plain(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Plain, E> {
        Ok(Plain(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Plain, E> {
        Ok(Plain(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Plain, E> {
        Ok(Plain(value.into()))
    }
}
