//! Assembling.
