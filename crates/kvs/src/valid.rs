//! What texts may be, as the API's model says it. Names of streams, numbers and lengths that the store itself needs are
//! checked there.

use std::collections::BTreeMap;

use crate::error::KvsError;

/// `TagKeyList` of one request.
const MAX_TAG_KEYS: usize = 50;

fn word(text: &str, more: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || more.contains(c))
}

/// One or more `type/subtype`, with commas between.
pub(crate) fn media_type(text: &str) -> Result<(), KvsError> {
    let one = |text: &str| text.split_once('/').is_some_and(|(a, b)| word(a, "-.+") && word(b, "-.+"));
    if text.len() <= 128 && text.split(',').all(one) {
        return Ok(());
    }
    Err(KvsError::invalid("MediaType: type/subtype, or more of them with commas between; at most 128 bytes."))
}

pub(crate) fn device_name(text: &str) -> Result<(), KvsError> {
    if text.len() <= 128 && word(text, ".-") {
        return Ok(());
    }
    Err(KvsError::invalid("DeviceName: 1 to 128 letters, digits, and _ . -"))
}

pub(crate) fn key_id(text: &str) -> Result<(), KvsError> {
    if (1..=2048).contains(&text.len()) {
        return Ok(());
    }
    Err(KvsError::invalid("KmsKeyId: 1 to 2048 bytes."))
}

fn tag_text(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c))
}

fn tag_key(key: &str) -> bool {
    !key.is_empty() && key.chars().count() <= 128 && tag_text(key) && !key.starts_with("aws:")
}

pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Result<(), KvsError> {
    let value = |value: &str| value.chars().count() <= 256 && tag_text(value);
    if tags.iter().all(|(k, v)| tag_key(k) && value(v)) {
        return Ok(());
    }
    Err(KvsError::invalid(
        "Tags: keys of 1 to 128 letters, digits, spaces and _ . : / = + - @, not beginning with aws:; values of at most 256.",
    ))
}

pub(crate) fn tag_keys(keys: &[String]) -> Result<(), KvsError> {
    if (1..=MAX_TAG_KEYS).contains(&keys.len()) && keys.iter().all(|key| tag_key(key)) {
        return Ok(());
    }
    Err(KvsError::invalid(format!("TagKeyList: 1 to {MAX_TAG_KEYS} keys of tags.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_model() {
        for good in ["audio/L16", "video/h264,audio/aac", "a/b+c.d-e"] {
            media_type(good).unwrap();
        }
        for bad in ["", "audio", "a/b/c", "a/b,", "a b/c", "ä/b", &format!("a/{}", "b".repeat(128))] {
            assert!(media_type(bad).is_err(), "{bad}");
        }
        device_name("a-1_b.c").unwrap();
        for bad in ["", "a b", "a/b", &"a".repeat(129)] {
            assert!(device_name(bad).is_err(), "{bad}");
        }
        let tag = |key: &str, value: &str| tags(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
        tag("Ort", "Zürich 1").unwrap();
        for (key, value) in [("", "a"), ("aws:x", "a"), ("a", "<"), ("a*", "b"), (&"k".repeat(129), "a")] {
            assert!(tag(key, value).is_err(), "{key} {value}");
        }
        assert!(tag_keys(&[]).is_err() && tag_keys(&vec!["a".into(); 51]).is_err());
    }
}
