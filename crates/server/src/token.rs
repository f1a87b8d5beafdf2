//! `antiphon token`: makes a token with the node's key.

use std::path::PathBuf;
use std::time::Duration;

use antiphon_api::{Claims, Grant};
use antiphon_base::{ParticipantId, RoomName};
use antiphon_record::ContactId;
use antiphon_wire::control::check_display_name;
use anyhow::{Context, bail};
use clap::Args;

use crate::key;

/// Prints a JSON Web Token on one line.
#[derive(Args)]
pub(crate) struct Token {
    /// Folder with the server's signing key
    #[arg(long, value_name = "DIR", env = "ANTIPHON_DATA", default_value = "data")]
    data: PathBuf,
    /// The room it opens
    #[arg(long, value_name = "NAME", value_parser = room)]
    room: RoomName,
    /// Who its bearer is; without it, every connection is a participant of its own
    #[arg(long, value_name = "ID", value_parser = identity)]
    identity: Option<ParticipantId>,
    /// Name to show
    #[arg(long, value_name = "TEXT", value_parser = display_name)]
    name: Option<String>,
    /// The contact that its bearer is: one caller's conversation, whatever room and connection carries it
    #[arg(long, value_name = "ID", value_parser = contact)]
    contact: Option<ContactId>,
    /// What it allows: publish, subscribe, bot, moderate, record, admin [default: the first three]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = grant)]
    grants: Option<Vec<String>>,
    /// How long it is good: 90s, 15m, 1h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    ttl: Duration,
}

impl Token {
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let key = key::load_or_create(&self.data)?;
        let claims = Claims {
            sub: self.identity.clone(),
            name: self.name.clone(),
            contact: self.contact.clone(),
            grants: self.grants.clone(),
            ..Claims::new(self.room.clone(), self.ttl)
        };
        println!("{}", key.sign(&claims));
        Ok(())
    }
}

fn room(text: &str) -> Result<RoomName, String> {
    RoomName::new(text).map_err(|e| format!("a room name {e}"))
}

fn identity(text: &str) -> Result<ParticipantId, String> {
    ParticipantId::new(text).map_err(|e| format!("an identity {e}"))
}

fn contact(text: &str) -> Result<ContactId, String> {
    ContactId::new(text).map_err(|e| format!("a contact id {e}"))
}

fn display_name(text: &str) -> Result<String, String> {
    check_display_name(text).map_err(|e| e.to_string())?;
    Ok(text.to_owned())
}

fn grant(text: &str) -> Result<String, String> {
    let known = Grant::ALL.iter().any(|g| g.as_str() == text);
    if known {
        Ok(text.to_owned())
    } else {
        Err("it is one of publish, subscribe, bot, moderate, record, admin".into())
    }
}

/// A number and `s`, `m`, `h` or `d`.
pub(crate) fn duration(text: &str) -> anyhow::Result<Duration> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let number: u64 = number.parse().context("it begins with a whole number, as in 1h")?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => bail!("it ends with s, m, h or d, as in 1h"),
    };
    let seconds = number.checked_mul(seconds).context("it is too long")?;
    if seconds > MAX_TTL_S {
        bail!("a token is good for at most ten years");
    }
    Ok(Duration::from_secs(seconds))
}

const MAX_TTL_S: u64 = 10 * 366 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("90s").unwrap().as_secs(), 90);
        assert_eq!(duration("1h").unwrap().as_secs(), 3_600);
        assert_eq!(duration("7d").unwrap().as_secs(), 604_800);
        for bad in ["", "h", "1", "-1h", "1w", "1.5h", "99999999999999d", "100000d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
