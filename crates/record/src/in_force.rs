//! The settings in force: those of the configuration, until others are set. What was set lasts, beside the streams in the store, until it
//! is set again or taken back; the configuration's do not overrule it.

use std::sync::{Mutex, PoisonError};

use antiphon_store::Store;
use antiphon_store::key::KeyError;

use crate::error::Error;
use crate::settings::Settings;

/// Their name in the store.
const NAME: &str = "media-streaming";

/// Where the settings in force come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The configuration.
    Config,
    /// They were set while the server ran, by this one or one before it.
    Api,
    /// Some were set, and cannot be read. Nobody knows what they said about keys and retention, so nothing is streamed until
    /// they are set again or taken back.
    Unreadable,
}

impl Source {
    /// As it stands in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Api => "api",
            Self::Unreadable => "unreadable",
        }
    }
}

pub(crate) struct InForce {
    config: Settings,
    now: Mutex<(Settings, Source)>,
    /// Held by who changes them: what is in force is what was stored last.
    change: tokio::sync::Mutex<()>,
}

impl InForce {
    pub(crate) fn new(config: Settings) -> Self {
        Self {
            now: Mutex::new((config.clone(), Source::Config)),
            config,
            change: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn get(&self) -> (Settings, Source) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, settings: Settings, source: Source) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = (settings, source);
    }

    /// Takes up what the store has from before.
    pub(crate) async fn restore(&self, store: &Store) -> Result<Source, Error> {
        let _change = self.change.lock().await;
        let kept = match store.read_settings(NAME).await {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => parse(&bytes),
            Err(error @ antiphon_store::Error::Storage { .. }) => return Err(error.into()),
            Err(error) => Err(error.to_string()),
        };
        match kept {
            Ok(None) => self.put(self.config.clone(), Source::Config),
            Ok(Some(settings)) => self.put(settings, Source::Api),
            Err(error) => {
                tracing::error!(
                    error,
                    "the settings of media streaming cannot be read: nothing is streamed until they are set again \
                     (PUT /v1/media-streaming) or taken back (DELETE)"
                );
                self.put(Settings { enabled: false, ..self.config.clone() }, Source::Unreadable);
            }
        }
        Ok(self.get().1)
    }

    /// Stores settings, then they are in force; `None`: those of the configuration.
    pub(crate) async fn set(&self, store: &Store, settings: Option<Settings>) -> Result<(), Error> {
        if let Some(settings) = &settings {
            settings.check().map_err(Error::BadRequest)?;
            if !settings.key.is_empty() {
                let unknown = |error| match error {
                    // It may well be a key: nothing is known now.
                    antiphon_store::Error::Key(KeyError::Unavailable) => Error::from(error),
                    _ => Error::BadRequest(format!("key: {:?} is not there to be used", settings.key)),
                };
                store.try_key(&settings.key).await.map_err(unknown)?;
            }
        }
        let bytes = serde_json::to_vec(&settings).expect("settings have a JSON form");
        let _change = self.change.lock().await;
        // Taken back is stored as such, too: an object that was only removed may be there again after a power loss.
        store.write_settings(NAME, &bytes).await?;
        let source = if settings.is_some() { Source::Api } else { Source::Config };
        self.put(settings.unwrap_or_else(|| self.config.clone()), source);
        Ok(())
    }
}

/// What is stored: settings, or `null` where they were taken back.
fn parse(bytes: &[u8]) -> Result<Option<Settings>, String> {
    let settings: Option<Settings> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if let Some(settings) = &settings {
        settings.check()?;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_settings_of_this_version_or_taken_back() {
        assert_eq!(parse(b"null"), Ok(None));
        assert_eq!(
            parse(br#"{"enabled":true}"#),
            Ok(Some(Settings { enabled: true, ..Settings::default() }))
        );
        for bad in [&b""[..], b"{", b"\"text\"", b"7", b"\xff", br#"{"later":1}"#, br#"{"prefix":"a/b"}"#] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
