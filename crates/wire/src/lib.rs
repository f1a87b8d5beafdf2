//! TODO(wire)
