//! TLS by rustls and ring: the roots of the system, and those that the user adds.

use std::sync::{Arc, OnceLock};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use crate::error::{AttemptError, FailureKind, HttpError};

/// Makes the connector at the first `https` address: reading the system's roots takes milliseconds that a job
/// without TLS need not pay.
pub(crate) struct Tls {
    extra_roots: Vec<CertificateDer<'static>>,
    connector: OnceLock<Result<TlsConnector, String>>,
}

/// Whether this is PEM text with one or more certificates that can be trusted as roots: for whoever reads a file of them
/// and wants to refuse a wrong one early.
///
/// # Errors
///
/// [`HttpError::BadRoots`] with the reason.
pub fn check_roots(pem: &[u8]) -> Result<(), HttpError> {
    read_roots(pem).map(drop)
}

fn read_roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let bad = |reason: String| HttpError::BadRoots { reason };
    let roots: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if roots.is_empty() {
        return Err(bad("no certificate found".to_owned()));
    }
    let mut trial = RootCertStore::empty();
    for root in &roots {
        trial.add(root.clone()).map_err(|error| bad(error.to_string()))?;
    }
    Ok(roots)
}

impl Tls {
    pub(crate) fn new(extra_root_pem: &[u8]) -> Result<Self, HttpError> {
        let none = extra_root_pem.is_empty();
        let extra_roots = if none { Vec::new() } else { read_roots(extra_root_pem)? };
        Ok(Tls { extra_roots, connector: OnceLock::new() })
    }

    pub(crate) fn connector(&self) -> Result<&TlsConnector, AttemptError> {
        let made = self.connector.get_or_init(|| self.make().map(TlsConnector::from));
        made.as_ref().map_err(|reason| AttemptError::new(FailureKind::Tls, reason.clone()))
    }

    fn make(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.extra_roots.iter().cloned());
        if roots.is_empty() {
            return Err("no root certificates were found on this system".to_owned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
