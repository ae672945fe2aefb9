//! Listening, with failures that surface.

use super::behaviour::Behaviour;
use super::config::NetworkError;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Swarm};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

/// The TCP socket address of `addr`, if it is one.
fn tcp_addr(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some((ip, port).into()),
        _ => None,
    }
}

/// libp2p lets several sockets share a TCP port, so a port in use by another node would go unnoticed and take half of the
/// connections. A plain socket, which does not share, finds out.
fn check_free(addr: &Multiaddr) -> io::Result<()> {
    match tcp_addr(addr) {
        Some(socket) if socket.port() != 0 => TcpListener::bind(socket).map(drop),
        _ => Ok(()),
    }
}

/// Begins to listen on `addr`.
pub(crate) fn listen(swarm: &mut Swarm<Behaviour>, addr: &Multiaddr) -> Result<ListenerId, NetworkError> {
    let failed = |source| NetworkError::Listen { addr: addr.clone(), source };
    check_free(addr).map_err(failed)?;
    swarm.listen_on(addr.clone()).map_err(|error| {
        failed(match error {
            TransportError::MultiaddrNotSupported(_) => {
                io::Error::new(io::ErrorKind::Unsupported, "only QUIC and TCP addresses can be listened on")
            }
            TransportError::Other(source) => source,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_port_in_use_is_found_out() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let addr: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        assert_eq!(check_free(&addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(holder);
        assert!(check_free(&addr).is_ok());
    }
}
