//! Any bytes as the bodies of WHEP's extensions: taken or refused, what is taken is within its bounds and survives being
//! written; any names in an event stay in its one line of data.

use std::collections::BTreeMap;

use antiphon_wire::whep::{
    Encoding, Event, EventType, Events, MAX_LAYER_ID, MAX_NAME_BYTES, MediaLayers, Selection,
};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    if let Ok(selection) = Selection::parse(bytes) {
        let names = [&selection.media_id, &selection.encoding_id];
        assert!(names.into_iter().flatten().all(|name| (1..=MAX_NAME_BYTES).contains(&name.len())));
        assert!(
            [selection.spatial(), selection.temporal()].into_iter().flatten().all(|id| id <= MAX_LAYER_ID)
        );
        let again = serde_json::to_vec(&selection).expect("text and numbers are JSON");
        assert_eq!(Selection::parse(&again), Ok(selection));
    }
    if let Ok(events) = Events::parse(bytes) {
        assert!(EventType::ALL.into_iter().any(|event| events.has(event)));
    }
    let name = String::from_utf8_lossy(bytes).into_owned();
    let encoding = Encoding { id: Some(name.clone()), ..Encoding::default() };
    let media = MediaLayers { inactive: vec![encoding], ..MediaLayers::default() };
    assert!(media.is_near(&media));
    let event = Event::Layers(BTreeMap::from([(name, media)]));
    assert_eq!(event.to_text().lines().count(), 3, "event, data, and the empty line");
}
