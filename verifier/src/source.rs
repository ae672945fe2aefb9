//! Where a run's public files come from: a folder, or the URL of a coordinator or of any mirror.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tries for one file over HTTP before giving up.
const TRIES: u32 = 4;

/// A place that has a copy of a run's `public/` folder.
#[derive(Debug)]
pub enum Source {
    /// The folder itself.
    Folder(PathBuf),
    /// Its URL, ending in `/`.
    Url {
        /// The base that paths are added to.
        base: String,
        /// Keeps connections open.
        agent: ureq::Agent,
    },
}

/// Why a source gave no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source is neither a folder nor a URL.
    #[error("{0} is neither a folder nor an http(s) URL; name a coordinator's public folder or its address")]
    Unknown(String),
    /// The file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file or URL.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The server answered something else, or nothing.
    #[error("{url}: {message}")]
    Http {
        /// Which URL.
        url: String,
        /// Why.
        message: String,
    },
    /// The file is longer than it may be.
    #[error("{path} is longer than {max} bytes")]
    TooLong {
        /// Which file or URL.
        path: String,
        /// What is allowed.
        max: u64,
    },
}

impl Source {
    /// A source by its name on the command line. A data directory of a coordinator stands for its `public/` folder.
    ///
    /// # Errors
    /// [`SourceError::Unknown`].
    pub fn parse(text: &str) -> Result<Source, SourceError> {
        if text.starts_with("http://") || text.starts_with("https://") {
            let config = ureq::Agent::config_builder()
                .timeout_connect(Some(Duration::from_secs(10)))
                .timeout_recv_response(Some(Duration::from_secs(30)))
                .http_status_as_error(false)
                .build();
            let trimmed = text.trim_end_matches('/');
            let base = if trimmed.ends_with("/public") { format!("{trimmed}/") } else { format!("{trimmed}/public/") };
            return Ok(Source::Url { base, agent: config.into() });
        }
        let path = PathBuf::from(text);
        let inner = path.join("public");
        match (path.is_dir(), inner.is_dir()) {
            (true, true) => Ok(Source::Folder(inner)),
            (true, false) => Ok(Source::Folder(path)),
            _ => Err(SourceError::Unknown(text.to_owned())),
        }
    }

    /// What people call it.
    pub fn name(&self) -> String {
        match self {
            Source::Folder(path) => path.display().to_string(),
            Source::Url { base, .. } => base.clone(),
        }
    }

    /// The folder, where the source is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Source::Folder(path) => Some(path),
            Source::Url { .. } => None,
        }
    }

    /// A reader of the file at the relative `path`, which ends after `max` bytes with an error; none when there is no such
    /// file.
    ///
    /// # Errors
    /// [`SourceError`] when the source cannot be read.
    pub fn open(&self, path: &str, max: u64) -> Result<Option<Bounded>, SourceError> {
        let inner: Box<dyn Read> = match self {
            Source::Folder(folder) => match File::open(folder.join(path)) {
                Ok(file) => Box::new(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(SourceError::Io { path: path.to_owned(), source }),
            },
            Source::Url { base, agent } => match fetch(agent, &format!("{base}{path}"))? {
                Some(body) => body,
                None => return Ok(None),
            },
        };
        Ok(Some(Bounded { inner, left: max, path: format!("{}/{path}", self.name().trim_end_matches('/')), max }))
    }

    /// The bytes of the file at the relative `path`, at most `max`; none when there is no such file.
    ///
    /// # Errors
    /// [`SourceError`] when the source cannot be read or the file is longer.
    pub fn read(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let Some(mut reader) = self.open(path, max)? else { return Ok(None) };
        let mut bytes = Vec::new();
        match reader.read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(SourceError::TooLong { path: reader.path, max: reader.max })
            }
            Err(source) => Err(SourceError::Io { path: reader.path, source }),
        }
    }
}

/// The body at `url`, tried again while the server is not well; none when it has no such file.
fn fetch(agent: &ureq::Agent, url: &str) -> Result<Option<Box<dyn Read>>, SourceError> {
    let mut message = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(200 << attempt));
        }
        match agent.get(url).call() {
            Ok(answer) if answer.status() == 200 => return Ok(Some(Box::new(answer.into_body().into_reader()))),
            Ok(answer) if answer.status() == 404 || answer.status() == 410 => return Ok(None),
            Ok(answer) => message = format!("the server answered {}", answer.status()),
            Err(error) => message = error.to_string(),
        }
    }
    Err(SourceError::Http { url: url.to_owned(), message })
}

/// A reader that fails, rather than going on, past a bound.
pub struct Bounded {
    inner: Box<dyn Read>,
    left: u64,
    path: String,
    max: u64,
}

impl std::fmt::Debug for Bounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bounded({}, {} bytes left)", self.path, self.left)
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::ErrorKind::FileTooLarge.into()),
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_files_up_to_the_bound_and_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), [7u8; 10]).unwrap();
        let source = Source::parse(dir.path().to_str().unwrap()).unwrap();
        assert_eq!(source.read("a", 10).unwrap(), Some(vec![7; 10]));
        assert!(matches!(source.read("a", 9), Err(SourceError::TooLong { max: 9, .. })));
        assert_eq!(source.read("b", 9).unwrap(), None);
        assert!(matches!(Source::parse("/no/such/place"), Err(SourceError::Unknown(_))));
    }

    #[test]
    fn a_server_without_the_file_and_a_dead_server_are_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            use std::io::Write;
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0u8; 2048];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            String::from_utf8_lossy(&request).lines().next().unwrap().to_owned()
        });
        let source = Source::parse(&format!("http://{address}")).unwrap();
        assert_eq!(source.read("run.manifest", 9).unwrap(), None);
        assert_eq!(server.join().unwrap(), "GET /public/run.manifest HTTP/1.1");
        assert!(matches!(source.read("run.manifest", 9), Err(SourceError::Http { .. })));
    }
}
