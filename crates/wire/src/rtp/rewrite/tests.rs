//! Slot rewriting.
