//! Streams: named, time-ordered sequences of self-contained Matroska fragments in an object store, encrypted, kept for as
//! long as their retention says, readable while they are written. What Kinesis Video Streams is, without its cloud.
//!
//! A producer's [`Session`] takes Matroska in pieces of any size. Each element is seen by live [`Reader`]s as soon as it is
//! complete; each cluster becomes a [fragment](FragmentNumber) that is sealed and stored, and only then acknowledged as
//! [`Ack::Persisted`]. The index is a listing: there is no database to lose. `docs/design/store.md` has the layout and
//! the rules of a crash.
//!
//! Time is an argument everywhere, in milliseconds since 1970; a store does nothing by itself: call [`Store::sweep`] once
//! a minute, and [`Store::sync_journal`] five times a second if it has a journal. Needs a tokio runtime.
//!
//! ```
//! use std::sync::Arc;
//! use antiphon_store::key::{LocalKeys, Secret};
//! use antiphon_store::matroska::write;
//! use antiphon_store::{Backend, Config, NewStream, Start, Step, Store, StreamRef, Timecodes};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let keys = Arc::new(LocalKeys::new("default", Secret([7; 32])));
//! let now = 1_700_000_000_000;
//! let (store, problems) = Store::open(Backend::memory(), keys, Config::default(), now).await?;
//! assert!(problems.is_empty());
//! let name = StreamRef::Name("call-1".into());
//! let new = NewStream { name: "call-1".into(), retention_h: 24, ..NewStream::default() };
//! store.create_stream(new, now).await?;
//!
//! let (mut session, _acks) = store.open_session(&name, Timecodes::Absolute, now).await?;
//! let track = write::PcmTrack { number: 1, name: "VOICE".into(), rate_hz: 8000, label: write::PcmLabel::Pcm };
//! session.push(&write::pcm_header("call", &[track], &[]), now).await.unwrap();
//! session.push(&write::cluster_start(now), now).await.unwrap();
//! session.push(&write::simple_block(1, 0, &[0; 1024]), now).await.unwrap();
//! assert_eq!(session.finish(true, now).await.kept, 1);
//!
//! let mut reader = store.get_media(&name, Start::Earliest, now)?;
//! assert!(matches!(reader.next(now).await, Step::Bytes(_)));
//! # Ok::<(), antiphon_store::Error>(()) }).unwrap();
//! ```

mod admin;
mod archive;
mod check;
mod config;
mod contact;
mod crypt;
mod document;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hour;
mod index;
pub mod ingest;
mod journal;
pub mod key;
pub mod key_server;
mod keyring;
mod keys;
mod layout;
mod listing;
mod live;
pub mod matroska;
mod media;
mod news;
mod number;
mod object;
mod persist;
mod places;
mod quarantine;
mod rate;
mod read;
mod record;
mod recover;
mod rewrap;
mod salvage;
mod sealed;
mod selectors_fuzz;
mod session;
mod settings;
mod stats;
mod store;
mod stream;
mod sweep;
mod whose;

pub use admin::{Arn, MAX_RETENTION_H, NewStream, StreamInfo, StreamRef};
pub use archive::{FragmentInfo, FragmentList, MAX_LIST, MAX_PAGE, Page, Range};
pub use check::{Depth, Report, look};
pub use config::{Config, Journaled};
pub use contact::Stretch;
pub use error::{Error, Limit, StorageFault};
pub use hour::date;
pub use index::Clock;
pub use ingest::{FaultKind, Timecodes};
pub use keyring::{Keyring, There};
pub use layout::{Flags, HeaderId};
pub use media::{Breaks, Frame, Media};
pub use news::{News, Persisted};
pub use number::{FragmentNumber, NumberError};
pub use object::{Backend, Drained, Health, S3};
pub use places::Place;
pub use read::{Reader, Start, Step};
pub use record::Status;
pub use recover::Problem;
pub use rewrap::{Rewrapped, rewrap};
pub use session::{Ack, AckOf, Acks, Finished, Session};
pub use stats::{Stats, is_near_limit};
pub use store::Store;
pub use sweep::Swept;
