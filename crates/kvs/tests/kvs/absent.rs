//! Operations about what this server does not have.

use serde_json::{Value, json};

use crate::rig::Rig;

#[tokio::test]
async fn what_is_not_there_is_answered_truly() {
    let rig = Rig::new().await;
    let arn = rig.create("s", 1).await;
    let stream = json!({ "StreamName": "s" });
    let channel = json!({ "ChannelARN": "arn:aws:kinesisvideo:x:0:channel/c/1" });
    for (operation, body, expected) in [
        ("listSignalingChannels", json!({}), json!({ "ChannelInfoList": [] })),
        ("listEdgeAgentConfigurations", json!({ "HubDeviceArn": "arn" }), json!({ "EdgeConfigs": [] })),
        ("describeImageGenerationConfiguration", stream.clone(), json!({})),
        ("describeNotificationConfiguration", stream.clone(), json!({})),
        (
            "describeMappedResourceConfiguration",
            stream.clone(),
            json!({ "MappedResourceConfigurationList": [] }),
        ),
        (
            "describeStreamStorageConfiguration",
            stream.clone(),
            json!({ "StreamName": "s", "StreamARN": arn, "StreamStorageConfiguration": { "DefaultStorageTier": "HOT" } }),
        ),
    ] {
        assert_eq!(rig.call(operation, body).await.json(), expected, "{operation}");
    }
    for (operation, body, status, exception) in [
        ("describeSignalingChannel", channel.clone(), 404, "ResourceNotFoundException"),
        ("getSignalingChannelEndpoint", channel.clone(), 404, "ResourceNotFoundException"),
        ("v1/get-ice-server-config", channel.clone(), 404, "ResourceNotFoundException"),
        ("deleteSignalingChannel", channel.clone(), 404, "ResourceNotFoundException"),
        ("updateSignalingChannel", channel.clone(), 404, "ResourceNotFoundException"),
        ("describeMediaStorageConfiguration", channel.clone(), 404, "ResourceNotFoundException"),
        ("updateMediaStorageConfiguration", channel.clone(), 404, "ResourceNotFoundException"),
        ("v1/send-alexa-offer-to-master", channel.clone(), 404, "ResourceNotFoundException"),
        ("joinStorageSessionAsViewer", channel.clone(), 404, "ResourceNotFoundException"),
        ("joinStorageSession", channel, 404, "ResourceNotFoundException"),
        ("updateImageGenerationConfiguration", stream.clone(), 501, "NotImplementedException"),
        ("updateNotificationConfiguration", stream.clone(), 501, "NotImplementedException"),
        ("deleteEdgeConfiguration", stream.clone(), 404, "StreamEdgeConfigurationNotFoundException"),
        ("createSignalingChannel", json!({ "ChannelName": "c" }), 501, "NotImplementedException"),
        ("startEdgeConfigurationUpdate", stream.clone(), 501, "NotImplementedException"),
        ("describeEdgeConfiguration", stream, 404, "StreamEdgeConfigurationNotFoundException"),
        ("describeEdgeConfiguration", json!({ "StreamName": "nobody" }), 404, "ResourceNotFoundException"),
        ("describeImageGenerationConfiguration", Value::Null, 400, "InvalidArgumentException"),
    ] {
        rig.refused(operation, body, status, exception).await;
    }
}

#[tokio::test]
async fn there_is_one_storage_tier() {
    let rig = Rig::new().await;
    rig.create("s", 1).await;
    let update = |version: &str, tier: &str| json!({ "StreamName": "s", "CurrentVersion": version, "StreamStorageConfiguration": { "DefaultStorageTier": tier } });
    let version = rig.version("s").await;
    rig.refused(
        "updateStreamStorageConfiguration",
        update(&version, "WARM"),
        400,
        "InvalidArgumentException",
    )
    .await;
    rig.refused("updateStreamStorageConfiguration", update("x", "HOT"), 400, "VersionMismatchException")
        .await;
    rig.call("updateStreamStorageConfiguration", update(&version, "HOT")).await.json();
    assert_ne!(rig.version("s").await, version);
}
