//! `[network]`: where the coordinator listens, and what the join link says. Local: no number of the run depends on it.

use serde::{Deserialize, Serialize};

/// `[network]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// libp2p multiaddresses to listen on; default QUIC on port 4101, and TCP on the same number as fallback.
    pub listen: Vec<String>,
    /// Multiaddresses that the join link names, without `/p2p/…`. Default: those of `listen`, where 0.0.0.0 stands for
    /// 127.0.0.1 and this machine's own address.
    pub advertise: Vec<String>,
    /// Address of the HTTP service; default 127.0.0.1:8080. Give 0.0.0.0:8080 to let others see the page.
    pub http: String,
    /// URL of the HTTP service in the join link; default: derived from `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_url: Option<String>,
    /// Whether peers on the local network are found by multicast DNS; default false.
    pub mdns: bool,
}

impl Default for NetworkSettings {
    fn default() -> NetworkSettings {
        NetworkSettings {
            listen: vec!["/ip4/0.0.0.0/udp/4101/quic-v1".to_owned(), "/ip4/0.0.0.0/tcp/4101".to_owned()],
            advertise: Vec::new(),
            http: "127.0.0.1:8080".to_owned(),
            http_url: None,
            mdns: false,
        }
    }
}

/// This machine's address on its default route, where it has one. Nothing is sent: connecting a UDP socket only chooses
/// a source address.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

impl NetworkSettings {
    /// Addresses for the join link, without `/p2p/…`, given those that the network listens on.
    pub fn advertised(&self, listening: &[String]) -> Vec<String> {
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        let mut out: Vec<String> = Vec::new();
        for address in listening {
            if !address.contains("/ip4/0.0.0.0/") {
                out.push(address.clone());
                continue;
            }
            out.push(address.replace("/ip4/0.0.0.0/", "/ip4/127.0.0.1/"));
            if let Some(std::net::IpAddr::V4(own)) = own_address() {
                out.push(address.replace("/ip4/0.0.0.0/", &format!("/ip4/{own}/")));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        out.retain(|address| seen.insert(address.clone()));
        out.truncate(essaim_protocol::limits::LINK_PEERS_MAX);
        out
    }

    /// The URL of the HTTP service that listens on `address`.
    pub fn url(&self, address: &str) -> String {
        match &self.http_url {
            Some(url) => url.clone(),
            None => {
                let own = own_address().map_or_else(|| "127.0.0.1".to_owned(), |own| own.to_string());
                let any = ["0.0.0.0:", "[::]:"].into_iter().find_map(|any| address.strip_prefix(any));
                any.map_or_else(|| format!("http://{address}/"), |port| format!("http://{own}:{port}/"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_becomes_addresses_that_can_be_dialled() {
        let settings = NetworkSettings::default();
        let advertised = settings.advertised(&settings.listen);
        assert!(advertised.contains(&"/ip4/127.0.0.1/udp/4101/quic-v1".to_owned()), "{advertised:?}");
        assert!(advertised.iter().all(|address| !address.contains("0.0.0.0")), "{advertised:?}");
        assert_eq!(settings.url("127.0.0.1:8080"), "http://127.0.0.1:8080/");
        let url = settings.url("0.0.0.0:8080");
        assert!(url.ends_with(":8080/") && !url.contains("0.0.0.0"), "{url}");
        let told = NetworkSettings { advertise: vec!["/dns/x.org/udp/1/quic-v1".into()], ..settings };
        assert_eq!(told.advertised(&["/ip4/1.2.3.4/tcp/1".into()]), ["/dns/x.org/udp/1/quic-v1"]);
    }
}
