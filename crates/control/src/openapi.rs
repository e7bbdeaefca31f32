//! The OpenAPI document: gathered from the handlers, completed with what all of them share. It is
//! committed as `docs/openapi.json`; a test compares.

use std::sync::LazyLock;

use utoipa::PartialSchema as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{InfoBuilder, OpenApi, Ref, RefOr, ResponseBuilder};

use crate::resources;
use crate::web::errors::{ErrorBody, ErrorDetails};

/// The document as text, made once.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = build().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
});

/// The OpenAPI document of the API, pretty-printed.
pub fn openapi_json() -> String {
    document().to_owned()
}

pub(crate) fn document() -> &'static str {
    &DOCUMENT
}

const DESCRIPTION: &str = "ngrok's REST API as far as TCP goes, and what Portcullis adds. Every request but those \
tagged `system` carries `Authorization: Bearer KEY` and `Ngrok-Version: 2`. An admin key acts for another account with \
`Portcullis-Account: ac_…`. A write answers with `Portcullis-Revision`; a read that sends it back sees at least that \
write, on any node.";

fn build() -> OpenApi {
    let (_, mut document) = resources::private()
        .merge(resources::public())
        .split_for_parts();
    document.info = InfoBuilder::new()
        .title("Portcullis")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .build();
    document.security = Some(vec![SecurityRequirement::new(
        "api_key",
        Vec::<String>::new(),
    )]);
    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components
        .security_schemes
        .insert("api_key".to_owned(), RefOr::T(bearer));
    components
        .schemas
        .insert("Error".to_owned(), ErrorBody::schema());
    components
        .schemas
        .insert("ErrorDetails".to_owned(), ErrorDetails::schema());
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        operations.into_iter().flatten().for_each(complete);
    }
    document
}

/// Every operation may fail, with one body.
fn complete(operation: &mut Operation) {
    let content = utoipa::openapi::Content::new(Some(RefOr::Ref(Ref::from_schema_name("Error"))));
    let refused = ResponseBuilder::new()
        .description("Refused.")
        .content("application/json", content)
        .build();
    operation
        .responses
        .responses
        .insert("default".to_owned(), RefOr::T(refused));
}
