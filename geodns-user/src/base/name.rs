//! Domain names: as people write them, and what stands above one.

use bytes::Bytes;

/// A domain name.
pub type Name = domain::base::Name<Bytes>;

/// A name in presentation format, absolute with or without its last dot; in lower case. Or what is
/// wrong with it.
pub fn parse_name(text: &str) -> Result<Name, String> {
    if text.is_empty() {
        return Err("an empty name; write one, as \"www.example.org\"".to_owned());
    }
    if !text.is_ascii() {
        return Err(format!(
            "{text:?} has letters outside ASCII; write its labels in their \"xn--\" form"
        ));
    }
    // Labels hold 63 octets, names 255.
    let mut name: domain::base::Name<Vec<u8>> = text.parse().map_err(|error| {
        format!("{text:?} is not a domain name ({error}); write one, as \"www.example.org\"")
    })?;
    name.make_canonical();
    Name::from_octets(name.into_octets().into())
        .map_err(|_| format!("{text:?} is not a domain name; correct it"))
}

/// A name to put something at, as [`parse_name`] has it. Below a wildcard it would make that wildcard a name
/// that is there, which answers for no other (RFC 4592 section 2.2.2).
pub fn parse_owner(text: &str) -> Result<Name, String> {
    let name = parse_name(text)?;
    match name.iter().skip(1).any(|label| label.as_slice() == b"*") {
        true => Err(format!(
            "{text:?} has a * that is not its first label: *.example.org would answer for no other name; \
             write * as the first label only"
        )),
        false => Ok(name),
    }
}

/// The octets of each name above `name`, nearest first, down to and with `apex`.
pub fn ancestors<'a>(
    name: &'a domain::base::Name<[u8]>,
    apex: &Name,
) -> impl Iterator<Item = &'a domain::base::Name<[u8]>> + use<'a> {
    let apex_len = apex.len();
    let mut at = 0;
    std::iter::from_fn(move || {
        if name.len() - at <= apex_len {
            return None;
        }
        at += 1 + usize::from(name.as_slice()[at]);
        Some(name.slice_from(at))
    })
}
