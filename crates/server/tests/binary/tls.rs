//! HTTPS from certificate files, with a certificate made for the test.

use std::net::TcpStream;
use std::sync::Arc;

use data_encoding::BASE64;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::bot::Bot;
use crate::server::{Folder, Server, antiphon, exchange, join, text, token};

/// A certificate for `localhost` in the folder's `cert.pem`, its key in `key.pem`.
struct Certificate {
    der: CertificateDer<'static>,
    cert: String,
    key: String,
}

impl Certificate {
    fn new(folder: &Folder) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            cert: folder.file("cert.pem", &pem("CERTIFICATE", certificate.der())),
            key: folder.file("key.pem", &pem("PRIVATE KEY", &key.serialize_der())),
        }
    }

    fn settings(cert: &str, key: &str) -> String {
        format!("[tls]\ncert = '{cert}'\nkey = '{key}'\n")
    }

    /// A connection of a client that trusts this certificate and nothing else.
    fn connect(&self, server: &Server) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(client, server.connect())
    }
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn https_serves_pages_joins_and_bots() {
    let folder = Folder::new("tls");
    let certificate = Certificate::new(&folder);
    let file = folder.file("a.toml", &Certificate::settings(&certificate.cert, &certificate.key));
    let server = Server::start(&folder, &["--config", &file]);
    assert!(server.line.starts_with("antiphon: listening on https://127.0.0.1:"), "{}", server.line);

    let plain = server.request("GET /livez", "");
    assert!(!plain.contains("HTTP/1.1 200"), "plain HTTP is not answered on this port: {plain}");
    let live = exchange(&mut certificate.connect(&server), "GET /livez", "", "");
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");

    let token = token(&folder, &["--room", "r"]);
    let joined = join(&mut certificate.connect(&server), "r", &token);
    assert!(joined.starts_with("HTTP/1.1 201") && joined.contains("a=candidate:"), "{joined}");
    let mut bot = Bot::join(certificate.connect(&server), "r", &token);
    let roster = bot.message("roster");
    assert_eq!(roster.matches("\"kind\":").count(), 2, "the participant and the bot: {roster}");
}

#[test]
fn certificate_files_that_do_not_fit_end_the_start_with_a_sentence() {
    let (folder, other) = (Folder::new("tls-wrong"), Folder::new("tls-other"));
    let (ours, theirs) = (Certificate::new(&folder), Certificate::new(&other));
    let nothing = folder.file("nothing.pem", "");
    let rows = [
        (&ours.cert, &theirs.key, "tls: the key in "),
        (&ours.cert, &"/nonexistent.pem".to_owned(), "tls.key: cannot read /nonexistent.pem"),
        (&"/nonexistent.pem".to_owned(), &ours.key, "tls.cert: cannot read /nonexistent.pem"),
        (&ours.cert, &ours.cert, "tls.key: "),
        (&ours.key, &ours.key, "tls.cert: "),
        (&nothing, &ours.key, "tls.cert: "),
        (&ours.cert, &String::new(), "tls: set both cert and key"),
    ];
    for (cert, key, part) in rows {
        let file = folder.file("a.toml", &Certificate::settings(cert, key));
        let output =
            antiphon().args(["serve", "--config", &file, "--data"]).arg(folder.data()).output().unwrap();
        let (out, error) = text(&output);
        assert!(!output.status.success() && out.is_empty(), "{cert} {key}: {out}");
        assert!(error.starts_with(&format!("antiphon: {part}")), "{cert} {key}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "one sentence: {error}");
    }
}
