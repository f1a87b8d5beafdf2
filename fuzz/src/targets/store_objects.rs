//! Any bytes as a stored object, as a path, as a fragment number.

use antiphon_store::{Arn, FragmentNumber};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_store::fuzzing::object(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        antiphon_store::fuzzing::path(text);
        let _ = text.parse::<Arn>();
        if let Ok(number) = text.parse::<FragmentNumber>() {
            assert!(
                number == FragmentNumber::MAX
                    || text.trim_start_matches('0') == number.to_string().trim_start_matches('0')
            );
        }
    }
}
