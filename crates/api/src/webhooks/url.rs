//! Where a webhook goes: `http://` or `https://`, a host, a port, a path. No user names, no fragments.

use std::fmt;
use std::str::FromStr;

use axum::http::Uri;
use axum::http::uri::Scheme;

/// Why a URL was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlError;

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL is http:// or https://, a host, and a path, without a user's name or a fragment")
    }
}

impl std::error::Error for UrlError {}

/// A URL that can be posted to. It is not shown in logs: some receivers put their secret into it.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    pub(super) tls: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// As it stands in the header `Host`.
    pub(super) authority: String,
    pub(super) path: String,
}

impl Url {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is `https://`.
    pub fn is_https(&self) -> bool {
        self.tls
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url")
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        // `Uri` drops a fragment, which would be no mistake that anybody notices.
        let uri: Uri =
            if text.contains('#') { return Err(UrlError) } else { text.parse().map_err(|_| UrlError)? };
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(UrlError),
        };
        let authority = uri.authority().ok_or(UrlError)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = match authority.as_str().strip_prefix(authority.host()).ok_or(UrlError)? {
            "" => {
                if tls {
                    443
                } else {
                    80
                }
            }
            port => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or(UrlError)?,
        };
        if host.is_empty() || port == 0 {
            return Err(UrlError);
        }
        Ok(Self {
            text: text.to_owned(),
            tls,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |text: &str| {
            let url: Url = text.parse().unwrap();
            (url.tls, url.host, url.port, url.authority, url.path)
        };
        let text = |t: &str| t.to_owned();
        assert_eq!(
            parts("https://a.example/hook?x=1"),
            (true, text("a.example"), 443, text("a.example"), text("/hook?x=1"))
        );
        assert_eq!(parts("http://[::1]:81"), (false, text("::1"), 81, text("[::1]:81"), text("/")));
        for bad in [
            "",
            "/",
            "a.example",
            "ftp://a",
            "http://",
            "http://u:p@a/",
            "http://a/#f",
            "http://a:0/",
            "http://a:x/",
            "http://a:99999/",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", "http://a/secret".parse::<Url>().unwrap()), "Url");
    }
}
