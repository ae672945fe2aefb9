use super::*;
use crate::document::{Meta, Tdm};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

fn allows(robots: &str, agent: &str, path: &str) -> bool {
    robots::allows(robots.as_bytes(), agent, &Url::parse("https://example.org").unwrap().join(path).unwrap())
}

fn page(url: &str) -> Document {
    Document {
        id: "page-1".into(),
        source: "web".into(),
        language: "fr".into(),
        license: "CC-BY-4.0".into(),
        text: "x".into(),
        meta: Meta { url: Some(url.into()), ..Meta::default() },
    }
}

/// The rule that refuses an address.
fn rule(rights: &Rights, url: &str) -> Option<String> {
    rights.check(&page(url)).err().map(|rejection| rejection.rule.into_owned())
}

#[test]
fn rules_of_the_rfc() {
    for (pattern, path, expected) in [
        // RFC 9309, 2.2.2 and 2.2.3.
        ("/foo/bar?baz=quz", "/foo/bar?baz=quz", true),
        ("/foo/bar?baz=https://foo.bar", "/foo/bar?baz=https%3A%2F%2Ffoo.bar", false),
        ("/foo/bar/ツ", "/foo/bar/%E3%83%84", true),
        ("/foo/bar/%E3%83%84", "/foo/bar/ツ", true),
        ("/foo/bar/%62%61%7A", "/foo/bar/baz", true),
        ("/foo/bar/baz", "/foo/bar/%62%61%7A", true),
        ("/a%3cd.html", "/a%3Cd.html", true),
        ("/path/file-with-a-%2A.html", "/path/file-with-a-*.html", true),
        ("/path/foo-%24", "/path/foo-$", true),
        ("/this/*/exactly", "/this/path/exactly", true),
        ("/this/path/exactly$", "/this/path/exactly/", false),
        ("/this/path/exactly$", "/this/path/exactly", true),
        // Google's examples of paths.
        ("/", "/anything", true),
        ("/fish", "/fishheads/yummy.html", true),
        ("/fish", "/Fish.asp", false),
        ("/fish*", "/fish.html", true),
        ("/fish/", "/fish", false),
        ("/*.php", "/folder/any.php.file.html", true),
        ("/*.php$", "/filename.php?parameters", false),
        ("/*.php$", "/folder/filename.php", true),
        ("/fish*.php", "/fishheads/catfish.php?parameters", true),
        ("/a*a$", "/aba", true),
        ("/a*a$", "/a", false),
        ("*", "/x", true),
        ("fish", "/fish", false),
        ("/$", "/", true),
        ("/$", "/page", false),
        ("/a$b", "/a$b", true),
        ("/a$b", "/a", false),
        ("/**b*$", "/xb", true),
        ("/100%", "/100%25", true),
    ] {
        let robots = format!("User-agent: *\nDisallow: {pattern}\n");
        assert_eq!(!allows(&robots, "any", path), expected, "{pattern} {path}");
    }
    // The longest match, and Allow where two are as long (2.2.2).
    let longest = "User-Agent: foobot\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n\
        Disallow: /folder\nAllow: /folder\nDisallow: /\n";
    assert!(allows(longest, "foobot", "/example/page/x") && !allows(longest, "foobot", "/example/page/disallowed.gif"));
    assert!(allows(longest, "foobot", "/folder/x") && !allows(longest, "foobot", "/x"));
    assert!(allows(longest, "other", "/x") && allows(longest, "foobot", "/robots.txt"));
}

#[test]
fn groups_of_the_rfc() {
    // The example of 5.1: groups, merged ones, and the one for all others.
    let example = "\u{feff}User-Agent: *\r\nDisallow: *.gif$\r\nDisallow: /example/\r\nAllow: /publications/\r\n\r\n\
        User-Agent: foobot\rDisallow:/\rAllow:/example/page.html\rAllow:/example/allowed.gif\n\n\
        User-Agent: barbot\nUser-Agent: BazBot/2.1 (+https://x)\nSitemap: https://x\nDisallow: /example/page.html # no\n\n\
        User-Agent: quxbot\n\nuser-agent: BARBOT\nDisallow : /more\n";
    for (agent, path, expected) in [
        ("any", "/x.gif", false),
        ("any", "/publications/x", true),
        ("FooBot", "/publications/x", false),
        ("foobot", "/example/page.html", true),
        ("barbot", "/example/page.html", false),
        ("bazbot", "/example/page.html", false),
        ("bazbot", "/more", true),
        ("barbot", "/more", false),
        ("barbot", "/x.gif", true),
        // Named without rules of its own up to the next agent: the same group.
        ("quxbot", "/more", false),
        ("quxbot", "/x.gif", true),
    ] {
        assert_eq!(allows(example, agent, path), expected, "{agent} {path}");
    }
    assert!(allows("Disallow: /\n", "any", "/x"), "a rule before any agent");
    assert!(allows("User-agent: *\nDisallow:\n", "any", "/x"), "an empty rule forbids nothing");
    assert!(!allows("User-agent: a\nCrawl-delay: 1\nUser-agent: b\nDisallow: /\n", "a", "/x"), "others end no group");
    let long = format!("User-agent: *\nDisallow: /a\n{}Disallow: /b\n", "#\n".repeat(robots::BODY_MAX / 2));
    assert!(!allows(&long, "any", "/a") && allows(&long, "any", "/b"), "the bound");
    for (text, malformed) in [
        ("<!doctype html>\n<p>x</p>", true),
        ("", false),
        ("# nothing\n", false),
        ("\u{0}\u{1}", true),
        ("Disallow: /", false),
    ] {
        assert_eq!(robots::parse(text.as_bytes(), &[]).malformed, malformed, "{text:?}");
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn warc_record(url: &str, response: &str) -> String {
    let length = response.len();
    format!(
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nContent-Length: {length}\r\n\r\n{response}\r\n\r\n"
    )
}

#[test]
fn every_form_gives_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let robots = "User-agent: GPTBot\nDisallow: /private/\n";
    write(&root.join("flat/example.org.txt"), robots.as_bytes());
    write(&root.join("nested/Example.org/robots.txt"), robots.as_bytes());
    let line = serde_json::json!({"url": "https://EXAMPLE.org/robots.txt", "status": 200, "body": robots}).to_string();
    write(&root.join("lines.jsonl.zst"), &zstd::encode_all(line.as_bytes(), 1).unwrap());
    let response = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n{robots}");
    write(&root.join("c.warc"), warc_record("https://example.org/robots.txt", &response).as_bytes());
    for name in ["flat", "nested", "lines.jsonl.zst", "c.warc", "flat/example.org.txt"] {
        let config = RightsConfig { robots: vec![root.join(name)], ..RightsConfig::default() };
        let rights = Rights::load(&config).unwrap();
        assert_eq!(rights.robots_bytes().0, 1, "{name}");
        assert_eq!(rule(&rights, "https://example.org/private/x").as_deref(), Some("rights/robots"), "{name}");
        assert_eq!(rule(&rights, "https://example.org/public"), None, "{name}");
        let detail = rights.check(&page("http://example.org/private/")).unwrap_err().detail;
        assert_eq!(detail, "GPTBot: Disallow: /private/", "{name}");
        assert_eq!(rule(&rights, "https://other.org/").as_deref(), Some("rights/robots-unknown"), "{name}");
        assert_eq!(rule(&rights, "share/doc/x.html"), None);
    }
}

#[test]
fn hosts_of_which_something_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.jsonl");
    let line = |host: &str, status: u16, body: &str| {
        serde_json::json!({"host": host, "status": status, "body": body}).to_string()
    };
    let none = "User-agent: *\nDisallow: /";
    let lines = [
        line("a.fr", 404, ""),
        line("b.fr", 503, ""),
        line("c.fr", 200, "<html>"),
        line("d.fr", 200, none),
        line("e.fr:8080", 200, none),
        // The rules of all files of a host bind.
        line("f.fr", 200, "User-agent: CCBot\nDisallow: /x"),
        line("f.fr", 404, ""),
        line("f.fr", 200, "User-agent: CCBot\nDisallow: /y"),
    ];
    let rules = |lines: &[String], change: fn(&mut RightsConfig)| {
        fs::write(&path, lines.join("\n")).unwrap();
        let mut config = RightsConfig { robots: vec![path.clone()], ..RightsConfig::default() };
        change(&mut config);
        let rights = Rights::load(&config).unwrap();
        ["a.fr", "b.fr", "c.fr", "d.fr", "e.fr", "e.fr:8080", "f.fr/x", "f.fr/y", "f.fr/z"]
            .map(|place| rule(&rights, &format!("https://{place}")).unwrap_or_default().replace("rights/robots", "R"))
    };
    let expected = ["", "R-unreachable", "", "R", "R-unknown", "R", "R", "R", ""];
    assert_eq!(rules(&lines, |_| {}), expected);
    let mut backwards = lines.clone();
    backwards.reverse();
    assert_eq!(rules(&backwards, |_| {}), expected);
    let other = |config: &mut RightsConfig| {
        (config.absent, config.malformed) = (Policy::Drop, Policy::Drop);
        (config.unreachable, config.unknown, config.star) = (Policy::Keep, Policy::Keep, false);
    };
    assert_eq!(rules(&lines, other), ["R-absent", "", "R-malformed", "", "", "", "R", "R", ""]);
    for bad in ["{", "{\"body\": \"x\"}", "{\"host\": 1}", "[]", "{\"host\": \"\", \"status\": 99999}"] {
        fs::write(&path, format!("\n{bad}")).unwrap();
        let error = Rights::load(&RightsConfig { robots: vec![path.clone()], ..RightsConfig::default() }).unwrap_err();
        assert!(error.to_string().contains("r.jsonl: line 2: "), "{error}");
    }
}

#[test]
fn a_host_takes_its_name_and_little_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.jsonl.gz");
    let mut file = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let (hosts, mut names) = (50_000usize, 0);
    for number in 0..hosts {
        let host = format!("www.exemple-{number}.fr");
        names += host.len();
        // One in ten has rules of its own; the others share a hundred files.
        let own = if number % 10 == 0 { number } else { number % 100 };
        let body = format!(
            "User-agent: *\nDisallow: /wp-admin/{own}\nAllow: /wp-admin/x.php\n\nUser-agent: GPTBot\nDisallow: /\n"
        );
        std::io::Write::write_fmt(&mut file, format_args!("{}\n", serde_json::json!({"host": host, "body": body})))
            .unwrap();
    }
    file.finish().unwrap();
    let rights = Rights::load(&RightsConfig { robots: vec![path], ..RightsConfig::default() }).unwrap();
    let (known, bytes) = rights.robots_bytes();
    println!(
        "{known} hosts, {:.1} bytes of names each, {:.1} in all",
        names as f64 / hosts as f64,
        bytes as f64 / hosts as f64
    );
    assert_eq!(known, hosts);
    assert!(bytes < names + hosts * 24, "{bytes}");
}

#[test]
fn opted_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.txt");
    let list = "# list\nexample.org\nmedia.fr/moi/\nhttps://autre.fr/a?b=1\nid:page-7\nMüller.de\n\nport.fr:8080\n";
    fs::write(&path, list).unwrap();
    let rights = Rights::load(&RightsConfig { opt_out: vec![path.clone()], ..RightsConfig::default() }).unwrap();
    for (url, expected) in [
        ("https://example.org/", true),
        ("http://a.b.EXAMPLE.org:81/x", true),
        ("https://notexample.org/", false),
        ("https://example.org.evil.com/", false),
        ("https://media.fr/moi", true),
        ("https://media.fr/moi/x", true),
        ("https://media.fr/moi?x", true),
        ("https://media.fr/moins", false),
        ("https://www.media.fr/moi", false),
        ("https://autre.fr/a?b=1", true),
        ("https://xn--mller-kva.de/x", true),
        ("https://port.fr:8080/", true),
        ("https://port.fr/", false),
    ] {
        assert_eq!(rule(&rights, url), expected.then(|| "rights/opt-out".to_owned()), "{url}");
    }
    let mut document = page("x");
    document.id = "page-7".into();
    assert_eq!(rights.check(&document).unwrap_err().detail, "id:page-7");
    for bad in ["foo", "ftp://x.org", "http://", &"x".repeat(20_000)] {
        fs::write(&path, bad).unwrap();
        assert!(
            Rights::load(&RightsConfig { opt_out: vec![path.clone()], ..RightsConfig::default() }).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn reserved_by_tdm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    let body = r#"[{"location": "/press/*.html", "tdm-reservation": 1, "tdm-policy": "https://x"},
        {"location": "/free", "tdm-reservation": 0}]"#;
    let lines = [
        serde_json::json!({"host": "a.fr", "body": body}).to_string(),
        serde_json::json!({"host": "b.fr", "body": "<html>"}).to_string(),
    ];
    fs::write(&path, lines.join("\n")).unwrap();
    let rights = Rights::load(&RightsConfig { tdm_files: vec![path], ..RightsConfig::default() }).unwrap();
    assert_eq!(rule(&rights, "https://a.fr/press/1.html").as_deref(), Some("rights/tdm-file"));
    assert_eq!(rule(&rights, "https://a.fr/free"), None);
    assert_eq!(rule(&rights, "https://b.fr/press/1.html"), None);
    let mut document = page("https://c.fr");
    document.meta.tdm = Some(Tdm { reserved: true, policy: Some("https://c.fr/terms".into()) });
    assert_eq!(rights.check(&document).unwrap_err().to_string(), "rights/tdm: https://c.fr/terms");
    document.meta.tdm = Some(Tdm { reserved: false, policy: None });
    assert_eq!(rights.check(&document), Ok(()));
    let deaf = Rights::load(&RightsConfig { tdm: false, ..RightsConfig::default() }).unwrap();
    document.meta.tdm = Some(Tdm { reserved: true, policy: None });
    assert_eq!(deaf.check(&document), Ok(()));
}

/// Matching by trying everything.
fn matches_slowly(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => true,
        [b'$'] => path.is_empty(),
        [b'*', rest @ ..] => (0..=path.len()).any(|at| matches_slowly(rest, &path[at..])),
        [first, rest @ ..] => path.first() == Some(first) && matches_slowly(rest, &path[1..]),
    }
}

proptest! {
    #[test]
    fn matching_is_what_it_should_be(pattern in "/[ab*]{0,8}\\$?", path in "/[ab]{0,10}") {
        prop_assert_eq!(robots::matches(&pattern, &path), matches_slowly(pattern.as_bytes(), path.as_bytes()));
    }

    #[test]
    fn normalising_twice_changes_nothing(path in "\\PC{0,20}|(%[0-9a-fA-F]{0,2}|[a-z/*$ ]){0,10}") {
        let once = robots::normalise(path.as_bytes(), true);
        prop_assert_eq!(robots::normalise(once.as_bytes(), true), once.clone());
        prop_assert!(once.is_ascii());
    }

    #[test]
    fn any_bytes_are_parsed(body in proptest::collection::vec(any::<u8>(), 0..200), text in "((user-agent|allow|disallow)?:? ?[a*/$%]{0,4}[\r\n#]?){0,20}") {
        let url = Url::parse("https://example.org/a/b").unwrap();
        robots::allows(&body, "a", &url);
        robots::allows(text.as_bytes(), "a", &url);
    }
}
