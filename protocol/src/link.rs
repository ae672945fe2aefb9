//! The join link: the run's id and where to find it. It is the trust anchor, so a link from somebody you trust is enough.
//!
//! `essaim:RUN?peer=ADDRESS&peer=ADDRESS&http=URL`, where `ADDRESS` is a libp2p multiaddress and `URL` the operator's page.
//! `%`, `&`, `#`, `?` and blanks inside a value are written `%XX`.

use crate::ids::{ParseIdError, RunId};
use crate::limits;
use std::fmt;
use std::str::FromStr;

/// A join link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinLink {
    /// The run: the hash of its manifest.
    pub run: RunId,
    /// Multiaddresses of peers that know the run, each ending in `/p2p/…`.
    pub peers: Vec<String>,
    /// Base of the operator's HTTP service, for people and verifiers.
    pub http: Option<String>,
}

/// Why a text is no join link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// It does not begin as one.
    #[error("a join link begins with 'essaim:'; copy it whole, as the operator gave it")]
    Scheme,
    /// Longer than any link.
    #[error("the join link has {got} bytes, at most {max} are allowed")]
    TooLong {
        /// Its length.
        got: usize,
        /// The length allowed.
        max: usize,
    },
    /// The run's id is wrong: cut off, most often.
    #[error("the run id in the join link: {0}; the link may be cut off")]
    Run(#[from] ParseIdError),
    /// A field that is not known.
    #[error("the join link has the field '{0}', which this build does not know")]
    Field(String),
    /// A `%` not followed by two hexadecimal digits.
    #[error("the join link has a damaged %-escape")]
    Escape,
    /// Too many addresses.
    #[error("the join link has more than {max} addresses")]
    Peers {
        /// How many are allowed.
        max: usize,
    },
}

fn escape(value: &str) -> String {
    let special = |c: char| matches!(c, '%' | '&' | '#' | '?') || c.is_ascii_whitespace() || c.is_ascii_control();
    value.chars().map(|c| if special(c) { format!("%{:02X}", c as u32) } else { c.to_string() }).collect()
}

fn unescape(value: &str) -> Result<String, LinkError> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|c| (c as char).to_digit(16)).ok_or(LinkError::Escape);
        let value = (digit()? << 4) | digit()?;
        out.push(u8::try_from(value).map_err(|_| LinkError::Escape)?);
    }
    String::from_utf8(out).map_err(|_| LinkError::Escape)
}

impl fmt::Display for JoinLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "essaim:{}", self.run)?;
        let peers = self.peers.iter().map(|peer| ("peer", peer));
        let mut mark = '?';
        for (name, value) in peers.chain(self.http.iter().map(|url| ("http", url))) {
            write!(f, "{mark}{name}={}", escape(value))?;
            mark = '&';
        }
        Ok(())
    }
}

impl FromStr for JoinLink {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<JoinLink, LinkError> {
        let text = text.trim();
        if text.len() > limits::LINK_MAX {
            return Err(LinkError::TooLong { got: text.len(), max: limits::LINK_MAX });
        }
        let rest = text.strip_prefix("essaim:").ok_or(LinkError::Scheme)?;
        let (run, fields) = rest.split_once('?').unwrap_or((rest, ""));
        let mut link = JoinLink { run: run.parse()?, peers: Vec::new(), http: None };
        for field in fields.split('&').filter(|field| !field.is_empty()) {
            match field.split_once('=') {
                Some(("peer", value)) => link.peers.push(unescape(value)?),
                Some(("http", value)) if link.http.is_none() => link.http = Some(unescape(value)?),
                _ => return Err(LinkError::Field(field.split('=').next().unwrap_or_default().to_owned())),
            }
        }
        if link.peers.len() > limits::LINK_PEERS_MAX {
            return Err(LinkError::Peers { max: limits::LINK_PEERS_MAX });
        }
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_back_and_damage_is_named() {
        let link = JoinLink {
            run: RunId([7; 32]),
            peers: vec!["/ip4/127.0.0.1/udp/1/quic-v1/p2p/12D3".into(), "/dns/a b%c".into()],
            http: Some("http://127.0.0.1:8080/?x=1&y".into()),
        };
        assert_eq!(link.to_string().parse(), Ok(link.clone()));
        assert_eq!("http://x".parse::<JoinLink>(), Err(LinkError::Scheme));
        assert!(matches!("essaim:0707".parse::<JoinLink>(), Err(LinkError::Run(_))));
        let damaged = format!("{link}%2");
        assert_eq!(damaged.parse::<JoinLink>(), Err(LinkError::Escape));
        let unknown = format!("{link}&wallet=x");
        assert_eq!(unknown.parse::<JoinLink>(), Err(LinkError::Field("wallet".into())));
    }
}
