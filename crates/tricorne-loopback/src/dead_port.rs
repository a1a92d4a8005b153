//! An address that refuses connections, for as long as it is held.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A loopback port that is taken but not listened on: whoever connects is refused.
///
/// Holding the port keeps any other process from opening it meanwhile, so a test that needs a refused connection cannot
/// meet a stranger. The port is free again when this is dropped.
#[derive(Debug)]
pub struct DeadPort {
    addr: SocketAddr,
    _socket: TcpSocket,
}

impl DeadPort {
    /// Takes a free port.
    ///
    /// # Errors
    ///
    /// What the system says when it has no socket or no port left.
    pub fn reserve() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { addr: socket.local_addr()?, _socket: socket })
    }

    /// Where connections are refused.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of `path` (which starts with a slash) at this address.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}
