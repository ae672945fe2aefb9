//! `croissant.json`: the data set in Croissant 1.0 (docs.mlcommons.org/croissant/docs/croissant-spec.html), JSON-LD.
//!
//! Every part is a `cr:FileObject` with its SHA-256; the parts of a language make a `cr:FileSet`, and a `cr:RecordSet` names their
//! columns. Paths are relative: the description holds wherever the folder lies.

use super::parts::{COLUMNS, folder_name};
use super::{FileInfo, licenses, parts};
use crate::facts::Facts;
use crate::tally::KEPT;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What each column holds.
const DESCRIPTIONS: [&str; 10] = [
    "The document, UTF-8",
    "Its language: ISO 639-1, or another short name",
    "Where it comes from",
    "Its name within its source",
    "Where it was, or empty",
    "Its title, or empty",
    "Who wrote it, or empty; JSON where there are several",
    "YYYY, YYYY-MM-DD or a timestamp, or empty",
    "A JSON object in a string",
    "A JSON object in a string; license is the document's SPDX expression, license_from where it was found, cluster_size the number of \
     documents like it, itself included, of which it alone was kept",
];

/// The context of Croissant 1.0, as its specification gives it.
fn context() -> Value {
    json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "citeAs": "cr:citeAs",
        "column": "cr:column",
        "conformsTo": "dct:conformsTo",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "dct": "http://purl.org/dc/terms/",
        "equivalentProperty": "cr:equivalentProperty",
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "extract": "cr:extract",
        "field": "cr:field",
        "fileProperty": "cr:fileProperty",
        "fileObject": "cr:fileObject",
        "fileSet": "cr:fileSet",
        "format": "cr:format",
        "includes": "cr:includes",
        "isLiveDataset": "cr:isLiveDataset",
        "jsonPath": "cr:jsonPath",
        "key": "cr:key",
        "md5": "cr:md5",
        "parentField": "cr:parentField",
        "path": "cr:path",
        "recordSet": "cr:recordSet",
        "references": "cr:references",
        "regex": "cr:regex",
        "repeated": "cr:repeated",
        "replace": "cr:replace",
        "samplingRate": "cr:samplingRate",
        "sc": "https://schema.org/",
        "separator": "cr:separator",
        "source": "cr:source",
        "subField": "cr:subField",
        "transform": "cr:transform",
    })
}

fn file(info: &FileInfo) -> Value {
    let format = match info.name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("parquet") => "application/x-parquet",
        Some("json") => "application/json",
        Some("jsonl") => "application/jsonlines",
        Some("md") => "text/markdown",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let mut value = json!({
        "@type": "cr:FileObject", "@id": info.name, "name": info.name, "contentUrl": info.name, "encodingFormat": format,
        "contentSize": format!("{} B", info.len_bytes), "sha256": info.sha256,
    });
    if info.language.is_some() {
        value["description"] = json!(format!("{} documents", info.documents));
    }
    value
}

/// The parts of a language, by a pattern in the folder that the description lies in: `containedIn` is for archives.
fn file_set(language: &str) -> Value {
    json!({
        "@type": "cr:FileSet", "@id": set_id(language), "name": set_id(language),
        "description": format!("The documents in {language}"),
        "encodingFormat": "application/x-parquet", "includes": format!("data/{}/*.parquet", folder_name(language)),
    })
}

fn set_id(language: &str) -> String {
    format!("parts-{}", folder_name(language))
}

fn record_set(language: &str, documents: u64) -> Value {
    let id = folder_name(language);
    let field = |(column, description): (&str, &str)| {
        json!({
            "@type": "cr:Field", "@id": format!("{id}/{column}"), "name": column, "description": description, "dataType": "sc:Text",
            "source": {"fileSet": {"@id": set_id(language)}, "extract": {"column": column}},
        })
    };
    let fields = COLUMNS.into_iter().zip(DESCRIPTIONS).map(field);
    json!({
        "@type": "cr:RecordSet", "@id": id, "name": id,
        "description": format!("{documents} documents in {language}"), "field": fields.collect::<Value>(),
    })
}

/// The description.
pub fn croissant(facts: &Facts, files: &[FileInfo]) -> Value {
    let config = &facts.publish;
    let languages: BTreeSet<&str> = files.iter().filter_map(|file| file.language.as_deref()).collect();
    let documents = |language: &str| -> u64 {
        files.iter().filter(|file| file.language.as_deref() == Some(language)).map(|file| file.documents).sum()
    };
    let licenses: BTreeSet<String> = facts.licenses.iter().map(|row| licenses::url(&row.license)).collect();
    let sets = languages.iter().map(|language| file_set(language));
    let mut value = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts.name,
        "description": super::card::description(facts),
        "url": super::card::home(facts),
        "license": licenses,
        "creator": {"@type": "sc:Organization", "name": super::card::or_blank(&config.provider)},
        "inLanguage": facts.tally.rows().filter(|(key, _)| key.rule == KEPT).map(|(key, _)| key.language.as_str()).collect::<BTreeSet<_>>(),
        "keywords": ["language modelling", "text", "open data"],
        "isAccessibleForFree": true,
        "identifier": format!("blake3:{}", facts.dataset),
        "distribution": files.iter().map(file).chain(sets).collect::<Value>(),
        "recordSet": languages.iter().map(|language| record_set(language, documents(language))).collect::<Value>(),
    });
    let mut optional = |name: &str, text: &str| {
        if !text.is_empty() {
            value[name] = json!(text);
        }
    };
    optional("datePublished", &config.date);
    optional("version", &config.version);
    optional("citeAs", &config.citation);
    optional("alternateName", &config.title);
    debug_assert_eq!(parts::COLUMNS.len(), DESCRIPTIONS.len());
    value
}
