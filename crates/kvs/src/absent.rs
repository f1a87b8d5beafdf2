//! Operations of the API that are about things this server does not have: signaling channels, edge agents, storage tiers,
//! image generation and notifications to other services. What asks is answered truly; what would make one is refused cleanly.

use antiphon_store::StreamRef;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Kvs;
use crate::control::{Answer, answer, read};
use crate::error::KvsError;
use crate::model::StreamOf;

/// Made nowhere, so never found.
const CHANNEL: &str = "There is no such signaling channel: this server has none.";

fn not_found(exception: &'static str, message: &str) -> KvsError {
    KvsError::new(StatusCode::NOT_FOUND, exception, message)
}

/// Which operation, and what it says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Absent {
    /// A list that is always empty: its name in the answer.
    Empty(&'static str),
    /// About a channel.
    Channel,
    /// About a setting that no stream has: the stream is looked up, the answer has this list, if any.
    Unset(Option<&'static str>),
    /// About the edge configuration of a stream.
    Edge,
    /// What cannot be made or set here.
    Refused,
}

/// Every such operation: name, path, answer.
pub(crate) const ALL: [(&str, &str, Absent); 21] = [
    ("ListSignalingChannels", "listSignalingChannels", Absent::Empty("ChannelInfoList")),
    ("CreateSignalingChannel", "createSignalingChannel", Absent::Refused),
    ("DescribeSignalingChannel", "describeSignalingChannel", Absent::Channel),
    ("DeleteSignalingChannel", "deleteSignalingChannel", Absent::Channel),
    ("UpdateSignalingChannel", "updateSignalingChannel", Absent::Channel),
    ("GetSignalingChannelEndpoint", "getSignalingChannelEndpoint", Absent::Channel),
    ("DescribeMediaStorageConfiguration", "describeMediaStorageConfiguration", Absent::Channel),
    ("UpdateMediaStorageConfiguration", "updateMediaStorageConfiguration", Absent::Channel),
    ("GetIceServerConfig", "v1/get-ice-server-config", Absent::Channel),
    ("SendAlexaOfferToMaster", "v1/send-alexa-offer-to-master", Absent::Channel),
    ("JoinStorageSession", "joinStorageSession", Absent::Channel),
    ("JoinStorageSessionAsViewer", "joinStorageSessionAsViewer", Absent::Channel),
    ("ListEdgeAgentConfigurations", "listEdgeAgentConfigurations", Absent::Empty("EdgeConfigs")),
    ("DescribeEdgeConfiguration", "describeEdgeConfiguration", Absent::Edge),
    ("DeleteEdgeConfiguration", "deleteEdgeConfiguration", Absent::Edge),
    ("StartEdgeConfigurationUpdate", "startEdgeConfigurationUpdate", Absent::Refused),
    ("DescribeImageGenerationConfiguration", "describeImageGenerationConfiguration", Absent::Unset(None)),
    ("UpdateImageGenerationConfiguration", "updateImageGenerationConfiguration", Absent::Refused),
    ("DescribeNotificationConfiguration", "describeNotificationConfiguration", Absent::Unset(None)),
    ("UpdateNotificationConfiguration", "updateNotificationConfiguration", Absent::Refused),
    (
        "DescribeMappedResourceConfiguration",
        "describeMappedResourceConfiguration",
        Absent::Unset(Some("MappedResourceConfigurationList")),
    ),
];

impl Absent {
    pub(crate) async fn answer(self, kvs: Kvs, operation: &'static str, request: Request) -> Answer {
        let (caller, of): (_, StreamOf) = read(&kvs, operation, request).await?;
        match self {
            Self::Empty(list) => Ok(answer(&json!({ list: [] }))),
            Self::Channel => Err(not_found("ResourceNotFoundException", CHANNEL)),
            Self::Unset(list) => {
                kvs.store().describe(&caller.check(of.find()?)?)?;
                Ok(answer(&list.map_or(json!({}), |list| json!({ list: [] }))))
            }
            Self::Edge => {
                kvs.store().describe(&caller.check(of.find()?)?)?;
                let message = "The stream has no edge configuration: this server has none.";
                Err(not_found("StreamEdgeConfigurationNotFoundException", message))
            }
            Self::Refused => Err(KvsError::not_implemented(operation)),
        }
    }
}

/// `HOT` is what everything here is.
pub(crate) fn check_tier(configuration: Option<&Value>) -> Result<(), KvsError> {
    match configuration.map(|c| c["DefaultStorageTier"].as_str().unwrap_or_default()) {
        None | Some("HOT") => Ok(()),
        Some(_) => Err(KvsError::invalid("StreamStorageConfiguration: this server has only the tier HOT.")),
    }
}

pub(crate) async fn describe_stream_storage(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, of): (_, StreamOf) = read(&kvs, "DescribeStreamStorageConfiguration", request).await?;
    let info = kvs.store().describe(&caller.check(of.find()?)?)?;
    Ok(answer(&json!({
        "StreamName": info.name,
        "StreamARN": info.arn.as_str(),
        "StreamStorageConfiguration": { "DefaultStorageTier": "HOT" },
    })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateStorage {
    #[serde(flatten)]
    stream: StreamOf,
    current_version: String,
    stream_storage_configuration: Value,
}

pub(crate) async fn update_stream_storage(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, update): (_, UpdateStorage) =
        read(&kvs, "UpdateStreamStorageConfiguration", request).await?;
    let stream: StreamRef = caller.check(update.stream.find()?)?;
    check_tier(Some(&update.stream_storage_configuration))?;
    // Nothing changes, but for the version, as any change has it.
    kvs.store().update_stream(&stream, &update.current_version, None, None).await?;
    Ok(answer(&json!({})))
}
