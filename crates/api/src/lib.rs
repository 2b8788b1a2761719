//! REST types, error codes, the OpenAPI document and the client of the API.
