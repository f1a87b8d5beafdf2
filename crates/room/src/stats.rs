//! Counters of a room, for metrics and `GET`.

/// All grow since the room began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Participants that entered.
    pub joins: u64,
    /// Joins and resumes that were refused.
    pub joins_refused: u64,
    /// Connections that took their old place.
    pub resumes: u64,
    /// Requests on control channels.
    pub requests: u64,
    /// Of these, answered with an error.
    pub requests_refused: u64,
    /// Control messages queued.
    pub messages: u64,
    /// Control messages dropped because the host did not drain.
    pub messages_dropped: u64,
    /// Slots that were given another feed.
    pub routes: u64,
    /// Keyframes that subscribers wanted.
    pub keyframes_wanted: u64,
    /// Keyframes asked of publishers.
    pub keyframes_asked: u64,
    /// Wants that cost no keyframe of their own.
    pub keyframes_absorbed: u64,
    /// Layers refused: no grant, unknown participant, wrong kind, too many publishers.
    pub layers_refused: u64,
    /// Taps over the limit.
    pub taps_refused: u64,
    /// Messages on topics that were given to those who get them.
    pub data_messages: u64,
    /// Messages on topics that were refused.
    pub data_refused: u64,
    /// Messages by which publishers were told which layers are wanted.
    pub layers_told: u64,
    /// Bounds by which publishers without control channel were told the same.
    pub bounds_told: u64,
    /// Layers that players have selected, or given back.
    pub selections: u64,
    /// Messages by which subscribers were told that fewer videos are served, or all again.
    pub limits_told: u64,
    /// Changes of the number of videos that the server's load allows.
    pub load_caps: u64,
    /// Recordings that were announced.
    pub recordings_announced: u64,
    /// Of these, never begun because somebody did not acknowledge them in time.
    pub recordings_not_acknowledged: u64,
    /// How often somebody was put on hold.
    pub holds: u64,
    /// Changes of the dominant-speaker set.
    pub dominant_changes: u64,
}
