//! TLS, with certificates made for the test.

use std::{io::Write, net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, Stream,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tricorne_http::{ClientConfig, FailureKind};
use tricorne_loopback::{Reply, Server};

use crate::common::{RawServer, answer, client, failure, millis, quick, read_request, run};

/// A certificate authority of our own, as PEM, and a server certificate of it for `name`.
fn certificate(name: &str) -> (Vec<u8>, ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let leaf = params.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a server configuration");
    (authority.pem().into_bytes(), config)
}

/// Answers any number of requests on each connection.
fn serve(config: ServerConfig, body: impl Fn(&mut dyn Write) + Send + 'static) -> RawServer {
    let config = Arc::new(config);
    RawServer::start(move |_, mut tcp| {
        let mut session = ServerConnection::new(config.clone()).expect("a session");
        let mut stream = Stream::new(&mut session, &mut tcp);
        while read_request(&mut stream).is_some() {
            body(&mut stream);
        }
        true
    })
}

fn https(addr: SocketAddr) -> String {
    format!("https://{addr}/")
}

#[test]
fn a_trusted_server_is_read_and_its_connection_kept() {
    let (root, config) = certificate("127.0.0.1");
    let page = "p".repeat(100_000);
    let server = serve(config, move |mut stream| answer(&mut stream, &page));
    run(async {
        let client = client(ClientConfig { extra_root_pem: root, ..quick() });
        for _ in 0..3 {
            let page = client.get(&https(server.addr)).await.expect("it is trusted");
            assert_eq!(page.body.len(), 100_000);
        }
        assert_eq!(client.stats().connections_opened, 1);
    });
}

#[test]
fn a_server_that_is_not_trusted_is_final() {
    let (root, config) = certificate("127.0.0.1");
    let (other_root, elsewhere) = certificate("elsewhere.example");
    let unknown = serve(config, |mut stream| answer(&mut stream, "x"));
    let misnamed = serve(elsewhere, |mut stream| answer(&mut stream, "x"));
    run(async {
        for (server, roots) in
            [(&unknown, Vec::new()), (&unknown, other_root.clone()), (&misnamed, other_root)]
        {
            // Without any root at all the reason is another one, but just as final.
            let client = client(ClientConfig { extra_root_pem: roots, ..quick() });
            let failed = failure(&client, &https(server.addr)).await;
            assert_eq!(
                (failed.kind, failed.attempts, failed.retryable),
                (FailureKind::Tls, 1, false),
                "{failed:?}"
            );
        }
        let trusted = client(ClientConfig { extra_root_pem: root, ..quick() });
        trusted.get(&https(unknown.addr)).await.expect("it is trusted");
    });
}

#[test]
fn handshakes_that_come_to_nothing() {
    let (root, _) = certificate("127.0.0.1");
    let plain = RawServer::start(|_, mut tcp| {
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        true
    });
    let closing = RawServer::start(|_, tcp| {
        drop(tcp);
        true
    });
    let (keep, kept) = std::sync::mpsc::channel();
    let silent = RawServer::start(move |_, tcp| keep.send(tcp).is_ok());
    run(async {
        let config =
            ClientConfig { extra_root_pem: root, connect_timeout: millis(80), retries: 1, ..quick() };
        let client = client(config);
        for (server, kind, attempts) in [
            (&plain, FailureKind::Tls, 1),
            (&closing, FailureKind::Connect, 2),
            (&silent, FailureKind::TimeoutConnect, 2),
        ] {
            let failed = failure(&client, &https(server.addr)).await;
            assert_eq!((failed.kind, failed.attempts), (kind, attempts), "{failed:?}");
        }
    });
    assert_eq!(kept.try_iter().count(), 2);
}

#[test]
fn a_redirect_may_leave_tls() {
    let plain = Server::start(|_| Reply::html("public")).expect("a server");
    let (root, config) = certificate("127.0.0.1");
    let head = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", plain.url("/"));
    let server = serve(config, move |stream| stream.write_all(head.as_bytes()).expect("the client listens"));
    run(async {
        let page = client(ClientConfig { extra_root_pem: root, ..quick() }).get(&https(server.addr)).await;
        let page = page.expect("it is there");
        assert_eq!((&page.body[..], page.final_url), (&b"public"[..], plain.url("/")));
    });
}
