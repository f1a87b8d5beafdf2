use super::*;

#[test]
fn a_selection_is_an_object_of_known_attributes() {
    let all = r#"{"mediaId":"1","encodingId":"hd","spatialLayerId":1,"temporalLayerId":2,"maxSpatialLayerId":0,"maxTemporalLayerId":7}"#;
    let selection = Selection::parse(all.as_bytes()).unwrap();
    assert_eq!((selection.spatial(), selection.temporal()), (Some(0), Some(2)));
    assert_eq!(serde_json::to_string(&selection).unwrap(), all);
    assert!(!selection.is_automatic());
    for automatic in ["{}", r#"{"mediaId":"0"}"#, r#"{"encodingId":null}"#] {
        assert!(Selection::parse(automatic.as_bytes()).unwrap().is_automatic(), "{automatic}");
    }
    let newer = Selection::parse(br#"{"rid":"hd","maxHeight":360}"#).unwrap();
    assert_eq!((newer.encoding_id.as_deref(), newer.max_height), (Some("hd"), Some(360)));
    for bad in [
        "",
        "[]",
        "null",
        "{",
        r#"{"encodingID":"h"}"#,
        r#"{"mediaId":0}"#,
        r#"{"spatialLayerId":-1}"#,
        r#"{"rid":"a","encodingId":"b"}"#,
    ] {
        assert!(matches!(Selection::parse(bad.as_bytes()), Err(Refused::Malformed(_))), "{bad}");
    }
    let long = format!(r#"{{"encodingId":"{}"}}"#, "x".repeat(65));
    let huge = format!(r#"{{"encodingId":"{}"}}"#, "x".repeat(2_000));
    for bad in [r#"{"encodingId":""}"#, r#"{"temporalLayerId":8}"#, r#"{"maxHeight":0}"#, &long, &huge] {
        assert!(matches!(Selection::parse(bad.as_bytes()), Err(Refused::Meaningless(_))), "{bad}");
    }
}

#[test]
fn events_are_a_list_of_names_or_all() {
    for all in ["", " \r\n", r#"["recording","viewercount","layers","inactive","active"]"#] {
        let events = Events::parse(all.as_bytes()).unwrap();
        assert!(EventType::ALL.into_iter().all(|event| events.has(event)), "{all}");
    }
    let some = Events::parse(br#"["layers","layers"]"#).unwrap();
    assert_eq!(EventType::ALL.map(|event| some.has(event)), [false, false, true, false, false]);
    for bad in ["{}", "[1]", "[", "\"layers\""] {
        assert!(matches!(Events::parse(bad.as_bytes()), Err(Refused::Malformed(_))), "{bad}");
    }
    for bad in ["[]", r#"["scte35"]"#, &format!("[{}\"layers\"]", "\"layers\",".repeat(200))] {
        assert!(matches!(Events::parse(bad.as_bytes()), Err(Refused::Meaningless(_))), "{bad}");
    }
}

#[test]
fn events_are_written_as_the_draft_shows() {
    let recording = Event::Recording(RecordingState::Announcing);
    assert_eq!(recording.to_text(), "event: recording\ndata: {\"recording\":\"announcing\"}\n\n");
    assert_eq!(Event::ViewerCount(3).to_text(), "event: viewercount\ndata: {\"viewercount\":3}\n\n");
    let sent = Encoding {
        id: Some("1".into()),
        simulcast_idx: 1,
        bitrate: Some(538_288),
        width: Some(640),
        height: Some(360),
    };
    let idle = Encoding { id: Some("2".into()), simulcast_idx: 2, ..Encoding::default() };
    let layer = Layer {
        encoding_id: Some("1".into()),
        simulcast_idx: 1,
        temporal_layer_id: 1,
        bitrate: Some(557_112),
        width: Some(640),
        height: Some(360),
        ..Layer::default()
    };
    let media = MediaLayers { active: vec![sent], inactive: vec![idle], layers: vec![layer] };
    let event = Event::Layers([("0".to_owned(), media)].into());
    assert_eq!(
        event.data(),
        "{\"0\":{\"active\":[{\"id\":\"1\",\"simulcastIdx\":1,\"bitrate\":538288,\"width\":640,\"height\":360}],\
         \"inactive\":[{\"id\":\"2\",\"simulcastIdx\":2}],\
         \"layers\":[{\"encodingId\":\"1\",\"simulcastIdx\":1,\"spatialLayerId\":0,\"temporalLayerId\":1,\
         \"bitrate\":557112,\"width\":640,\"height\":360}]}}"
    );
    // A name with a line break stays one line.
    let named = Encoding { id: Some("a\nb".into()), ..Encoding::default() };
    let media = MediaLayers { active: vec![named], ..MediaLayers::default() };
    assert_eq!(Event::Layers([("0".to_owned(), media)].into()).data().lines().count(), 1);
}

#[test]
fn a_little_more_bitrate_is_no_news() {
    let of = |bitrate, height| MediaLayers {
        active: vec![Encoding { bitrate, height, ..Encoding::default() }],
        ..MediaLayers::default()
    };
    assert!(of(Some(100), None).is_near(&of(Some(125), None)));
    assert!(!of(Some(100), None).is_near(&of(Some(150), None)));
    assert!(!of(Some(100), None).is_near(&of(None, None)));
    assert!(!of(Some(100), None).is_near(&of(Some(100), Some(1))));
}
