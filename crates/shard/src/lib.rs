//! TODO(shard)
