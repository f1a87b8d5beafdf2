//! Players (WHEP) choose layers and look at what there is; publishers without control channel say what they can be told.

use std::collections::BTreeMap;
use std::time::Instant;

use antiphon_base::{ParticipantId, ParticipantKey, Source};
use antiphon_wire::control::ParticipantKind;
use antiphon_wire::whep::Selection;

use super::Room;
use crate::output::MAX_LAYERS;
use crate::participant::{Role, SlotState};
use crate::playing::{self, Playing, SelectError};

impl Room {
    /// What a publisher calls the layers of a source (rids), the lowest first.
    pub fn name_layers(&mut self, now: Instant, key: ParticipantKey, source: Source, names: Vec<String>) {
        self.at(now);
        let Some(p) = self.participants.get_mut(&key) else { return };
        p.sources[source.index()].names = names.into_iter().take(usize::from(MAX_LAYERS)).collect();
        self.touch_scene();
    }

    /// A publisher without control channel can be told by [`Output::Bound`](crate::Output::Bound) how much it shall send.
    pub fn may_bound(&mut self, now: Instant, key: ParticipantKey) {
        self.at(now);
        if let Some(p) = self.participants.get_mut(&key) {
            p.boundable = !p.control;
        }
    }

    /// A player chooses what it gets in a video slot (`mid`; `None`: the first one), whoever is shown there: as much as
    /// that at most. What its bandwidth does not carry it does not get. A selection without attributes ends that, without a
    /// `mid` in all slots.
    ///
    /// # Errors
    /// Nothing changes then.
    pub fn select(
        &mut self,
        now: Instant,
        key: ParticipantKey,
        mid: Option<&str>,
        selection: &Selection,
    ) -> Result<(), SelectError> {
        self.at(now);
        let p = self.participants.get_mut(&key).ok_or(SelectError::Gone)?;
        if !p.may_request(self.now, self.config.requests_per_second) {
            return Err(SelectError::TooOften);
        }
        let p = self.participants.get(&key).ok_or(SelectError::Gone)?;
        let fits = |slot: &SlotState| slot.role != Role::Audio && mid.is_none_or(|mid| slot.mid == mid);
        let place = p.slots.iter().position(fits).ok_or(SelectError::UnknownMedia)?;
        let automatic = selection.is_automatic();
        if !automatic {
            let shown = p.slots[place].desired.ok_or(SelectError::NothingShown)?.track;
            let owner = self.participants.get(&shown.participant).ok_or(SelectError::NothingShown)?;
            playing::check(&owner.sources[shown.source.index()], selection)?;
        }
        let p = self.participants.get_mut(&key).ok_or(SelectError::Gone)?;
        if automatic {
            p.slots.iter_mut().filter(|slot| fits(slot)).for_each(|slot| slot.selection = None);
        } else {
            p.slots[place].selection = Some(Box::new(selection.clone()));
        }
        self.stats.selections += 1;
        self.dirty.insert(key);
        self.layers_dirty = true;
        Ok(())
    }

    /// What a player sees, as of the last drain.
    pub fn playing(&self, key: ParticipantKey) -> Option<Playing> {
        let p = self.participants.get(&key)?;
        let active = self.scene.tracks.values().any(|track| self.scene.reachable(p, track));
        let media = p.slots.iter().filter(|slot| slot.role != Role::Audio).map(|slot| {
            let shown = slot.desired.map(|feed| feed.track);
            let state = shown.and_then(|track| {
                Some(&self.participants.get(&track.participant)?.sources[track.source.index()])
            });
            (slot.mid.clone(), state.map(playing::layers).unwrap_or_default())
        });
        Some(Playing { active, media: media.collect() })
    }

    /// How many players are connected, by whom they play; `None`: the room.
    pub fn viewers(&self) -> BTreeMap<Option<&ParticipantId>, u32> {
        let mut viewers = BTreeMap::new();
        for p in self.participants.values().filter(|p| p.up && p.kind == ParticipantKind::Whep) {
            *viewers.entry(p.only.as_ref()).or_default() += 1;
        }
        viewers
    }

    /// Whom a player plays; `None`: the room.
    pub fn plays(&self, key: ParticipantKey) -> Option<&ParticipantId> {
        self.participants.get(&key)?.only.as_ref()
    }
}
