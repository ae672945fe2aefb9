//! From a page's bytes to text.

use super::http::charset_of;
use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use std::borrow::Cow;

/// Bytes at a page's start in which its charset is looked for; HTML asks for 1024, pages take more.
const PRESCAN: usize = 4096;

/// Decodes a page: by its byte order mark, the charset of its HTTP header, that of its `<meta>`, as UTF-8 where it is that, or as
/// windows-1252, which is what browsers take for the rest of western Europe (WHATWG HTML, 13.2.3.2). Bytes that are no text become U+FFFD.
pub(super) fn decode<'a>(bytes: &'a [u8], header: Option<&str>) -> Cow<'a, str> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(PRESCAN)]);
    let named = |label: &str| Encoding::for_label(label.as_bytes());
    let encoding = header.and_then(named).or_else(|| charset_of(&start).and_then(named));
    // `decode` looks at the byte order mark first.
    match encoding {
        Some(encoding) => encoding.decode(bytes).0,
        None => match std::str::from_utf8(bytes) {
            Ok(_) => UTF_8.decode(bytes).0,
            Err(_) => WINDOWS_1252.decode(bytes).0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn charsets_are_found() {
        let latin = b"<p>d\xe9j\xe0 vu \x85</p>";
        assert_eq!(decode(latin, None), "<p>déjà vu …</p>");
        assert_eq!(decode(latin, Some("ISO-8859-1")), "<p>déjà vu …</p>");
        assert_eq!(decode(b"\xe9", Some("iso-8859-2")), "é");
        assert_eq!(decode("déjà".as_bytes(), None), "déjà");
        assert_eq!(decode(b"\xef\xbb\xbfd\xc3\xa9", Some("latin1")), "dé");
        assert_eq!(
            decode(b"<meta charset=windows-1251>\xcf\xf0\xe8\xe2\xe5\xf2", None),
            "<meta charset=windows-1251>Привет"
        );
        let meta = b"<meta http-equiv='Content-Type' content='text/html; charset=shift_jis'>\x93\xfa\x96{";
        assert!(decode(meta, None).ends_with("日本"));
        assert_eq!(decode(b"a\xffb", Some("utf-8")), "a\u{fffd}b");
    }
}
