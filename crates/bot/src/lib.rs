//! TODO(bot)
