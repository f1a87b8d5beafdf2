//! One function per parser and rewriter.

pub(crate) mod control;
pub(crate) mod framing;
pub(crate) mod http_headers;
pub(crate) mod kvs_repack;
pub(crate) mod kvs_request;
pub(crate) mod record_file;
pub(crate) mod record_sound;
pub(crate) mod room_slot;
pub(crate) mod rtcp;
pub(crate) mod rtp_assemble;
pub(crate) mod rtp_dependency;
pub(crate) mod rtp_packetize;
pub(crate) mod rtp_payload;
pub(crate) mod rtp_rewrite;
pub(crate) mod sdp_offer;
pub(crate) mod sdpfrag;
pub(crate) mod store_ingest;
pub(crate) mod store_journal;
pub(crate) mod store_matroska;
pub(crate) mod store_objects;
pub(crate) mod store_selectors;
pub(crate) mod stun;
pub(crate) mod topic;
pub(crate) mod whep;
pub(crate) mod wire_container;
