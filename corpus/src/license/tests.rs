use super::*;

fn document(license: &str) -> Document {
    Document {
        id: "1".into(),
        source: "s".into(),
        language: "fr".into(),
        license: license.into(),
        text: "Sous licence https://creativecommons.org/licenses/by-nc/4.0/.".into(),
        meta: Default::default(),
    }
}

fn licenses() -> Licenses {
    Licenses::new(&LicenseConfig::default()).unwrap()
}

#[test]
fn spellings_become_spdx() {
    for (text, spdx) in [
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("cc-by-4.0", "CC-BY-4.0"),
        ("CC_BY_NC_SA_4.0", "CC-BY-NC-SA-4.0"),
        ("Creative Commons Attribution 4.0 International", "CC-BY-4.0"),
        ("cc0", "CC0-1.0"),
        ("CC0 1.0 Universal", "CC0-1.0"),
        ("apache 2.0", "Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("apache-2.0", "Apache-2.0"),
        ("MIT License", "MIT"),
        ("mit", "MIT"),
        ("GPLv3", "GPL-3.0-only"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL v2 or later", "GPL-2.0-or-later"),
        ("GPL-2.0 or later", "GPL-2.0-or-later"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("GPL-2.0 OR MIT", "GPL-2.0-only OR MIT"),
        ("gpl-3.0-or-later", "GPL-3.0-or-later"),
        ("mpl-2.0 or cc-by-sa-3.0", "MPL-2.0 OR CC-BY-SA-3.0"),
        ("(mit and apache 2.0) or cc0", "( MIT AND Apache-2.0 ) OR CC0-1.0"),
        ("GNU General Public License v3.0 or later", "GPL-3.0-or-later"),
        ("public domain", "LicenseRef-Public-Domain"),
        ("odc-by", "ODC-By-1.0"),
        ("Licence Ouverte 2.0", "etalab-2.0"),
        ("etalab-2.0", "etalab-2.0"),
        ("https://creativecommons.org/licenses/by-sa/4.0/deed.fr", "CC-BY-SA-4.0"),
        ("https://spdx.org/licenses/MIT.html", "MIT"),
        ("http://www.apache.org/licenses/LICENSE-2.0", "Apache-2.0"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
    ] {
        let got = spelling::expression(text).map(|expression| expression.to_string());
        assert_eq!(got.as_deref(), Some(spdx), "{text}");
    }
    for text in [
        "cc-by",
        "CC BY",
        "BSD",
        "free",
        "see the site",
        "MIT AND",
        "AND",
        "()",
        "MIT Apache-2.0",
        "é",
        "((((",
        "https://",
    ] {
        assert!(spelling::expression(text).is_none(), "{text}");
    }
    assert!(spelling::expression(&"MIT OR ".repeat(1000)).is_none());
}

#[test]
fn expressions_are_met_from_the_list() {
    let licenses = licenses();
    for (text, expected) in [
        ("CC-BY-4.0", Ok(())),
        ("GPL-2.0-or-later OR CC-BY-NC-3.0", Ok(())),
        ("GPL-2.0-or-later AND CC-BY-NC-3.0", Err("license/non-commercial")),
        ("CC-BY-NC-SA-4.0", Err("license/non-commercial")),
        ("CC-BY-ND-4.0", Err("license/no-derivatives")),
        ("GFDL-1.3-or-later", Err("license/not-allowed")),
        ("GFDL-1.2-no-invariants-or-later", Ok(())),
        ("GPL-2.0+", Ok(())),
        ("GPL-3.0+", Ok(())),
        ("GPL-2.0", Ok(())),
        ("GPL-2.0-only WITH Classpath-exception-2.0", Ok(())),
        ("LicenseRef-Mine", Err("license/not-allowed")),
        ("LicenseRef-Public-Domain", Ok(())),
        ("BUSL-1.1", Err("license/not-allowed")),
        ("who knows", Err("license/unparsable")),
        ("NOASSERTION", Err("license/unknown")),
        ("unknown", Err("license/unknown")),
        ("", Err("license/unknown")),
    ] {
        let got = licenses.decide(&mut document(text), None);
        assert_eq!(got.as_ref().map(|_| ()).map_err(|rejection| rejection.rule.as_ref()), expected, "{text}: {got:?}");
    }
    let named = LicenseConfig {
        allow: ["NOASSERTION", "CC-BY-NC-4.0", "gfdl-1.3-or-later"].map(String::from).to_vec(),
        ..LicenseConfig::default()
    };
    let named = Licenses::new(&named).unwrap();
    for text in ["NOASSERTION", "CC-BY-NC-4.0", "GFDL-1.3-or-later"] {
        assert!(named.decide(&mut document(text), None).is_ok(), "{text}");
    }
    assert_eq!(named.decide(&mut document("NOASSERTION"), None), Ok(None));
    assert!(!named.allows("MIT"));
}

#[test]
fn places_are_looked_at_in_order() {
    let licenses = licenses();
    let mut told = document("cc by 4.0");
    assert_eq!(licenses.decide(&mut told, Some("CC-BY-NC-4.0")), Ok(Some(LicenseFrom::Column)));
    assert_eq!(told.license, "CC-BY-4.0");
    assert_eq!(licenses.decide(&mut document("NOASSERTION"), Some("MIT")), Ok(Some(LicenseFrom::Source)));
    assert_eq!(licenses.decide(&mut document("MIT"), Some("MIT")), Ok(Some(LicenseFrom::Source)));

    let mut page = document("NOASSERTION");
    let links = r#"{"license_links":[{"href":"https://creativecommons.org/licenses/by-sa/4.0/","marked":true},
        {"href":"https://creativecommons.org/licenses/by-nd/4.0/","marked":false}]}"#;
    page.meta.extra = Some(links.into());
    assert_eq!(licenses.decide(&mut page.clone(), None), Ok(Some(LicenseFrom::Link)));
    let first = |order, links| {
        let licenses = Licenses::new(&LicenseConfig { order, links, ..LicenseConfig::default() }).unwrap();
        licenses.decide(&mut page.clone(), Some("MIT")).map_err(|rejection| rejection.to_string())
    };
    assert_eq!(first(vec![LicenseFrom::Link, LicenseFrom::Source], Links::Marked), Ok(Some(LicenseFrom::Link)));
    let refused = first(vec![LicenseFrom::Link, LicenseFrom::Source], Links::Any).unwrap_err();
    let all = "CC-BY-NC-4.0 AND CC-BY-ND-4.0 AND CC-BY-SA-4.0: CC-BY-NC-4.0, CC-BY-ND-4.0 not allowed";
    assert_eq!(refused, format!("license/non-commercial: {all}"));
    page.meta.extra = None;
    assert_eq!(licenses.decide(&mut page, None).unwrap_err().rule, "license/unknown");
}

#[test]
fn settings_that_are_no_licence_are_refused() {
    for entry in ["", "MIT OR Apache-2.0", "what", "MIT AND"] {
        let config = LicenseConfig { allow: vec![entry.into()], ..LicenseConfig::default() };
        assert!(Licenses::new(&config).is_err(), "{entry}");
    }
    assert_eq!(Licenses::new(&LicenseConfig::default()).unwrap().allowed.len(), OPEN.len());
}

proptest::proptest! {
    #[test]
    fn any_text_is_judged(text in "\\PC{0,60}|((MIT|cc-by-4\\.0|GPL|or|AND|WITH|later|\\(|\\)|\\+|v2) ?){0,12}") {
        let mut document = document(&text);
        let _ = licenses().decide(&mut document, None);
    }
}
