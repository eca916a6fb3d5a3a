//! Values that several calls take: forms of text as schemas of their own, and the bounds of times.

use std::time::Duration;

use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

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

/// The longest time that a drain or a change of weight may take, or a verdict may hold.
pub const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Complains of a time that is out of bounds.
pub fn check_time(key: &str, millis: Option<u64>, least: u64) -> Result<(), String> {
    let most = MAX_TIME.as_millis() as u64;
    match millis {
        Some(millis) if !(least..=most).contains(&millis) => Err(format!(
            "{key}: {millis} is out of range; write {least} to {most}, in milliseconds"
        )),
        _ => Ok(()),
    }
}
