//! Every format gives what was written; damage costs what is damaged and nothing before it; no bytes make a reader panic or hang.
#![allow(clippy::unwrap_used)]

mod common;

use common::{documents, write_columns, write_jsonl, write_parquet};
use essaim_corpus::config::{Format, SourceConfig};
use essaim_corpus::document::{Document, Tdm};
use essaim_corpus::license::{LicenseConfig, LicenseFrom, Licenses};
use essaim_corpus::readers::{BadRow, Counts, Item, ReadError, quiet_guarded_panics, read_unit, units};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

struct Read {
    documents: Vec<Document>,
    bad: Vec<BadRow>,
    end: Result<Counts, ReadError>,
}

fn read_with(config: &SourceConfig) -> Read {
    let unit = &units(std::slice::from_ref(config)).unwrap()[0];
    let (mut documents, mut bad) = (Vec::new(), Vec::new());
    let end = read_unit(unit, config, &mut |item| {
        match item {
            Item::Document(document) => documents.push(document),
            Item::Bad(row) => bad.push(row),
        }
        ControlFlow::Continue(())
    });
    if let Ok(counts) = &end {
        assert_eq!((counts.documents as usize, counts.bad as usize), (documents.len(), bad.len()));
    }
    Read { documents, bad, end }
}

fn read(path: &Path) -> Read {
    read_with(&SourceConfig { path: path.to_owned(), ..SourceConfig::default() })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bodies(documents: &[Document]) -> Vec<(&str, &str, &str)> {
    documents.iter().map(|document| (&*document.id, &*document.language, &*document.text)).collect()
}

#[test]
fn packed_or_not_the_documents_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let written = documents("fr", 40, 60);
    write_parquet(&root.join("x.parquet"), &written);
    write_jsonl(&root.join("x.jsonl"), &written);
    let lines = fs::read(root.join("x.jsonl")).unwrap();
    let (first, second) = lines.split_at(lines.len() / 3);
    fs::write(root.join("x.jsonl.gz"), gzip(&lines)).unwrap();
    fs::write(root.join("members.jsonl.gz"), [gzip(first), gzip(second)].concat()).unwrap();
    fs::write(root.join("x.json.gz"), gzip(&lines)).unwrap();
    fs::write(root.join("x.ndjson.zst"), zstd::encode_all(&*lines, 3).unwrap()).unwrap();
    // What a file begins with decides.
    fs::write(root.join("unnamed.jsonl"), gzip(&lines)).unwrap();
    for name in ["x.parquet", "x.jsonl", "x.jsonl.gz", "members.jsonl.gz", "x.json.gz", "x.ndjson.zst", "unnamed.jsonl"]
    {
        let read = read(&root.join(name));
        assert_eq!(bodies(&read.documents), bodies(&written), "{name}");
        assert!(read.bad.is_empty() && read.end.is_ok(), "{name}");
        assert!(read.documents.iter().all(|document| document.license == "CC0-1.0"), "{name}");
    }
    for (name, bytes) in [("fr/a.txt", b"Bonjour".to_vec()), ("fr/b.txt.gz", gzip(b"Bonjour"))] {
        fs::create_dir_all(root.join("text/fr")).unwrap();
        fs::write(root.join("text").join(name), bytes).unwrap();
        let read = read(&root.join("text").join(name));
        let document = &read.documents[0];
        assert_eq!((document.text.as_str(), document.language.as_str()), ("Bonjour", "fr"), "{name}");
        fs::remove_file(root.join("text").join(name)).unwrap();
    }
    fs::write(root.join("fake.jsonl.gz"), &lines).unwrap();
    assert!(read(&root.join("fake.jsonl.gz")).end.is_err());
}

#[test]
fn other_columns_and_other_names() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let path = root.join("x.parquet");
    let names = ["contenu", "adresse", "titre", "auteur", "jour", "signals", "plus"];
    let values = ["Bonjour", "https://a.fr/x", "T", "A", "1857", "{\"q\":1}", "{\"license\":\"MIT\"}"];
    let columns: Vec<_> = names.iter().zip(values).map(|(name, value)| (*name, vec![Some(value), None])).collect();
    write_columns(&path, &columns);
    let line = r#"{"contenu":"Bonjour","adresse":"https://a.fr/x","titre":"T","auteur":"A","jour":1857,"signals":{"q":1},"plus":{"license":"MIT"}}"#;
    fs::write(root.join("x.jsonl"), line).unwrap();
    let toml = r#"
        path = "x"
        name = "livres"
        language = "fr"
        columns = { text = "contenu", id = "", url = "adresse", title = "titre", author = "auteur", date = "jour", quality_signals = "signals", extra = "plus" }
    "#;
    let config: SourceConfig = toml::from_str(toml).unwrap();
    for (name, id, bad) in [("x.parquet", "x.parquet:0", 1), ("x.jsonl", "x.jsonl:1", 0)] {
        let read = read_with(&SourceConfig { path: root.join(name), ..config.clone() });
        let document = &read.documents[0];
        let meta = &document.meta;
        let said = [&meta.url, &meta.title, &meta.author, &meta.date, &meta.quality_signals, &meta.extra];
        assert_eq!(said.map(|value| value.as_deref().unwrap()), values[1..], "{name}");
        assert_eq!((document.id.as_str(), document.source.as_str(), document.license.as_str()), (id, "livres", "MIT"));
        assert_eq!((read.documents.len(), read.bad.len()), (1, bad));
    }
}

#[test]
fn a_broken_row_costs_that_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    let good = |id: u32| format!(r#"{{"text":"t{id}","language":"fr","source":"s","id":{id}}}"#).into_bytes();
    let long_value = format!(r#"{{"text":"a","language":"fr","source":"s","id":8,"title":"{}"}}"#, "x".repeat(2 << 20));
    let lines: Vec<Vec<u8>> = vec![
        good(1),
        b"{".to_vec(),
        br#"{"text":null,"language":"fr","source":"s","id":2}"#.to_vec(),
        br#"{"text":5,"language":"fr","source":"s","id":3}"#.to_vec(),
        b"{\"text\":\"\xff\"}".to_vec(),
        b"[1]".to_vec(),
        "[".repeat(100_000).into_bytes(),
        br#"{"text":"x","language":"in French, please","source":"s","id":4}"#.to_vec(),
        br#"{"id":5}"#.to_vec(),
        long_value.into_bytes(),
        b" ".to_vec(),
        good(9),
    ];
    fs::write(&path, lines.join(&b'\n')).unwrap();
    let read = read(&path);
    assert_eq!(read.documents.iter().map(|document| document.id.as_str()).collect::<Vec<_>>(), ["1", "9"]);
    let places: Vec<&str> = read.bad.iter().map(|bad| bad.place.as_str()).collect();
    assert_eq!(places, (2..=10).map(|line| format!("line {line}")).collect::<Vec<_>>());
    assert!(read.bad.iter().all(|bad| bad.reason.len() < 2000 && !bad.reason.contains('\n')));
    // Parquet: the row with other bytes, and the one without an id.
    let path = folder.path().join("x.parquet");
    let text = |value| vec![Some(value); 100];
    let mut ids: Vec<String> = (0..100).map(|id| format!("id-{id:04}")).collect();
    ids[41] = "QQQQQQQQ".into();
    let mut ids: Vec<Option<&str>> = ids.iter().map(|id| Some(id.as_str())).collect();
    ids[77] = None;
    write_columns(&path, &[("text", text("x")), ("language", text("fr")), ("source", text("s")), ("id", ids)]);
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<usize> = (0..bytes.len() - 8).filter(|&at| &bytes[at..at + 8] == b"QQQQQQQQ").collect();
    places.iter().for_each(|&at| bytes[at] = 0xff);
    fs::write(&path, bytes).unwrap();
    let read = crate::read(&path);
    assert_eq!((read.documents.len(), read.end.unwrap().bad), (98, 2));
    assert_eq!(read.bad[0].to_string(), "row 41: 'id' is not UTF-8 at its byte 0");
    assert_eq!(read.bad[1].to_string(), "row 77: 'id' is missing or null");
}

#[test]
fn a_receiver_may_break_off() {
    let folder = tempfile::tempdir().unwrap();
    write_parquet(&folder.path().join("x.parquet"), &documents("fr", 300, 20));
    write_jsonl(&folder.path().join("x.jsonl"), &documents("fr", 300, 20));
    for name in ["x.parquet", "x.jsonl"] {
        let config = SourceConfig { path: folder.path().join(name), ..SourceConfig::default() };
        let unit = &units(std::slice::from_ref(&config)).unwrap()[0];
        let mut left = 100;
        let counts = read_unit(unit, &config, &mut |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(counts.unwrap(), Counts { documents: 100, stopped: true, ..Counts::default() });
    }
}

fn record(kind: &str, number: u32, headers: &str, block: &[u8]) -> Vec<u8> {
    let mut record = format!(
        "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: https://a.fr/{number}\r\nWARC-Date: 2026-01-02T03:04:05Z\r\n\
         WARC-Record-ID: <urn:uuid:{number}>\r\n{headers}Content-Length: {}\r\n\r\n",
        block.len()
    )
    .into_bytes();
    record.extend_from_slice(block);
    record.extend_from_slice(b"\r\n\r\n");
    record
}

const PARAGRAPH: &str = "Longtemps, je me suis couché de bonne heure. Parfois, à peine ma bougie éteinte, mes yeux se fermaient si vite \
    que je n'avais pas le temps de me dire : « Je m'endors. » Et, une demi-heure après, la pensée qu'il était temps de chercher le \
    sommeil m'éveillait ; je voulais poser le volume que je croyais avoir encore dans les mains et souffler ma lumière.";

fn page(head: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=fr><head><title>Combray</title>{head}</head><body><nav><ul><li><a href=/>Accueil</a><li>\
         <a href=/b>Boutique</a></ul></nav><article><h1>Combray</h1><p>{PARAGRAPH}</p><p>{PARAGRAPH}</p><p>{PARAGRAPH}</p></article>\
         <footer><a rel=license href='https://creativecommons.org/licenses/by-sa/4.0/'>CC</a> <a href=/legal>Mentions</a></footer>\
         <script>var x = 'Accueil';</script></body></html>"
    )
}

fn response(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), body].concat()
}

fn web() -> Vec<Vec<u8>> {
    let latin: Vec<u8> = page("").chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
    let html =
        |headers: &str, body: &[u8]| response(&format!("Content-Type: text/html; charset=utf-8\r\n{headers}"), body);
    let deep = format!("<html>{}", "<div>".repeat(100_000));
    let zipped = gzip(page("").as_bytes());
    let tdm = "<meta name='TDM-Reservation' content=1><meta name=tdm-policy content='https://a.fr/p'>";
    vec![
        record("warcinfo", 0, "", b"software: x"),
        record("request", 1, "", b"GET / HTTP/1.1\r\n\r\n"),
        record("response", 2, "", &html("tdm-reservation: 1\r\nTDM-Policy: https://a.fr/t\r\n", page("").as_bytes())),
        record("response", 3, "", &response("Content-Type: text/html; charset=iso-8859-1\r\n", &latin)),
        record("response", 4, "", &html("", page(tdm).as_bytes())),
        record("response", 5, "", &html("Content-Encoding: gzip\r\n", &zipped)),
        record("response", 6, "", b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\nno"),
        record("response", 7, "", &response("Content-Type: image/png\r\n", b"\x89PNG")),
        record("response", 8, "", b"not HTTP"),
        record("response", 9, "", &html("", deep.as_bytes())),
        record("response", 10, "", &response("Content-Type: text/plain\r\n", "Déjà vu".as_bytes())),
        record(
            "conversion",
            11,
            "Content-Type: text/plain\r\nWARC-Identified-Content-Language: fra\r\n",
            "Déjà lu\n".as_bytes(),
        ),
        record("conversion", 12, "", b"\xff"),
        record("response", 13, "", &html("", b"")),
    ]
}

#[test]
fn pages_of_the_web() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("x.warc"), web().concat()).unwrap();
    fs::write(root.join("x.warc.gz"), web().iter().map(|record| gzip(record)).collect::<Vec<_>>().concat()).unwrap();
    fs::write(root.join("x.warc.zst"), zstd::encode_all(&*web().concat(), 1).unwrap()).unwrap();
    let plain = read(&root.join("x.warc"));
    assert_eq!(plain.end.as_ref().unwrap(), &Counts { documents: 7, bad: 3, other: 4, stopped: false });
    for name in ["x.warc.gz", "x.warc.zst"] {
        let packed = read(&root.join(name));
        assert_eq!((&packed.documents, &packed.bad), (&plain.documents, &plain.bad));
    }
    let reasons: Vec<String> = plain.bad.iter().map(BadRow::to_string).collect();
    assert_eq!(reasons[0], "record 9: a response without a status line");
    assert_eq!(reasons[1], "record 10: HTML elements nested deeper than 256");
    assert_eq!(reasons[2], "record 13: a text that is not UTF-8 at its byte 0");
    let by = |id: u32| plain.documents.iter().find(|document| document.id == format!("urn:uuid:{id}")).unwrap();
    for id in [2, 3, 4, 5] {
        let document = by(id);
        let expected = [PARAGRAPH; 3].join("\n\n");
        let text = match id {
            3 => document.text.replace('?', "'").replace("d'il", "qu'il"),
            _ => document.text.clone(),
        };
        if id != 3 {
            assert_eq!(text.trim_start_matches("Combray\n\n"), expected, "{id}");
        }
        assert!(
            text.contains("couché de bonne heure") && !text.contains("Boutique") && !text.contains("Accueil"),
            "{id}"
        );
        let meta = &document.meta;
        assert_eq!(meta.url.as_deref(), Some(format!("https://a.fr/{id}").as_str()));
        assert_eq!((meta.title.as_deref(), meta.date.as_deref()), (Some("Combray"), Some("2026-01-02T03:04:05Z")));
        assert_eq!((document.language.as_str(), document.license.as_str()), ("und", "NOASSERTION"));
        let extra: serde_json::Value = serde_json::from_str(meta.extra.as_deref().unwrap()).unwrap();
        assert_eq!(extra["html_lang"], "fr");
        let link = serde_json::json!([{"href": "https://creativecommons.org/licenses/by-sa/4.0/", "marked": true}]);
        assert_eq!(extra["license_links"], link);
    }
    let tdm = |policy: &str| Some(Tdm { reserved: true, policy: Some(policy.into()) });
    assert_eq!([2, 3, 4].map(|id| by(id).meta.tdm.clone()), [tdm("https://a.fr/t"), None, tdm("https://a.fr/p")]);
    assert_eq!([10, 11, 13].map(|id| by(id).text.as_str()), ["Déjà vu", "Déjà lu", ""]);
    assert!(by(11).meta.extra.as_deref().unwrap().contains("\"fra\""));
}

#[test]
fn bytes_between_records_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.wet");
    let one = |number| record("conversion", number, "", b"Bonjour");
    let headless = b"WARC/1.0\r\nWARC-Type: conversion\r\n\r\n".to_vec();
    let long = [b"WARC/1.0\r\nX: ".to_vec(), vec![b'x'; 100_000], b"\r\n\r\n".to_vec()].concat();
    let many = [b"WARC/1.0\r\n".to_vec(), b"a: b\r\n".repeat(1000), b"\r\n".to_vec()].concat();
    let huge = record("conversion", 4, "", &vec![b'x'; 33 << 20]);
    fs::write(
        &path,
        [one(1), b"what is this\n\n".to_vec(), one(2), headless, long, many, one(3), huge, one(5)].concat(),
    )
    .unwrap();
    let read = read(&path);
    let ids: Vec<&str> = read.documents.iter().map(|document| &document.id[9..]).collect();
    assert_eq!(ids, ["1", "2", "3", "5"]);
    assert!(read.bad.iter().any(|bad| bad.reason == "no Content-Length"), "{:?}", read.bad);
    assert!(read.bad.iter().any(|bad| bad.reason.starts_with("a record of 34603008 bytes")), "{:?}", read.bad);
}

#[test]
fn every_licence_of_the_real_corpus_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    if !path.is_dir() {
        println!("skipped: no ../shared/corpus beside the repository");
        return;
    }
    let licenses = Licenses::new(&LicenseConfig::default()).unwrap();
    let config = SourceConfig { path, ..SourceConfig::default() };
    let mut verdicts = BTreeMap::<(String, String), u32>::new();
    for unit in units(std::slice::from_ref(&config)).unwrap() {
        read_unit(&unit, &config, &mut |item| {
            let Item::Document(mut document) = item else { panic!("{item:?}") };
            let verdict = match licenses.decide(&mut document, None) {
                Ok(from) => from.map_or("nowhere", LicenseFrom::name).to_owned(),
                Err(rejection) => rejection.rule.into_owned(),
            };
            *verdicts.entry((verdict, document.license)).or_default() += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    println!("{verdicts:#?}");
    assert_eq!(verdicts.values().sum::<u32>(), 25_463);
    // All are open but LilyPond's, whose licence does not say that it has no invariant sections.
    let refused: Vec<_> = verdicts.iter().filter(|((verdict, _), _)| verdict != "column").collect();
    assert_eq!(refused, [(&("license/not-allowed".to_owned(), "GFDL-1.3-or-later".to_owned()), &436)]);
}

/// A file of each format, small, with its documents.
fn samples() -> Vec<(&'static str, Vec<u8>, Vec<Document>)> {
    let folder = tempfile::tempdir().unwrap();
    let written = documents("fr", 8, 30);
    write_jsonl(&folder.path().join("x.jsonl"), &written);
    write_parquet(&folder.path().join("x.parquet"), &written);
    let [lines, parquet] = ["x.jsonl", "x.parquet"].map(|name| fs::read(folder.path().join(name)).unwrap());
    let web = web();
    let members: Vec<u8> = web[..8].iter().flat_map(|record| gzip(record)).collect();
    let mut samples = vec![
        ("x.jsonl", lines.clone()),
        ("x.jsonl.gz", gzip(&lines)),
        ("x.jsonl.zst", zstd::encode_all(&*lines, 3).unwrap()),
        ("x.parquet", parquet),
        ("x.warc", [&web[..8], &web[10..]].concat().concat()),
        ("x.warc.gz", members),
    ];
    let whole = |(name, bytes): (&'static str, Vec<u8>)| {
        let path = folder.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let read = read(&path);
        assert!(read.end.is_ok() && !read.documents.is_empty(), "{name}");
        (name, bytes, read.documents)
    };
    samples.drain(..).map(whole).collect()
}

#[test]
fn a_file_cut_anywhere_gives_what_was_before() {
    quiet_guarded_panics();
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, documents) in samples() {
        let path = folder.path().join(name);
        let (mut some, mut errors) = (0, 0);
        for len in (0..bytes.len()).step_by(13) {
            fs::write(&path, &bytes[..len]).unwrap();
            let read = read(&path);
            let count = read.documents.len();
            let before = count <= documents.len() && read.documents[..] == documents[..count];
            assert!(before, "{name} cut to {len} bytes");
            some += usize::from(count > 0);
            errors += usize::from(read.end.is_err() || !read.bad.is_empty());
        }
        // Parquet keeps its table of contents at the end, and zstd gives whole blocks, of which this has one.
        assert!(["x.parquet", "x.jsonl.zst"].contains(&name) || some > 0, "{name}");
        assert!(errors > 0, "{name}");
    }
}

#[test]
fn changed_bytes_never_panic() {
    quiet_guarded_panics();
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, _) in samples() {
        let path = folder.path().join(name);
        for at in (0..bytes.len()).step_by(11) {
            let mut changed = bytes.clone();
            changed[at] ^= [0x01, 0x80, 0x55, 0xff][at % 4];
            fs::write(&path, changed).unwrap();
            if let Err(error) = read(&path).end {
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_as_any_format(bytes in proptest::collection::vec(any::<u8>(), 0..400), html in "(<[a-z!/]{0,6}( [a-z]{1,4}=?['\"]?)?>?|[a-zé ]{0,9}){0,40}") {
        quiet_guarded_panics();
        let folder = tempfile::tempdir().unwrap();
        let page = record("response", 1, "", &response("Content-Type: text/html\r\n", html.as_bytes()));
        let cases = [
            ("a.jsonl", bytes.clone()),
            ("a.jsonl.gz", [&[0x1f, 0x8b, 8, 0], &*bytes].concat()),
            ("a.jsonl.zst", [&[0x28, 0xb5, 0x2f, 0xfd], &*bytes].concat()),
            ("a.parquet", [b"PAR1", &*bytes, b"PAR1"].concat()),
            ("a.warc", [b"WARC/1.0\r\n", &*bytes].concat()),
            ("b.warc", record("response", 1, "", &bytes)),
            ("c.warc", record("response", 1, "", &response("Content-Type: text/html\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n", &bytes))),
            ("d.warc", page),
            ("a.txt", bytes.clone()),
        ];
        for (name, bytes) in cases {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let config = SourceConfig { path, language: Some("fr".into()), format: Format::Auto, ..SourceConfig::default() };
            let read = read_with(&config);
            prop_assert!(name != "d.warc" || read.end.unwrap().documents == 1);
        }
    }
}
