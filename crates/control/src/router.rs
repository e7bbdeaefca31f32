//! The routes with everything around them, from the outside in: frame, then for the API proper CORS and
//! the gate.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, Method, header};
use axum::middleware::from_fn_with_state;
use portcullis_model::Code;
use tower_http::cors::{Any, CorsLayer};

use crate::app::App;
use crate::defaults::CORS_MAX_AGE;
use crate::resources;
use crate::web::reply::REVISION;
use crate::web::{Refusal, frame, gate};

/// The whole API as a service.
pub(crate) fn router(app: &App) -> Router {
    let (private, _) = resources::private().split_for_parts();
    let private = private
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), gate::gate))
        .layer(cors());
    let (public, _) = resources::public().split_for_parts();
    let public = public.method_not_allowed_fallback(wrong_method);
    private
        .merge(public)
        .layer(from_fn_with_state(app.clone(), frame::frame))
        .with_state(app.clone())
}

/// Browsers may call the API from any page: they have no key unless the page brings one.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("ngrok-version"),
            HeaderName::from_static("portcullis-account"),
            REVISION,
        ])
        .expose_headers([REVISION, frame::OPERATION])
        .max_age(CORS_MAX_AGE)
}

async fn nowhere(request: Request) -> Refusal {
    let path: String = request.uri().path().chars().take(120).collect();
    Refusal::new(Code::ApiNotFound, format!("no such path: {path}"))
}

async fn wrong_method(request: Request) -> Refusal {
    let path: String = request.uri().path().chars().take(120).collect();
    Refusal::new(
        Code::ApiMethod,
        format!("{path} does not take {}", request.method()),
    )
}
