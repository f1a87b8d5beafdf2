//! Round trips, corrupt input, recovery. The pictures come from [`crate::synth`].
