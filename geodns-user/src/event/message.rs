//! Notifications: an event in the form that a target takes, and its signature.

use serde::Serialize;
use serde_json::json;

use super::{Event, Level};
use crate::base::clock::utc;

/// Label of alerts that are ours: one that comes back is no verdict of another monitor.
pub const SOURCE: (&str, &str) = ("source", "geodns");
/// An alert ends by itself after this time, if its end has not come through.
const ALERT_MS: u64 = 7 * 24 * 3600 * 1000;

/// An event, and the node that it is of.
#[derive(Serialize)]
struct OfNode<'a> {
    node: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// The event as the API has it, and the node.
pub fn json(node: &str, event: &Event) -> String {
    serde_json::to_string(&OfNode { node, event }).expect("plain data")
}

/// A message for Slack, whose text has three characters that mean something.
pub fn slack(node: &str, event: &Event) -> String {
    let sign = match event.level {
        Level::Info => "",
        Level::Warn => ":warning: ",
        Level::Error => ":rotating_light: ",
    };
    let text = format!("{node}: {}", event.text);
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    json!({ "text": format!("{sign}{text}") }).to_string()
}

/// An alert for Alertmanager, or its end; `None`: the event is neither.
pub fn alert(node: &str, event: &Event) -> Option<String> {
    let (name, begins) = event.kind.alert()?;
    let pool = event.pools.first().filter(|_| event.mirror.is_none());
    let labels = [
        ("mirror", event.mirror.as_ref()),
        ("pool", pool),
        ("zone", event.zone.as_ref()),
        ("interface", event.interface.as_ref()),
    ];
    let labels = labels
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?.as_str())));
    let own = [("alertname", name), ("instance", node), SOURCE];
    let labels: serde_json::Map<_, _> = own
        .into_iter()
        .chain(labels)
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let mut alert = json!({
        "labels": labels,
        "annotations": { "summary": event.text },
    });
    let at = event.time_unix_ms;
    match begins {
        true => {
            alert["startsAt"] = utc(at).into();
            alert["endsAt"] = utc(at.saturating_add(ALERT_MS)).into();
        }
        false => alert["endsAt"] = utc(at).into(),
    }
    Some(json!([alert]).to_string())
}

/// The value of the header `geodns-signature`: HMAC-SHA256 over the time, a dot, and the body.
pub fn signature(secret: &[u8], unix_s: u64, body: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let tag = ring::hmac::sign(&key, format!("{unix_s}.{body}").as_bytes());
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    format!("t={unix_s},v1={hex}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::Kind;
    use super::*;

    #[test]
    fn each_format_has_its_form() {
        let mut event = Event::of(7, Kind::MirrorOut, Some("ams"));
        event.text = "mirror ams: <b>&".to_owned();
        event.pools = vec!["www".to_owned()];
        let plain: Value = serde_json::from_str(&json("ns1", &event)).unwrap();
        assert_eq!((&plain["node"], &plain["seq"]), (&"ns1".into(), &7.into()));
        assert_eq!(plain["kind"], "mirror_out");
        let slack: Value = serde_json::from_str(&slack("ns1", &event)).unwrap();
        assert_eq!(slack["text"], "ns1: mirror ams: &lt;b&gt;&amp;");
        let begins: Value = serde_json::from_str(&alert("ns1", &event).unwrap()).unwrap();
        assert_eq!(begins[0]["labels"]["alertname"], "GeodnsMirrorOut");
        assert_eq!(begins[0]["labels"]["mirror"], "ams");
        assert!(begins[0]["labels"]["pool"].is_null());
        event.kind = Kind::MirrorIn;
        let ends: Value = serde_json::from_str(&alert("ns1", &event).unwrap()).unwrap();
        assert_eq!(begins[0]["labels"], ends[0]["labels"]);
        assert_eq!(ends[0]["endsAt"], "1970-01-01T00:00:07.000Z");
        event.kind = Kind::Reload;
        assert_eq!(alert("ns1", &event), None);
    }

    /// As `openssl dgst -sha256 -hmac` gives it.
    #[test]
    fn a_signature_is_over_time_and_body() {
        assert_eq!(
            signature(b"0123456789abcdef", 1_700_000_000, "{}"),
            "t=1700000000,v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e"
        );
    }
}
