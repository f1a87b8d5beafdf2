//! TODO(media)
