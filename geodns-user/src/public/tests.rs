//! The pages, asked by strangers: each form as programs read it, and what is refused.

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::*;

struct Fixed(Vec<Listed>);

impl Source for Fixed {
    fn settings(&self) -> Option<Settings> {
        Some(Settings {
            trusted_proxies: Arc::from(["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]),
            rate: 3,
        })
    }

    fn visit(&self, client: IpAddr) -> Option<Visit> {
        Some(Visit {
            client,
            country: Some("NL".to_owned()),
            pool: "www".to_owned(),
            now_unix_ms: 10_000_000,
            mirrors: self.0.clone(),
        })
    }
}

fn mirrors() -> Vec<Listed> {
    let mirror = |id: &str, country: &str| Listed {
        id: id.to_owned(),
        url: Some(format!("https://{id}.example.org/pub/")),
        country: Some(country.to_owned()),
        in_service: true,
        takes_visitor: true,
        ..Listed::default()
    };
    vec![
        Listed {
            name: Some("ams.mirrors.example.org".to_owned()),
            sponsor: Some("<script>alert('x')</script> & \"Co\"".to_owned()),
            bandwidth: Some(2_500_000_000),
            distance_km: Some(12.6),
            trace_unix_ms: Some(1_000_000),
            ..mirror("ams", "NL")
        },
        mirror("fra", "DE"),
        Listed {
            in_service: false,
            ..mirror("iad", "US")
        },
        Listed {
            takes_visitor: false,
            ..mirror("campus", "NL")
        },
        Listed {
            url: None,
            ..mirror("none", "NL")
        },
    ]
}

struct Asked {
    status: u16,
    headers: HeaderMap,
    body: String,
}

/// Asks as a client that is connected from an address.
async fn ask_from(router: &Router, peer: &str, uri: &str, forwarded: &[&str]) -> Asked {
    let mut request = axum::http::Request::get(uri).header("host", "a");
    for value in forwarded {
        request = request.header("x-forwarded-for", *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let peer = SocketAddr::new(peer.parse().unwrap(), 1);
    request.extensions_mut().insert(ConnectInfo(peer));
    let router = TowerToHyperService::new(router.clone());
    let response = router.call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Asked {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn ask(uri: &str) -> Asked {
    ask_from(&router(Arc::new(Fixed(mirrors()))), "192.0.2.1", uri, &[]).await
}

#[tokio::test]
async fn lists_are_in_the_forms_of_their_programs() {
    let (ams, fra) = (
        "https://ams.example.org/pub/",
        "https://fra.example.org/pub/",
    );
    for (query, expected) in [
        ("", format!("{ams}\n{fra}\n")),
        ("?for=plain&path=/a/b%20c", String::new()),
        (
            "?for=plain&path=/a/b%2520c",
            format!("{ams}a/b%20c\n{fra}a/b%20c\n"),
        ),
        (
            "?for=pacman",
            format!("Server = {ams}$repo/os/$arch\nServer = {fra}$repo/os/$arch\n"),
        ),
        (
            "?for=pacman&path=$arch/$repo",
            format!("Server = {ams}$arch/$repo\nServer = {fra}$arch/$repo\n"),
        ),
        ("?for=dnf&country=de", format!("{fra}\n")),
        ("?for=apt&not=x,ams", format!("{fra}\tpriority:1\n")),
        (
            "?for=apt",
            format!("{ams}\tpriority:1\n{fra}\tpriority:2\n"),
        ),
    ] {
        let asked = ask(&format!("/mirrorlist{query}")).await;
        if expected.is_empty() {
            assert_eq!(asked.status, 400, "{query}");
            continue;
        }
        assert_eq!((asked.status, asked.body), (200, expected), "{query}");
        assert_eq!(asked.headers["content-type"], "text/plain; charset=utf-8");
    }
    for (query, status) in [
        ("?for=yum", 400),
        ("?x=1", 400),
        ("?path=../etc", 400),
        ("?path=a/%252e%252E/b", 400),
        ("?path=a%0aServer", 400),
        ("?path=a%3Cb", 400),
        ("?country=FR", 404),
        ("?not=ams,fra", 404),
    ] {
        assert_eq!(
            ask(&format!("/mirrorlist{query}")).await.status,
            status,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_file_is_at_several_mirrors() {
    let asked = ask("/to/dists/a%20b/Release?x=1").await;
    assert_eq!(asked.status, 302);
    let first = "https://ams.example.org/pub/dists/a%20b/Release";
    assert_eq!(asked.headers["location"], first);
    let links = format!(
        "<{first}>; rel=duplicate; pri=1; geo=nl, \
         <https://fra.example.org/pub/dists/a%20b/Release>; rel=duplicate; pri=2; geo=de"
    );
    assert_eq!(asked.headers["link"], links);
    for path in ["/to/../x", "/to/a/%2e%2e/b", "/to/a%2f..%2fb", "/to/..%5cb"] {
        assert_eq!(ask(path).await.status, 400, "{path}");
    }
    let asked = ask("/metalink?path=iso/a.iso").await;
    assert_eq!(asked.headers["content-type"], "application/metalink4+xml");
    let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n <file name=\"a.iso\">\n  \
        <url location=\"nl\" priority=\"1\">https://ams.example.org/pub/iso/a.iso</url>\n  \
        <url location=\"de\" priority=\"2\">https://fra.example.org/pub/iso/a.iso</url>\n </file>\n</metalink>\n";
    assert_eq!(asked.body, expected);
    let asked = ask("/metalink?path=repodata/repomd.xml&for=dnf&country=DE").await;
    let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <metalink version=\"3.0\" xmlns=\"http://www.metalinker.org/\" type=\"dynamic\">\n <files>\n  \
        <file name=\"repomd.xml\"><resources>\n   \
        <url protocol=\"https\" type=\"https\" location=\"DE\" preference=\"100\">https://fra.example.org/pub/repodata/repomd.xml</url>\n  \
        </resources></file>\n </files>\n</metalink>\n";
    assert_eq!(asked.body, expected);
    for query in ["", "?path=", "?path=a/", "?path=a&for=apt"] {
        assert_eq!(
            ask(&format!("/metalink{query}")).await.status,
            400,
            "{query}"
        );
    }
}

#[tokio::test]
async fn what_is_shown_is_escaped_and_bound_to_the_page() {
    let asked = ask("/").await;
    assert!(
        asked
            .body
            .contains("&#60;script&#62;alert(&#39;x&#39;)&#60;/script&#62; &#38; &#34;Co&#34;")
    );
    assert!(!asked.body.contains("<script"));
    for shown in [
        "2.5 Gbit/s",
        "13 km",
        "2 h",
        "ams.mirrors.example.org",
        "not for your network",
    ] {
        assert!(asked.body.contains(shown), "{shown}");
    }
    let policy = asked.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"));
    let asked = ask("/mirrors.json").await;
    let all: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(all["visitor"], "192.0.2.1");
    assert_eq!(all["mirrors"][0]["age_s"], 9000);
    assert_eq!(all["mirrors"][0]["distance_km"], 13.0);
    assert_eq!(all["mirrors"][3]["takes_visitor"], false);
    for (method, path) in [
        ("POST", "/"),
        ("PUT", "/mirrors.json"),
        ("DELETE", "/mirrorlist"),
    ] {
        let request = axum::http::Request::builder().method(method).uri(path);
        let mut request = request.body(Body::empty()).unwrap();
        let peer: SocketAddr = "192.0.2.1:1".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let router = TowerToHyperService::new(router(Arc::new(Fixed(mirrors()))));
        assert_eq!(
            router.call(request).await.unwrap().status(),
            405,
            "{method} {path}"
        );
    }
    assert_eq!(ask("/v1/mirrors").await.status, 404);
}

#[tokio::test]
async fn the_visitor_is_who_a_trusted_proxy_says() {
    for (peer, forwarded, visitor) in [
        ("192.0.2.1", vec!["198.51.100.1"], "192.0.2.1"),
        ("10.0.0.1", vec![], "10.0.0.1"),
        ("10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
        (
            "::ffff:10.0.0.1",
            vec!["::ffff:198.51.100.1"],
            "198.51.100.1",
        ),
        // What stands before an address that is no proxy may be forged.
        (
            "10.0.0.1",
            vec!["203.0.113.1, 198.51.100.1"],
            "198.51.100.1",
        ),
        (
            "10.0.0.1",
            vec!["198.51.100.1, 10.1.1.1", "10.2.2.2"],
            "198.51.100.1",
        ),
        ("::1", vec!["2001:db8::1, 10.1.1.1"], "2001:db8::1"),
        ("10.0.0.1", vec!["nonsense"], "10.0.0.1"),
        (
            "10.0.0.1",
            vec!["198.51.100.1, nonsense, 10.1.1.1"],
            "10.1.1.1",
        ),
        ("10.0.0.1", vec![""], "10.0.0.1"),
    ] {
        let router = router(Arc::new(Fixed(Vec::new())));
        let asked = ask_from(&router, peer, "/mirrors.json", &forwarded).await;
        let all: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(all["visitor"], visitor, "{peer} {forwarded:?}");
    }
}

#[tokio::test]
async fn requests_of_a_prefix_over_the_rate_are_refused() {
    let router = router(Arc::new(Fixed(mirrors())));
    let mut refused = 0;
    for host in 0..50 {
        let asked = ask_from(&router, &format!("192.0.2.{host}"), "/", &[]).await;
        if asked.status == 429 {
            assert_eq!(asked.headers["retry-after"], "1");
            refused += 1;
        }
    }
    // Twice the rate at once; a slow machine lets a few more through.
    assert!(refused > 0);
    let rates = Rates::default();
    let (client, now) = ("192.0.2.1".parse().unwrap(), Instant::now());
    let taken = |now| (0..20).filter(|_| rates.take(client, 3, now)).count();
    assert_eq!(taken(now), 6);
    assert_eq!(taken(now + std::time::Duration::from_secs(1)), 3);
    assert_eq!(taken(now + std::time::Duration::from_secs(60)), 6);
    assert!((0..1000).all(|_| rates.take(client, 0, now)));
}
