//! Expressions: CEL, with the variables and functions of ngrok's Traffic Policy.

use portcullis_model::Error;

/// A filter over the objects of an API list.
#[derive(Debug, Clone)]
pub struct Filter;

impl Filter {
    /// Reads a filter over objects with these fields.
    ///
    /// # Errors
    /// `PTC_API_FILTER_INVALID`, with what is wrong and where.
    pub fn parse(_text: &str, _fields: &[&str]) -> Result<Self, Error> {
        Err(Error::of(portcullis_model::Code::ApiFilterInvalid))
    }

    /// Whether the object passes. What cannot be evaluated does not. `now_seconds`: since 1970.
    pub fn matches(&self, _object: &serde_json::Value, _now_seconds: i64) -> bool {
        false
    }
}
