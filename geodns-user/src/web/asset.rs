//! Files that pages load: styles, scripts, the icon. They are in the binary, and a browser keeps them for as long as the
//! page names the same version.

use std::sync::LazyLock;

use axum::extract::{Path, RawQuery};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;

use super::{gzip, takes_gzip};
use crate::base::sha256;

/// A file.
struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
    gzip: Bytes,
}

/// All files.
static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let css = "text/css; charset=utf-8";
    let script = "text/javascript; charset=utf-8";
    let files: [(&str, &str, &'static [u8]); 5] = [
        ("style.css", css, include_bytes!("assets/style.css")),
        ("live.js", script, include_bytes!("assets/live.js")),
        (
            "icon.svg",
            "image/svg+xml",
            include_bytes!("assets/icon.svg"),
        ),
        (
            "uplot.css",
            css,
            include_bytes!("assets/uplot/uPlot.min.css"),
        ),
        (
            "uplot.js",
            script,
            include_bytes!("assets/uplot/uPlot.iife.min.js"),
        ),
    ];
    let all = files.into_iter().map(|(name, kind, content)| Asset {
        name,
        kind,
        content,
        gzip: gzip(content, Compression::best()).into(),
    });
    all.collect()
});

/// The version of all files together, which stands in their addresses.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let all: Vec<u8> = ASSETS
            .iter()
            .flat_map(|asset| asset.content)
            .copied()
            .collect();
        sha256::short(&all)
    });
    &VERSION
}

/// `GET /assets/NAME`
pub async fn file(
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let tag = format!("\"{}\"", version());
    let is_named = query.as_deref() == Some(version());
    let caching = match is_named {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let cached = [
        (header::CACHE_CONTROL, caching),
        (header::ETAG, tag.as_str()),
        (header::VARY, "accept-encoding"),
    ];
    let known = headers.get(header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, cached).into_response();
    }
    let kind = [(header::CONTENT_TYPE, asset.kind)];
    match takes_gzip(&headers) {
        true => {
            let coding = [(header::CONTENT_ENCODING, "gzip")];
            (cached, kind, coding, asset.gzip.clone()).into_response()
        }
        false => (cached, kind, asset.content).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_small_and_load_nothing_from_elsewhere() {
        let sum: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(sum < 60_000, "{sum}");
        for asset in ASSETS.iter() {
            let text = String::from_utf8_lossy(asset.content);
            let links = text.matches("http://").count() + text.matches("https://").count();
            // Names of XML, and uPlot's own address in its head.
            let names = text.matches("http://www.w3.org/").count()
                + text.matches("https://github.com/leeoniya/uPlot").count();
            assert_eq!(links, names, "{}", asset.name);
        }
    }
}
