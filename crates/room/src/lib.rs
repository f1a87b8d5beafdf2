//! TODO(room)
