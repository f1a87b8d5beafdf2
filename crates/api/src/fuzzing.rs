//! A door for the fuzz target to the readers of headers.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::{self, Key};
use crate::{body, ice, join};

/// Lines of `Name: value` as the headers of a request, the first line as the room in its path.
pub fn headers(bytes: &[u8]) {
    let mut lines = bytes.split(|b| *b == b'\n');
    if let Some(room) = lines.next().and_then(|line| std::str::from_utf8(line).ok())
        && let Ok(name) = auth::room_name(room)
    {
        assert_eq!(name.as_str(), room);
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        // As many as a request may have within its 64 kB.
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    join::read_all(&headers);
    ice::read(&headers);
    let _ = body::require_type(&headers, body::SDP);
    if let Ok(token) = auth::bearer(&headers) {
        let key = Key::new(&[1; 32]);
        assert!(key.read(&token).is_err(), "nobody guesses a signature");
    }
}
