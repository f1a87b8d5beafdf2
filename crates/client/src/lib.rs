//! TODO(client)
