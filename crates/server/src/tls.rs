//! TLS for HTTP, from certificate files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::Tls;

/// `None` where no certificate is configured.
pub(crate) fn load(tls: &Tls) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    if tls.cert.as_os_str().is_empty() {
        return Ok(None);
    }
    let certificates = certificates(&tls.cert)?;
    let key = key(&tls.key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("tls: no protocol version")?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| unusable(tls, error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// For what we connect to: the certificates that this system believes (or those of `SSL_CERT_FILE`).
pub(crate) fn client() -> anyhow::Result<Arc<ClientConfig>> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    ensure!(
        added > 0,
        "this system has no certificates to believe (Debian's package ca-certificates, or SSL_CERT_FILE)"
    );
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("tls: no protocol version")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The chain, the server's own certificate first.
fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = read("tls.cert", path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .with_context(|| format!("tls.cert: {} is not PEM", path.display()))?;
    ensure!(
        !chain.is_empty(),
        "tls.cert: {} has no certificate in it (a PEM file with BEGIN CERTIFICATE)",
        path.display()
    );
    Ok(chain)
}

fn key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let text = read("tls.key", path)?;
    PrivateKeyDer::from_pem_slice(&text).with_context(|| {
        format!("tls.key: {} has no private key in it (a PEM file with BEGIN PRIVATE KEY)", path.display())
    })
}

fn unusable(tls: &Tls, error: rustls::Error) -> anyhow::Error {
    let (cert, key) = (tls.cert.display(), tls.key.display());
    let why = match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "tls: the key in {key} does not belong to the first certificate in {cert}: \
             give the key it was made with, and the server's own certificate first"
        ),
        _ => format!("tls: the certificate in {cert} and the key in {key} cannot be used"),
    };
    anyhow::Error::new(error).context(why)
}

fn read(key: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{key}: cannot read {}", path.display()))
}
