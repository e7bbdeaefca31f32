//! What actions leave for later expressions, under `actions.ngrok`.

use serde_json::{Map, Value, json};

use portcullis_model::Error;

/// The tree under `actions.ngrok`. An action that runs again overwrites what it left.
pub(super) struct Outputs(Value);

impl Default for Outputs {
    fn default() -> Self {
        Self(Value::Object(Map::new()))
    }
}

impl Outputs {
    pub(super) fn tree(&self) -> &Value {
        &self.0
    }

    pub(super) fn set(&mut self, action: &str, left: Value) {
        if let Value::Object(tree) = &mut self.0 {
            tree.insert(action.to_owned(), left);
        }
    }
}

/// An error as expressions see it; without one both texts are empty.
pub(super) fn error(error: Option<&Error>) -> Value {
    match error {
        Some(error) => json!({ "code": error.code.as_str(), "message": error.message }),
        None => json!({ "code": "", "message": "" }),
    }
}
