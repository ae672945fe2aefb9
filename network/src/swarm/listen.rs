//! Listening, with failures that surface.

use super::behaviour::Behaviour;
use super::config::NetworkError;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Swarm};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

/// The socket address of `addr`, and whether it is TCP rather than UDP.
fn socket_addr(addr: &Multiaddr) -> Option<(SocketAddr, bool)> {
    let mut parts = addr.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(((ip, port).into(), true)),
        Protocol::Udp(port) => Some(((ip, port).into(), false)),
        _ => None,
    }
}

/// Whether the port of `addr` can be bound. libp2p lets several sockets share a TCP port, so one in use by another node would
/// go unnoticed and take half of the connections; a plain socket, which does not share, finds out.
fn check_free(addr: &Multiaddr) -> io::Result<()> {
    match socket_addr(addr) {
        Some((socket, _)) if socket.port() == 0 => Ok(()),
        Some((socket, true)) => TcpListener::bind(socket).map(drop),
        Some((socket, false)) => UdpSocket::bind(socket).map(drop),
        None => Ok(()),
    }
}

/// Waits until the ports of `addrs` are free again: connections that are being closed hold a QUIC socket for a moment. Gives
/// up after `patience`.
pub(crate) async fn wait_free(addrs: &[Multiaddr], patience: Duration) {
    let deadline = Instant::now() + patience;
    while addrs.iter().any(|addr| check_free(addr).is_err()) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
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
