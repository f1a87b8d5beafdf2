//! Whole rooms: the real shard and real WebRTC peers in virtual time, on a simulated network (`antiphon_sim`).

mod meeting;
