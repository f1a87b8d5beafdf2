//! RTP payloads: descriptors, rewriting, packetizing and depacketizing.
