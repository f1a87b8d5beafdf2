//! TLS for HTTP, from certificate files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Tls;

/// `None` where no certificate is configured.
pub(crate) fn load(tls: &Tls) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    if tls.cert.as_os_str().is_empty() {
        return Ok(None);
    }
    let certificates = certificates(&tls.cert)
        .with_context(|| format!("tls.cert: {} is not a PEM certificate chain", tls.cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .with_context(|| format!("tls.key: {} is not a PEM private key", tls.key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("tls: no protocol version")?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .context("tls: certificate and key do not fit")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let file = BufReader::new(File::open(path)?);
    let chain = CertificateDer::pem_reader_iter(file).collect::<Result<Vec<_>, _>>()?;
    ensure!(!chain.is_empty(), "there is no certificate in it");
    Ok(chain)
}
