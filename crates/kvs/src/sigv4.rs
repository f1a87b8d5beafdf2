//! Verifying AWS Signature Version 4, as the clients of Kinesis Video Streams were seen to make it.
//!
//! `aws-sigv4` only signs, so this is ours. It takes what real clients send: hosts signed with or without their port, signed
//! headers that are not sent, security tokens that are not signed, and, for `PutMedia` only, bodies that are not part of
//! the signature. Time is an argument.

use aws_lc_rs::{constant_time, digest, hmac};
use axum::http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::error::KvsError;
use crate::time;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "kinesisvideo";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// The longest signature header and query that is looked at: a session token has some 2 kB.
const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Presigned requests are good for a week at most, as Amazon has it.
const MAX_EXPIRES_S: u64 = 604_800;

/// Who may sign.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The public part.
    pub access_key_id: String,
    /// The secret part.
    pub secret_access_key: String,
    /// For temporary credentials: the token that has to come with them.
    pub session_token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.access_key_id)
    }
}

/// What was signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Always `POST` here.
    pub method: &'a str,
    /// As received, encoded.
    pub path: &'a str,
    /// As received, encoded, without the question mark.
    pub query: &'a str,
    /// All of them.
    pub headers: &'a HeaderMap,
}

/// How the body takes part in the signature.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// It has to be signed: here it is.
    Signed(&'a [u8]),
    /// A stream (`PutMedia`): signed as empty; `unsigned` also lets it be left out of the signature.
    Stream {
        /// Whether nobody on the way can change it.
        unsigned: bool,
    },
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No signature.
    Missing,
    /// A signature that does not have its parts.
    Incomplete,
    /// No such access key.
    UnknownKey,
    /// The session token is not the key's, or not one of ours.
    Token,
    /// The session token has ended.
    TokenExpired,
    /// The request's time is too far from ours.
    Expired,
    /// A presigned request whose time is over.
    PresignedExpired,
    /// Anything else.
    Mismatch,
}

impl From<Refusal> for KvsError {
    fn from(refusal: Refusal) -> Self {
        let (exception, message) = match refusal {
            Refusal::Missing => ("MissingAuthenticationTokenException", "Missing Authentication Token"),
            Refusal::Incomplete => ("IncompleteSignatureException", "The signature lacks some of its parts."),
            Refusal::UnknownKey => {
                ("UnrecognizedClientException", "The security token included in the request is invalid.")
            }
            Refusal::Token => {
                ("UnrecognizedClientException", "The security token included in the request is invalid.")
            }
            Refusal::TokenExpired => {
                ("ExpiredTokenException", "The security token included in the request is expired.")
            }
            Refusal::Expired => (
                "InvalidSignatureException",
                "Signature expired: the request's time is too far from the server's.",
            ),
            Refusal::PresignedExpired => ("RequestExpired", "The presigned request has expired."),
            Refusal::Mismatch => (
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. \
                 Check your AWS Secret Access Key and signing method.",
            ),
        };
        Self::forbidden(exception, message)
    }
}

/// The parts of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    key_id: String,
    date: String,
    region: String,
    signed_headers: Vec<String>,
    signature: Vec<u8>,
    /// `x-amz-date`.
    timestamp: String,
    /// How long a presigned request is good.
    expires_s: Option<u64>,
    token: Option<String>,
}

/// Finds the credentials of an access key's id and the session token that came with it, and what is known of whose they are.
pub type Find<'a, T> = dyn Fn(&str, Option<&str>) -> Result<(Credentials, T), Refusal> + 'a;

/// Verifies a request; gives what is known of the access key.
///
/// # Errors
/// Why it is not let in.
pub fn verify<T>(
    request: Request<'_>,
    payload: Payload<'_>,
    find: &Find<'_, T>,
    now_s: u64,
    skew_s: u64,
) -> Result<T, Refusal> {
    let signature = Signature::of(request)?;
    let (who, known) = find(&signature.key_id, signature.token.as_deref())?;
    if let Some(expected) = &who.session_token {
        let given = signature.token.as_deref().unwrap_or_default();
        constant_time::verify_slices_are_equal(given.as_bytes(), expected.as_bytes())
            .map_err(|_| Refusal::Token)?;
    }
    signature.check_time(now_s, skew_s)?;
    let key = signature.key(&who.secret_access_key);
    for hash in hashes(request.headers, payload)? {
        for host in hosts(request.headers) {
            let canonical = canonical(request, &signature, &host, &hash);
            let scope = format!("{}/{}/{SERVICE}/aws4_request", signature.date, signature.region);
            let to_sign =
                format!("{ALGORITHM}\n{}\n{scope}\n{}", signature.timestamp, sha256(canonical.as_bytes()));
            if hmac::verify(&key, to_sign.as_bytes(), &signature.signature).is_ok() {
                return Ok(known);
            }
        }
    }
    Err(Refusal::Mismatch)
}

impl Signature {
    fn of(request: Request<'_>) -> Result<Self, Refusal> {
        let header = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok());
        if let Some(text) = header("authorization") {
            let mut signature = Self::from_header(text)?;
            signature.timestamp = header("x-amz-date").ok_or(Refusal::Incomplete)?.to_owned();
            signature.token = header("x-amz-security-token").map(str::to_owned);
            return signature.checked("x-amz-date");
        }
        if request.query.contains("X-Amz-Signature=") {
            return Self::from_query(request.query)?.checked("host");
        }
        Err(Refusal::Missing)
    }

    /// Host and date have to be signed, or a request could be moved to another place and time.
    fn checked(self, other: &str) -> Result<Self, Refusal> {
        let signed = |name: &str| self.signed_headers.iter().any(|h| h == name);
        let dated = time::basic(&self.timestamp).is_some() && self.timestamp.starts_with(&self.date);
        if !signed("host") || !signed(other) || self.date.len() != 8 || !dated {
            return Err(Refusal::Incomplete);
        }
        Ok(self)
    }

    fn from_header(text: &str) -> Result<Self, Refusal> {
        let rest = text.strip_prefix(ALGORITHM).ok_or(Refusal::Missing)?;
        if text.len() > MAX_TEXT_BYTES {
            return Err(Refusal::Incomplete);
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            match part.trim().split_once('=') {
                Some(("Credential", value)) => credential = Some(value),
                Some(("SignedHeaders", value)) => signed_headers = Some(value),
                Some(("Signature", value)) => signature = Some(value),
                _ => return Err(Refusal::Incomplete),
            }
        }
        Self::from_parts(credential, signed_headers, signature).ok_or(Refusal::Incomplete)
    }

    fn from_query(query: &str) -> Result<Self, Refusal> {
        if query.len() > MAX_TEXT_BYTES {
            return Err(Refusal::Incomplete);
        }
        let find = |name: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
            percent_decode_str(value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
        };
        let (credential, headers) = (find("X-Amz-Credential"), find("X-Amz-SignedHeaders"));
        let parts = (credential.as_deref(), headers.as_deref(), find("X-Amz-Signature"));
        let mut signature =
            Self::from_parts(parts.0, parts.1, parts.2.as_deref()).ok_or(Refusal::Incomplete)?;
        if find("X-Amz-Algorithm").as_deref() != Some(ALGORITHM) {
            return Err(Refusal::Incomplete);
        }
        signature.timestamp = find("X-Amz-Date").ok_or(Refusal::Incomplete)?;
        let expires = find("X-Amz-Expires").and_then(|text| text.parse::<u64>().ok());
        signature.expires_s = Some(expires.filter(|s| *s <= MAX_EXPIRES_S).ok_or(Refusal::Incomplete)?);
        signature.token = find("X-Amz-Security-Token");
        Ok(signature)
    }

    fn from_parts(credential: Option<&str>, headers: Option<&str>, signature: Option<&str>) -> Option<Self> {
        // An access key may have slashes in it; the scope has not.
        let mut scope = credential?.rsplitn(5, '/');
        let (end, service, region) = (scope.next()?, scope.next()?, scope.next()?);
        let (date, key_id) = (scope.next()?, scope.next()?);
        if end != "aws4_request" || service != SERVICE {
            return None;
        }
        let signature = signature?.as_bytes();
        let (pairs, rest) = signature.as_chunks::<2>();
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        Some(Self {
            key_id: key_id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            signed_headers: headers?.split(';').map(str::to_ascii_lowercase).collect(),
            signature: bytes.filter(|b| b.len() == 32 && rest.is_empty())?,
            timestamp: String::new(),
            expires_s: None,
            token: None,
        })
    }

    fn check_time(&self, now_s: u64, skew_s: u64) -> Result<(), Refusal> {
        let at = time::basic(&self.timestamp).ok_or(Refusal::Incomplete)?;
        let latest = at + self.expires_s.unwrap_or(skew_s);
        match self.expires_s {
            Some(_) if latest < now_s => Err(Refusal::PresignedExpired),
            _ if at > now_s + skew_s || latest < now_s => Err(Refusal::Expired),
            _ => Ok(()),
        }
    }

    fn key(&self, secret: &str) -> hmac::Key {
        let parts = [self.date.as_str(), &self.region, SERVICE, "aws4_request"];
        let first = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
        parts.iter().fold(first, |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        })
    }
}

fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// What the signature may say of the body.
fn hashes(headers: &HeaderMap, payload: Payload<'_>) -> Result<Vec<String>, Refusal> {
    let said = headers.get("x-amz-content-sha256").and_then(|v| v.to_str().ok());
    match payload {
        Payload::Signed(body) => {
            let hash = sha256(body);
            if said.is_some_and(|said| said != hash) {
                return Err(Refusal::Mismatch);
            }
            Ok(vec![hash])
        }
        Payload::Stream { unsigned } => {
            let mut allowed = vec![sha256(b"")];
            if unsigned {
                allowed.push(UNSIGNED.to_owned());
            }
            // Some say it in a header that they add after signing, some say nothing: whichever fits.
            match said {
                Some(said) if !allowed.iter().any(|a| a == said) => Err(Refusal::Mismatch),
                Some(said) => Ok(vec![said.to_owned()]),
                None => Ok(allowed),
            }
        }
    }
}

/// The host as received; and without its port, as two of Amazon's producers sign it.
fn hosts(headers: &HeaderMap) -> Vec<String> {
    let host = headers.get("host").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => vec![host.clone(), name.to_owned()],
        _ => vec![host],
    }
}

fn canonical(request: Request<'_>, signature: &Signature, host: &str, hash: &str) -> String {
    let mut out = format!("{}\n{}\n", request.method, encoded(request.path));
    let mut pairs: Vec<String> = request
        .query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("X-Amz-Signature="))
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    out.push_str(&pairs.join("&"));
    out.push('\n');
    for name in &signature.signed_headers {
        let value = if name == "host" { host.to_owned() } else { header_value(request.headers, name) };
        out.push_str(&format!("{name}:{value}\n"));
    }
    out.push_str(&format!("\n{}\n{hash}", signature.signed_headers.join(";")));
    out
}

/// The path once more encoded, as every service but S3 wants it.
fn encoded(path: &str) -> String {
    path.replace('%', "%25")
}

/// All values of a header, runs of spaces made one; absent is empty: curl signs `expect` and then does not send it.
fn header_value(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    let trimmed: Vec<String> =
        values.map(|v| v.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect();
    trimmed.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    const NOW: u64 = 1_700_000_000;
    const DATE: &str = "20231114T221320Z";

    fn who() -> Credentials {
        Credentials { access_key_id: "AK/ID".into(), secret_access_key: "secret".into(), session_token: None }
    }

    /// Whose key it is: the id says.
    fn known(who: Credentials) -> impl Fn(&str, Option<&str>) -> Result<(Credentials, String), Refusal> {
        move |id, _| {
            if who.access_key_id == id { Ok((who.clone(), id.to_owned())) } else { Err(Refusal::UnknownKey) }
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair =
            |(n, v): &(&str, &str)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap());
        pairs.iter().map(pair).collect()
    }

    /// Signs independently of the code above, from a canonical request written out by hand.
    fn sign(canonical: &str) -> String {
        let scope = "20231114/eu-west-1/kinesisvideo/aws4_request";
        let text = format!("{ALGORITHM}\n{DATE}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let mut key = b"AWS4secret".to_vec();
        for part in ["20231114", "eu-west-1", "kinesisvideo", "aws4_request"] {
            let k = hmac::Key::new(hmac::HMAC_SHA256, &key);
            key = hmac::sign(&k, part.as_bytes()).as_ref().to_vec();
        }
        let k = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::sign(&k, text.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }

    fn authorization(signed: &str, canonical: &str) -> String {
        let credential = "AK/ID/20231114/eu-west-1/kinesisvideo/aws4_request";
        format!("{ALGORITHM} Credential={credential}, SignedHeaders={signed}, Signature={}", sign(canonical))
    }

    fn check(pairs: &[(&str, &str)], path: &str, payload: Payload<'_>) -> Result<String, Refusal> {
        let headers = headers(pairs);
        let request = Request { method: "POST", path, query: "", headers: &headers };
        verify(request, payload, &known(who()), NOW, 300)
    }

    fn json_request(body: &[u8]) -> String {
        let canonical = format!(
            "POST\n/kvs/getMedia\n\nhost:127.0.0.1:7700\nx-amz-date:{DATE}\n\nhost;x-amz-date\n{}",
            sha256(body)
        );
        authorization("host;x-amz-date", &canonical)
    }

    #[test]
    fn a_json_request_has_its_body_signed() {
        let auth = json_request(b"{}");
        let pairs = [("host", "127.0.0.1:7700"), ("x-amz-date", DATE), ("authorization", auth.as_str())];
        assert_eq!(check(&pairs, "/kvs/getMedia", Payload::Signed(b"{}")), Ok("AK/ID".into()));
        assert_eq!(check(&pairs, "/kvs/getMedia", Payload::Signed(b"{ }")), Err(Refusal::Mismatch));
        assert_eq!(check(&pairs, "/kvs/putMedia", Payload::Signed(b"{}")), Err(Refusal::Mismatch));
        let unsigned = [&pairs[..], &[("x-amz-content-sha256", UNSIGNED)]].concat();
        assert_eq!(check(&unsigned, "/kvs/getMedia", Payload::Signed(b"{}")), Err(Refusal::Mismatch));
    }

    #[test]
    fn producers_sign_hosts_without_port_headers_they_do_not_send_and_empty_bodies() {
        let stream = Payload::Stream { unsigned: false };
        for hash in [sha256(b""), UNSIGNED.to_owned()] {
            let canonical = format!(
                "POST\n/putMedia\n\nexpect:\nhost:localhost\nuser-agent:a b\nx-amz-date:{DATE}\n\n\
                 expect;host;user-agent;x-amz-date\n{hash}"
            );
            let auth = authorization("expect;host;user-agent;x-amz-date", &canonical);
            let pairs = [
                ("host", "localhost:7700"),
                ("user-agent", " a   b "),
                ("x-amz-date", DATE),
                ("authorization", auth.as_str()),
            ];
            let unsigned = hash == UNSIGNED;
            assert_eq!(check(&pairs, "/putMedia", stream).is_ok(), !unsigned);
            assert!(check(&pairs, "/putMedia", Payload::Stream { unsigned: true }).is_ok());
            let said = [&pairs[..], &[("x-amz-content-sha256", hash.as_str())]].concat();
            assert!(check(&said, "/putMedia", Payload::Stream { unsigned: true }).is_ok());
            let other = [&pairs[..], &[("x-amz-content-sha256", "00")]].concat();
            assert_eq!(check(&other, "/putMedia", stream), Err(Refusal::Mismatch));
        }
    }

    #[test]
    fn a_presigned_request_is_good_until_it_expires() {
        let query = format!(
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential=AK%2FID%2F20231114%2Feu-west-1%2Fkinesisvideo%2Faws4_request\
             &X-Amz-Date={DATE}&X-Amz-Expires=60&X-Amz-SignedHeaders=host"
        );
        let canonical = format!("POST\n/getMedia\n{query}\nhost:h\n\nhost\n{}", sha256(b"{}"));
        let query = format!("{query}&X-Amz-Signature={}", sign(&canonical));
        let headers = headers(&[("host", "h")]);
        let request = Request { method: "POST", path: "/getMedia", query: &query, headers: &headers };
        let at = |now| verify(request, Payload::Signed(b"{}"), &known(who()), now, 300);
        assert_eq!(at(NOW + 60), Ok("AK/ID".into()));
        assert_eq!(at(NOW + 61), Err(Refusal::PresignedExpired));
        assert_eq!(at(NOW - 301), Err(Refusal::Expired));
    }

    #[test]
    fn a_presigned_stream_is_unsigned_where_nobody_can_change_it_only() {
        let query = format!(
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential=AK%2FID%2F20231114%2Feu-west-1%2Fkinesisvideo%2Faws4_request\
             &X-Amz-Date={DATE}&X-Amz-Expires=60&X-Amz-SignedHeaders=host"
        );
        let canonical = format!("POST\n/putMedia\n{query}\nhost:h\n\nhost\n{UNSIGNED}");
        let query = format!("{query}&X-Amz-Signature={}", sign(&canonical));
        let headers = headers(&[("host", "h")]);
        let request = Request { method: "POST", path: "/putMedia", query: &query, headers: &headers };
        let over = |unsigned| verify(request, Payload::Stream { unsigned }, &known(who()), NOW, 300);
        assert_eq!(over(true), Ok("AK/ID".into()));
        assert_eq!(over(false), Err(Refusal::Mismatch));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let auth = json_request(b"{}");
        let good = [("host", "127.0.0.1:7700"), ("x-amz-date", DATE), ("authorization", auth.as_str())];
        let headers = headers(&good);
        let request = Request { method: "POST", path: "/kvs/getMedia", query: "", headers: &headers };
        let with = |who: Credentials, now| verify(request, Payload::Signed(b"{}"), &known(who), now, 300);
        assert_eq!(with(Credentials { access_key_id: "x".into(), ..who() }, NOW), Err(Refusal::UnknownKey));
        let wrong = Credentials { secret_access_key: "x".into(), ..who() };
        assert_eq!(with(wrong, NOW), Err(Refusal::Mismatch));
        let token = Credentials { session_token: Some("t".into()), ..who() };
        assert_eq!(with(token.clone(), NOW), Err(Refusal::Token));
        assert_eq!(with(who(), NOW + 301), Err(Refusal::Expired));
        // The token belongs to the key, signed or not.
        let said = [&good[..], &[("x-amz-security-token", "t")]].concat();
        let said = self::headers(&said);
        let request = Request { headers: &said, ..request };
        assert!(verify(request, Payload::Signed(b"{}"), &known(token), NOW, 300).is_ok());
        assert_eq!(check(&[("host", "h")], "/", Payload::Signed(b"")), Err(Refusal::Missing));
        for bad in ["AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a", "Bearer x", ""] {
            let pairs = [("host", "h"), ("x-amz-date", DATE), ("authorization", bad)];
            assert!(check(&pairs, "/", Payload::Signed(b"")).is_err(), "{bad}");
        }
        let elsewhere = auth.replace("kinesisvideo/", "s3/");
        let pairs = [("host", "h"), ("x-amz-date", DATE), ("authorization", elsewhere.as_str())];
        assert_eq!(check(&pairs, "/", Payload::Signed(b"")), Err(Refusal::Incomplete));
        let host_only = auth.replace("host;x-amz-date", "host");
        let pairs = [("host", "h"), ("x-amz-date", DATE), ("authorization", host_only.as_str())];
        assert_eq!(check(&pairs, "/", Payload::Signed(b"")), Err(Refusal::Incomplete));
    }

    #[test]
    fn any_signature_at_all_is_refused_calmly() {
        let good = json_request(b"{}");
        for seed in 0..3000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut bytes = good.clone().into_bytes();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                match rng.random_range(0..3) {
                    0 => bytes[at] = rng.random_range(b' '..=b'~'),
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, rng.random_range(b' '..=b'~')),
                }
            }
            let text = String::from_utf8(bytes).unwrap();
            let pairs = [("host", "127.0.0.1:7700"), ("x-amz-date", DATE), ("authorization", text.as_str())];
            let verified = check(&pairs, "/kvs/getMedia", Payload::Signed(b"{}"));
            let spaced = |t: &str| t.replace(' ', "").to_ascii_lowercase();
            assert!(verified.is_err() || spaced(&text) == spaced(&good), "{text}");
        }
    }
}
