//! JSON objects into request structs, with ngrok's errors: an unknown field lists the legal ones, a
//! wrong value names its field.
//!
//! Owns: the trick that asks a struct for its field names. Must never: know a struct.

use portcullis_model::Code;
use serde::de::value::Error as ValueError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde_json::{Map, Value};

use super::errors::Refusal;

/// Reads `T`, every field of which is optional.
pub(crate) fn read<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, Refusal> {
    let legal = names::<T>();
    let mut unknown = object
        .keys()
        .filter(|name| !legal.contains(&name.as_str()))
        .peekable();
    if unknown.peek().is_some() {
        let unknown = unknown
            .map(|name| shown(name))
            .collect::<Vec<_>>()
            .join(", ");
        let message = format!(
            "unknown field {unknown}; the fields here are {}",
            legal.join(", ")
        );
        return Err(Refusal::new(Code::ApiUnknownField, message));
    }
    match T::deserialize(Value::Object(object.clone())) {
        Ok(read) => Ok(read),
        Err(whole) => Err(blame::<T>(object, &whole)),
    }
}

/// Finds the field with the wrong value: read alone, it fails alone.
fn blame<T: DeserializeOwned>(object: Map<String, Value>, whole: &serde_json::Error) -> Refusal {
    for (name, value) in object {
        let alone = Value::Object(Map::from_iter([(name.clone(), value)]));
        if let Err(cause) = T::deserialize(alone) {
            let cause = cause.to_string();
            let unknown = cause.starts_with("unknown field");
            let code = if unknown {
                Code::ApiUnknownField
            } else {
                Code::ApiInvalidValue
            };
            return Refusal::new(code, format!("{}: {cause}", shown(&name)));
        }
    }
    Refusal::new(Code::ApiInvalidValue, whole.to_string())
}

/// A name from outside, short enough to repeat.
fn shown(name: &str) -> String {
    format!("`{}`", name.chars().take(64).collect::<String>())
}

/// The names of a struct's fields, as serde knows them.
pub(crate) fn names<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut names: &'static [&'static str] = &[];
    // The answer is in `names`; the error is how the deserializer stops there.
    drop(T::deserialize(Names(&mut names)));
    names.to_vec()
}

struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ValueError> {
        Err(ValueError::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ValueError> {
        *self.0 = fields;
        Err(ValueError::custom("names taken"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        most: Option<u32>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: Option<String>,
        limits: Option<Inner>,
    }

    fn refused(value: Value) -> (Code, String) {
        let Value::Object(object) = value else {
            panic!("an object")
        };
        let refusal = read::<Sample>(object).expect_err("must be refused");
        (refusal.error.code, refusal.error.message)
    }

    #[test]
    fn null_is_absent() {
        let Value::Object(object) = json!({"name": null}) else {
            panic!("an object")
        };
        assert_eq!(read::<Sample>(object).expect("legal"), Sample::default());
    }

    #[test]
    fn an_unknown_field_lists_the_legal_ones() {
        let (code, message) = refused(json!({"nmae": 1}));
        assert_eq!(code, Code::ApiUnknownField);
        assert!(
            message.contains("`nmae`") && message.contains("name, limits"),
            "{message}"
        );
        let (code, message) = refused(json!({"limits": {"mots": 1}}));
        assert_eq!(code, Code::ApiUnknownField);
        assert!(
            message.contains("`limits`") && message.contains("most"),
            "{message}"
        );
    }

    #[test]
    fn a_wrong_value_names_its_field() {
        let (code, message) = refused(json!({"limits": {}, "name": 7}));
        assert_eq!(code, Code::ApiInvalidValue);
        assert!(
            message.starts_with("`name`") && message.contains("expected a string"),
            "{message}"
        );
    }
}
