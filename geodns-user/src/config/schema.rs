//! The JSON Schema of `geodns.toml`, for editors, and for [`shape`](super::shape).

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::file::File;

/// The schema (JSON Schema, draft 2020-12).
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<File>().to_value();
    without_null(&mut schema);
    schema
}

/// TOML has no null: a key that may be left out is left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(of) => {
            of.remove("default");
            if let Some(Value::Array(types)) = of.get_mut("type") {
                types.retain(|one| one != "null");
                if let [one] = &types[..] {
                    let one = one.clone();
                    of.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(either)) = of.get_mut("anyOf") {
                either.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
                // One that is left stands for itself.
                if let [Value::Object(one)] = &either[..] {
                    let one = one.clone();
                    of.remove("anyOf");
                    for (key, value) in one {
                        of.entry(key).or_insert(value);
                    }
                }
            }
            for (key, value) in of {
                match (key.as_str(), value) {
                    // Here keys are names, and no words of a schema.
                    ("properties" | "$defs", Value::Object(named)) => {
                        named.values_mut().for_each(without_null);
                    }
                    (_, value) => without_null(value),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(without_null),
        _ => (),
    }
}
