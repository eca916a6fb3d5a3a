//! The OpenAPI document: what the routes say of themselves, made whole.
//!
//! Handlers and shapes describe themselves where they stand. This adds what they share: a description of every
//! response, which OpenAPI requires, and the forms of text that the code takes, as schemas of their own.

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, PathItem, RefOr, Schema};
use utoipa::{Modify, PartialSchema, ToSchema};

/// A form of text: what the code parses, as a schema.
macro_rules! text {
    ($(#[doc = $doc:literal])+ $name:ident, $pattern:literal, $example:literal) => {
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some(concat!($($doc),+).trim()))
                    .pattern(Some($pattern))
                    .examples([$example])
                    .into()
            }
        }

        impl ToSchema for $name {}
    };
}

text!(
    /// IPv4 or IPv6 address.
    Address,
    r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$",
    "192.0.2.7"
);
text!(
    /// Address prefix whose host bits are zero.
    Prefix,
    r"^([0-9]{1,3}(\.[0-9]{1,3}){3}/([0-9]|[12][0-9]|3[0-2])|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))$",
    "192.0.2.0/24"
);
text!(
    /// Id of a mirror or a pool.
    Id,
    r"^[A-Za-z0-9._-]{1,63}$",
    "ams"
);
text!(
    /// Domain name, with or without a dot at its end.
    Name,
    r"^[!-~]{1,1015}$",
    "www.example.org"
);
text!(
    /// Type of records: a mnemonic, or `TYPE` and a number (RFC 3597).
    RecordType,
    r"^[A-Za-z0-9-]{1,16}$",
    "AAAA"
);
/// Gives every response that has no description of its own one.
pub struct Described;

impl Modify for Described {
    fn modify(&self, document: &mut OpenApi) {
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            let summary = operation.summary.clone().unwrap_or_default();
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else {
                    continue;
                };
                if response.description.is_empty() {
                    response.description = match &**status {
                        "default" => "Nothing has changed; the Problem says why.".to_owned(),
                        _ => summary.clone(),
                    };
                }
            }
        }
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        ..
    } = path;
    [get, put, post, delete].into_iter().flatten()
}
