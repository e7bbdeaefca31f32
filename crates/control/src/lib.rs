//! Control: the REST API, authentication, audit, OpenAPI.
