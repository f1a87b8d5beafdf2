//! A key server that speaks the API of Vault's transit secrets engine (`encrypt`, `decrypt`): HashiCorp's Vault, or OpenBao.
//! <https://openbao.org/api-docs/secret/transit/>
//!
//! A key is bound to its object by `associated_data`; `context` says the same for keys that derive one for each context, and is
//! overlooked by others.

mod answer;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use object_store::HeaderValue;
use object_store::client::{HttpClient, HttpRequest, HttpResponse};
use reqwest::Certificate;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::caller::{Ask, Caller, Failure, client};
use super::{MAX_BLOB_BYTES, MIN_SEALED_BYTES, base_url, data_key};
use crate::error::Error;
use crate::key::{KeyError, KeyServer, Secret};

/// How every ciphertext of the engine begins; its own number of the key's version follows.
const PREFIX: &str = "vault:v";
/// Of a data key, in base64 behind the version's number.
const MIN_TEXT_BYTES: usize = PREFIX.len() + "1:".len() + MIN_SEALED_BYTES.div_ceil(3) * 4;
/// As long as a name of ours may be.
const MAX_NAME_BYTES: usize = 128;
/// A service token has about 100 bytes, a batch token some hundred.
const MAX_TOKEN_BYTES: usize = 8192;

/// Where the server is and who we are there.
#[derive(Clone)]
pub struct Config {
    /// Base URL, as in `VAULT_ADDR`.
    pub address: String,
    /// Where the engine is mounted: `transit`.
    pub mount: String,
    /// The namespace that the mount is in; empty: the root.
    pub namespace: String,
    /// The token; empty: it is in the file.
    pub token: String,
    /// A file with the token, read for each call: who renews the token replaces the file. Empty: there is none.
    pub token_file: PathBuf,
    /// Certificates (PEM) of who is believed beside those whom the system believes; read once. Empty: nobody.
    pub ca_file: PathBuf,
    /// Whether plain HTTP will do, for a server in the same network. Data keys and the token pass in it.
    pub allow_http: bool,
    /// How long one request may take. A call has up to three.
    pub timeout: Duration,
}

impl Config {
    /// Whether it can be, without asking the server or reading the file.
    ///
    /// # Errors
    /// What cannot, by its name.
    pub fn check(&self) -> Result<(), String> {
        if self.token.is_empty() == self.token_file.as_os_str().is_empty() {
            return Err("set either token or token_file".into());
        }
        if !self.token.is_empty() && token(self.token.as_bytes()).is_none() {
            return Err("token: visible ASCII characters".into());
        }
        for (what, path) in [("mount", &self.mount), ("namespace", &self.namespace)] {
            let empty = path.is_empty() && what == "namespace";
            if !empty && !path.split('/').all(is_key_name) {
                return Err(format!("{what}: letters, digits, _, - and ., with / between names"));
            }
        }
        base_url(&self.address, self.allow_http).map(drop).map_err(|e| format!("address: {e}"))
    }
}

/// Whether a text can name a key there (or a part of a path).
pub fn is_key_name(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(first, last)| word(*first) && word(*last));
    let rest = bytes.iter().all(|b| word(*b) || b"-.".contains(b));
    ends && rest && bytes.len() <= MAX_NAME_BYTES && !text.contains("..")
}

/// What a token is sent as: never printed.
fn token(text: &[u8]) -> Option<HeaderValue> {
    let text = text.trim_ascii();
    let good = (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
    let mut value = HeaderValue::from_bytes(text).ok().filter(|_| good)?;
    value.set_sensitive(true);
    Some(value)
}

/// Who we are there.
enum Token {
    Fixed(HeaderValue),
    File(PathBuf),
}

/// A Vault.
pub struct Vault {
    /// Up to and with the mount.
    url: String,
    namespace: Option<HeaderValue>,
    token: Token,
    /// Whether the log has that the file cannot be read.
    told: AtomicBool,
    timeout: Duration,
    caller: Caller,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.url)
    }
}

/// One call: the path behind the mount and its arguments.
struct Call<'a> {
    vault: &'a Vault,
    token: HeaderValue,
    path: String,
    body: Bytes,
}

impl Ask for Call<'_> {
    fn what(&self) -> &str {
        &self.path
    }

    fn request(&self) -> Option<HttpRequest> {
        let mut request = HttpRequest::new(self.body.clone().into());
        *request.method_mut() = "POST".parse().ok()?;
        *request.uri_mut() = format!("{}/{}", self.vault.url, self.path).parse().ok()?;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        // A Vault Agent between us and the server takes nothing without it.
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        headers.insert("x-vault-token", self.token.clone());
        if let Some(namespace) = &self.vault.namespace {
            headers.insert("x-vault-namespace", namespace.clone());
        }
        Some(request)
    }

    fn failure(&self, answer: &HttpResponse, body: &[u8]) -> Failure {
        answer::failure(answer.status().as_u16(), body)
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
    warnings: Option<Vec<String>>,
}

impl<T> Answer<T> {
    /// A server that overlooks what binds a key (Vault before 1.13) would make one that opens anywhere, and not after it is brought up to date.
    fn bound(self) -> Result<T, KeyError> {
        let overlooked = self.warnings.iter().flatten().any(|warning| warning.contains("associated_data"));
        if overlooked { Err(KeyError::Validation) } else { Ok(self.data) }
    }
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}

impl Vault {
    /// Does not connect yet, nor read the token's file.
    ///
    /// # Errors
    /// The configuration cannot be, or `ca_file` cannot be read.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let believed =
            certificates(&config.ca_file).map_err(|e| Error::InvalidArgument(format!("ca_file: {e}")))?;
        Self::with_client(config, client(config.timeout, config.allow_http, believed)?)
    }

    fn with_client(config: &Config, client: HttpClient) -> Result<Self, Error> {
        config.check().map_err(Error::InvalidArgument)?;
        let base = base_url(&config.address, config.allow_http).map_err(Error::InvalidArgument)?;
        let namespace = Some(&config.namespace).filter(|name| !name.is_empty());
        let fixed = token(config.token.as_bytes()).map(Token::Fixed);
        Ok(Self {
            url: format!("{base}/v1/{}", config.mount),
            namespace: namespace.and_then(|name| HeaderValue::from_str(name).ok()),
            token: fixed.unwrap_or_else(|| Token::File(config.token_file.clone())),
            told: AtomicBool::new(false),
            timeout: config.timeout,
            caller: Caller::new("vault", client, config.timeout),
        })
    }

    /// Has a key encrypt a data key. `of` is part of it: nothing else opens under another one.
    pub(crate) async fn encrypt(&self, name: &str, of: &str, secret: &Secret) -> Result<Vec<u8>, KeyError> {
        let ask = bound(of, json!({ "plaintext": BASE64.encode(&secret.0) }));
        self.call("encrypt", name, &ask, |answer: Encrypted| {
            let text = answer.ciphertext;
            let fits = text.starts_with(PREFIX) && (MIN_TEXT_BYTES..=MAX_BLOB_BYTES).contains(&text.len());
            if fits { Ok(text.into_bytes()) } else { Err(KeyError::Validation) }
        })
        .await
    }

    /// Has that key decrypt it again.
    pub(crate) async fn decrypt(&self, name: &str, of: &str, blob: &[u8]) -> Result<Secret, KeyError> {
        let text = str::from_utf8(blob).map_err(|_| self.caller.refused(KeyError::Validation))?;
        let ask = bound(of, json!({ "ciphertext": text }));
        self.call("decrypt", name, &ask, |answer: Decrypted| data_key(&answer.plaintext)).await
    }

    /// How it does.
    pub(crate) fn health(&self) -> KeyServer {
        self.caller.health()
    }

    async fn call<T: DeserializeOwned, R>(
        &self,
        what: &str,
        name: &str,
        ask: &Value,
        read: impl FnOnce(T) -> Result<R, KeyError>,
    ) -> Result<R, KeyError> {
        let token = self.token().await.ok_or_else(|| self.caller.refused(KeyError::AccessDenied))?;
        let call = Call { vault: self, token, path: format!("{what}/{name}"), body: ask.to_string().into() };
        self.caller.call(&call, |answer: Answer<T>| read(answer.bound()?)).await
    }

    async fn token(&self) -> Option<HeaderValue> {
        let path = match &self.token {
            Token::Fixed(token) => return Some(token.clone()),
            Token::File(path) => path,
        };
        let text = tokio::time::timeout(self.timeout, read(path)).await;
        let text = text.unwrap_or_else(|_| Err("it takes too long".into()));
        match text.and_then(|text| token(&text).ok_or_else(|| "it has no token, or more than that".into())) {
            Ok(token) => {
                self.told.store(false, Ordering::Relaxed);
                Some(token)
            }
            Err(error) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(path = %path.display(), error, "the key server's token cannot be read");
                }
                None
            }
        }
    }
}

/// The arguments of both operations, for one object of the store.
fn bound(of: &str, mut ask: Value) -> Value {
    let of = BASE64.encode(of.as_bytes());
    (ask["associated_data"], ask["context"]) = (of.clone().into(), of.into());
    ask
}

/// No more than a token has, and of a file only: a pipe would be waited for.
async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let text = |e: std::io::Error| e.to_string();
    let mut options = tokio::fs::OpenOptions::new();
    let file = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).await.map_err(text)?;
    if !file.metadata().await.map_err(text)?.is_file() {
        return Err("it is no regular file".into());
    }
    let mut all = Vec::new();
    file.take(MAX_TOKEN_BYTES as u64 + 1).read_to_end(&mut all).await.map_err(text)?;
    Ok(all)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    if path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    let all = Certificate::from_pem_bundle(&text).map_err(|e| e.to_string())?;
    if all.is_empty() { Err("no certificate is in it".into()) } else { Ok(all) }
}
