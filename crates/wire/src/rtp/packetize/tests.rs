//! Packetizing.
