//! From a host to a connection: addresses, TCP, TLS, and the HTTP/1.1 handshake.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use url::Host as Name;

use crate::{
    connection::Connection,
    deadline::Deadline,
    error::{AttemptError, FailureKind, chain, is_tls},
    host::Host,
    private::is_private,
    target::Origin,
    tls::Tls,
};

/// Opens a connection to `host`, trying its addresses in turn.
///
/// The phase of `deadline` covers all of it. An address that does not answer gets only its share of the time, so
/// that a dead first address leaves time for the second. Private addresses are left out unless `may_be_private`.
pub(crate) async fn connect(
    host: &Host,
    tls: &Tls,
    may_be_private: bool,
    deadline: &mut Deadline,
) -> Result<Connection, AttemptError> {
    let addresses = deadline.bound(host.addresses()).await?;
    let allowed: Vec<SocketAddr> =
        addresses.iter().copied().filter(|address| may_be_private || !is_private(address.ip())).collect();
    if let ([], [address, ..]) = (&allowed[..], &addresses[..]) {
        return Err(refused_address(*address));
    }
    let (tcp, address) = dial(host, &allowed, deadline).await?;
    // Small requests must leave at once; a failure only costs speed.
    let _ = tcp.set_nodelay(true);
    let stream = if host.origin.https {
        let name = server_name(&host.origin)?;
        let handshake = tls.connector()?.connect(name, tcp);
        let tls = deadline.bound(async { handshake.await.map_err(|error| tls_error(&error)) }).await?;
        Stream::Tls(Box::new(tls))
    } else {
        Stream::Plain(tcp)
    };
    let received = Arc::new(AtomicU64::new(0));
    let wire = Wire { stream, received: received.clone() };
    Connection::handshake(wire, received, address).await
}

/// The error of a record that may not go to private addresses.
pub(crate) fn refused_address(address: SocketAddr) -> AttemptError {
    let message = format!("`{}` is an address outside the public internet", address.ip());
    AttemptError::new(FailureKind::PrivateAddress, message)
}

async fn dial(
    host: &Host,
    addresses: &[SocketAddr],
    deadline: &mut Deadline,
) -> Result<(TcpStream, SocketAddr), AttemptError> {
    let mut last = AttemptError::new(FailureKind::Dns, "the name has no address");
    for (index, &address) in addresses.iter().enumerate() {
        let untried = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.left() / untried;
        let attempt = async {
            let refused = |what: &str| format!("connecting to `{address}` failed: {what}");
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => Ok(tcp),
                Ok(Err(error)) => {
                    Err(AttemptError::new(FailureKind::Connect, refused(&chain(&error).to_lowercase())))
                }
                Err(_) => Err(AttemptError::new(FailureKind::TimeoutConnect, refused("no answer"))),
            }
        };
        match deadline.bound(attempt).await {
            Ok(tcp) => {
                host.prefer(address);
                return Ok((tcp, address));
            }
            Err(error) => last = error,
        }
    }
    // The addresses may have changed since they were looked up.
    host.forget_addresses();
    Err(last)
}

fn server_name(origin: &Origin) -> Result<ServerName<'static>, AttemptError> {
    match &origin.host {
        Name::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| {
            AttemptError::new(FailureKind::BadUrl, format!("`{name}` cannot be a TLS host name"))
        }),
        Name::Ipv4(ip) => Ok(ServerName::from(std::net::IpAddr::V4(*ip))),
        Name::Ipv6(ip) => Ok(ServerName::from(std::net::IpAddr::V6(*ip))),
    }
}

/// What TLS itself objects to will be so the next time too; a connection lost in the handshake may not.
fn tls_error(error: &io::Error) -> AttemptError {
    let kind = if is_tls(error) { FailureKind::Tls } else { FailureKind::Connect };
    AttemptError::new(kind, format!("the TLS handshake failed: {}", chain(error)))
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A byte stream that counts what was received, which tells a connection that died idle from one that died
/// in the middle of an answer.
pub(crate) struct Wire {
    stream: Stream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let before = buffer.filled().len();
        let result = match &mut wire.stream {
            Stream::Plain(tcp) => ready!(Pin::new(tcp).poll_read(cx, buffer)),
            Stream::Tls(tls) => ready!(Pin::new(tls).poll_read(cx, buffer)),
        };
        // Relaxed: read by the task that polls this stream only.
        wire.received.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(result)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
