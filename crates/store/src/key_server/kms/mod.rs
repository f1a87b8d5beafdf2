//! A key server that speaks the JSON API of AWS KMS (`Encrypt`, `Decrypt`), with requests signed by Signature Version 4.

mod answer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use object_store::HeaderValue;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::{Ask, Caller, Failure, client};
use super::{MAX_BLOB_BYTES, MIN_SEALED_BYTES, base_url, data_key};
use crate::error::Error;
use crate::key::{KeyError, KeyServer, Secret};

/// What an id, an alias or an ARN of a key has at most, as Amazon has it.
const MAX_ID_BYTES: usize = 2048;
/// The pair of the encryption context: which object of the store the key is for.
const CONTEXT: &str = "antiphon:object";

/// Where the key server is and who we are there.
#[derive(Clone)]
pub struct Config {
    /// Its region.
    pub region: String,
    /// Base URL of one that is not Amazon's; empty: Amazon's.
    pub endpoint: String,
    /// Access key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// With temporary credentials: their token; else empty.
    pub session_token: String,
    /// Whether plain HTTP will do, for a server in the same network. Data keys pass in it.
    pub allow_http: bool,
    /// How long one request may take. A call has up to three.
    pub timeout: Duration,
}

impl Config {
    /// Whether it can be, without asking the server.
    ///
    /// # Errors
    /// What cannot, by its name.
    pub fn check(&self) -> Result<(), String> {
        let region = (1..=32).contains(&self.region.len())
            && self.region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !region {
            return Err("region: 1 to 32 letters, digits and -".into());
        }
        let graphic = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if self.access_key_id.is_empty() || self.secret_access_key.is_empty() {
            return Err("set both access_key_id and secret_access_key".into());
        }
        if !graphic(&self.access_key_id) || !graphic(&self.session_token) {
            return Err("access_key_id, session_token: visible ASCII characters".into());
        }
        self.url().map(drop)
    }

    fn url(&self) -> Result<String, String> {
        if self.endpoint.is_empty() {
            return Ok(format!("https://kms.{}.amazonaws.com/", self.region));
        }
        let base = base_url(&self.endpoint, self.allow_http).map_err(|e| format!("endpoint: {e}"))?;
        Ok(format!("{base}/"))
    }
}

/// Whether a text can name a key there: an id, an alias (`alias/...`) or the ARN of either.
pub fn is_key_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/_-:".contains(&b);
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

/// A key server.
pub struct Kms {
    url: String,
    region: String,
    credential: AwsCredential,
    caller: Caller,
}

impl std::fmt::Debug for Kms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kms({})", self.region)
    }
}

/// One call: the operation and its arguments.
struct Call<'a> {
    kms: &'a Kms,
    target: &'static str,
    body: Bytes,
}

impl Ask for Call<'_> {
    fn what(&self) -> &str {
        self.target
    }

    fn request(&self) -> Option<HttpRequest> {
        self.kms.request(self.target, self.body.clone())
    }

    fn failure(&self, answer: &HttpResponse, body: &[u8]) -> Failure {
        let named = answer.headers().get("x-amzn-errortype").and_then(|value| value.to_str().ok());
        answer::failure(answer.status().as_u16(), named, body)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: String,
}

impl Kms {
    /// Does not connect yet.
    ///
    /// # Errors
    /// The configuration cannot be.
    pub fn new(config: &Config) -> Result<Self, Error> {
        Self::with_client(config, client(config.timeout, config.allow_http, Vec::new())?)
    }

    fn with_client(config: &Config, client: HttpClient) -> Result<Self, Error> {
        config.check().map_err(Error::InvalidArgument)?;
        let url = config.url().map_err(Error::InvalidArgument)?;
        let credential = AwsCredential {
            key_id: config.access_key_id.clone(),
            secret_key: config.secret_access_key.clone(),
            token: Some(config.session_token.clone()).filter(|token| !token.is_empty()),
        };
        Ok(Self {
            url,
            region: config.region.clone(),
            credential,
            caller: Caller::new("kms", client, config.timeout),
        })
    }

    /// Has a key encrypt a data key. `of` is part of it: nothing else opens under another one.
    pub(crate) async fn encrypt(&self, id: &str, of: &str, secret: &Secret) -> Result<Vec<u8>, KeyError> {
        let ask = json!({ "KeyId": id, "Plaintext": BASE64.encode(&secret.0), "EncryptionContext": { CONTEXT: of } });
        self.call("TrentService.Encrypt", &ask, |answer: Encrypted| {
            let text = answer.ciphertext_blob;
            let blob = BASE64.decode(text.as_bytes()).map_err(|_| KeyError::Unavailable)?;
            // A key that answers otherwise is no key of ours, whatever it is.
            let fits = (MIN_SEALED_BYTES..=MAX_BLOB_BYTES).contains(&blob.len());
            if fits { Ok(blob) } else { Err(KeyError::Validation) }
        })
        .await
    }

    /// Has that key decrypt it again. The key is named: what another has encrypted does not open, even if that one would.
    pub(crate) async fn decrypt(&self, id: &str, of: &str, blob: &[u8]) -> Result<Secret, KeyError> {
        let ask = json!({ "KeyId": id, "CiphertextBlob": BASE64.encode(blob), "EncryptionContext": { CONTEXT: of } });
        self.call("TrentService.Decrypt", &ask, |answer: Decrypted| data_key(&answer.plaintext)).await
    }

    /// How it does.
    pub(crate) fn health(&self) -> KeyServer {
        self.caller.health()
    }

    async fn call<T: serde::de::DeserializeOwned, R>(
        &self,
        target: &'static str,
        ask: &Value,
        read: impl FnOnce(T) -> Result<R, KeyError>,
    ) -> Result<R, KeyError> {
        let call = Call { kms: self, target, body: ask.to_string().into() };
        self.caller.call(&call, read).await
    }

    fn request(&self, target: &'static str, body: Bytes) -> Option<HttpRequest> {
        let mut request = HttpRequest::new(body.into());
        *request.method_mut() = "POST".parse().ok()?;
        *request.uri_mut() = self.url.parse().ok()?;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert("x-amz-target", HeaderValue::from_static(target));
        AwsAuthorizer::new(&self.credential, "kms", &self.region).try_authorize(&mut request, None).ok()?;
        Some(request)
    }
}
