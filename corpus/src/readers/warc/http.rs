//! The HTTP response within a `response` record (RFC 9112), with the encodings of its body undone, all bounded.

use std::borrow::Cow;
use std::io::Read;

/// Header fields at most.
const FIELDS_MAX: usize = 256;
/// Bytes of the header at most.
const HEADER_MAX: usize = 64 << 10;

/// A response: status, header fields with names in lower case, and the body as it was sent.
#[derive(Debug)]
pub(crate) struct Response<'a> {
    /// `200`.
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    raw: &'a [u8],
}

impl<'a> Response<'a> {
    /// Takes a response apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(block: &'a [u8]) -> Result<Response<'a>, String> {
        let mut rest = block;
        let mut line = || {
            let end = memchr::memchr(b'\n', &rest[..rest.len().min(HEADER_MAX)])?;
            let line = rest[..end].trim_ascii_end();
            rest = &rest[end + 1..];
            Some(line)
        };
        let first = line().map(String::from_utf8_lossy).unwrap_or_default();
        let status = first.starts_with("HTTP/").then(|| first.split_ascii_whitespace().nth(1)?.parse().ok()).flatten();
        let status = status.ok_or("a response without a status line")?;
        let mut fields: Vec<(String, String)> = Vec::new();
        loop {
            let text = line().ok_or("a response whose header does not end")?;
            if text.is_empty() {
                break;
            }
            if fields.len() == FIELDS_MAX {
                return Err(format!("more than {FIELDS_MAX} header fields"));
            }
            let text = String::from_utf8_lossy(text);
            if let Some((name, value)) = text.split_once(':') {
                fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        Ok(Response { status, fields, raw: rest })
    }

    /// The first value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The media type, in lower case, without parameters.
    pub(crate) fn media_type(&self) -> String {
        let value = self.get("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// The charset that the media type names.
    pub(crate) fn charset(&self) -> Option<&str> {
        charset_of(self.get("content-type")?)
    }

    /// The body, unpacked, of at most `max` bytes.
    ///
    /// # Errors
    /// It is longer, damaged, or in an encoding that is not read.
    pub(crate) fn body(&self, max: usize) -> Result<Cow<'a, [u8]>, String> {
        let mut body = Cow::Borrowed(self.raw);
        if self.get("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked")) {
            // Archives keep this field where they undid the encoding: then it is none.
            if let Some(whole) = unchunk(self.raw) {
                body = Cow::Owned(whole);
            }
        }
        let encodings = self.get("content-encoding").unwrap_or_default().to_ascii_lowercase();
        for encoding in encodings.split(',').map(str::trim).rev().filter(|encoding| !encoding.is_empty()).take(3) {
            body = match encoding {
                "identity" | "none" | "utf-8" => body,
                "gzip" | "x-gzip" if body.starts_with(&[0x1f, 0x8b]) => {
                    unpack(flate2::read::MultiGzDecoder::new(&*body), max)?
                }
                // Likewise undone.
                "gzip" | "x-gzip" => body,
                "deflate" => match unpack(flate2::read::ZlibDecoder::new(&*body), max) {
                    Ok(unpacked) => unpacked,
                    // Some servers send it without the zlib header (RFC 9110, 8.4.1.2).
                    Err(_) => unpack(flate2::read::DeflateDecoder::new(&*body), max).unwrap_or(body),
                },
                other => return Err(format!("content encoding {other:?} is not read")),
            };
        }
        match body.len() > max {
            true => Err(format!("a page of {} bytes, at most {max} are read", body.len())),
            false => Ok(body),
        }
    }
}

fn unpack(decoder: impl Read, max: usize) -> Result<Cow<'static, [u8]>, String> {
    let mut bytes = Vec::new();
    let read = decoder.take(max as u64 + 1).read_to_end(&mut bytes);
    if bytes.len() > max {
        return Err(format!("a page of more than {max} bytes unpacked"));
    }
    match read {
        Ok(_) => Ok(Cow::Owned(bytes)),
        // What a browser shows of a page that was cut off.
        Err(_) if !bytes.is_empty() => Ok(Cow::Owned(bytes)),
        Err(error) => Err(format!("a body that does not unpack: {error}")),
    }
}

/// Undoes chunked transfer coding (RFC 9112, 7.1); `None` where it is not in it. A body that is cut off gives what is there.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let Some(end) = memchr::memchr(b'\n', &rest[..rest.len().min(1024)]) else {
            return (!whole.is_empty()).then_some(whole);
        };
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 1..];
        if size == 0 {
            return Some(whole);
        }
        let chunk = &rest[..size.min(rest.len())];
        whole.extend_from_slice(chunk);
        rest = &rest[chunk.len()..];
        rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
}

/// The charset parameter of a media type.
pub(crate) fn charset_of(content_type: &str) -> Option<&str> {
    let at = content_type.to_ascii_lowercase().find("charset=")?;
    let value = content_type[at + 8..].trim_start_matches(['"', '\'', ' ']);
    let end = value.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.:".contains(c))).unwrap_or(value.len());
    Some(&value[..end]).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn bodies_are_unpacked_within_bounds() {
        let page = "Bonjour le monde. ".repeat(100);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(page.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let (a, b) = gzip.split_at(10);
        let mut block =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/HTML; charset=\"utf-8\"\r\nTransfer-Encoding: chunked\r\n\
            Content-Encoding: gzip\r\n\r\n"
                .to_vec();
        write!(block, "{:x};x=y\r\n", a.len()).unwrap();
        block.extend_from_slice(a);
        write!(block, "\r\n{:X}\r\n", b.len()).unwrap();
        block.extend_from_slice(b);
        block.extend_from_slice(b"\r\n0\r\n\r\n");
        let response = Response::parse(&block).unwrap();
        assert_eq!(
            (response.status, response.media_type().as_str(), response.charset()),
            (200, "text/html", Some("utf-8"))
        );
        assert_eq!(&*response.body(1 << 20).unwrap(), page.as_bytes());
        assert_eq!(response.body(100).unwrap_err(), "a page of more than 100 bytes unpacked");
        // Headers that tell of encodings which the archive has undone.
        let plain = b"HTTP/1.1 200\r\ntransfer-encoding: chunked\r\ncontent-encoding: gzip\r\n\r\n<p>Bonjour</p>\n";
        assert_eq!(&*Response::parse(plain).unwrap().body(100).unwrap(), b"<p>Bonjour</p>\n");
        let brotli = Response::parse(b"HTTP/1.1 200\ncontent-encoding: br\n\nx").unwrap();
        assert_eq!(brotli.body(100).unwrap_err(), "content encoding \"br\" is not read");
        assert!(Response::parse(b"<html>").is_err() && Response::parse(b"HTTP/1.1 200 OK\r\na: b\r\n").is_err());
    }
}
