//! Request and answer shapes, with the names of the API. Fields that are not known are let be, as SDKs grow them.

use std::collections::BTreeMap;

use antiphon_store::{FragmentInfo, Status, StreamInfo};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `StreamName` or `StreamARN`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct StreamOf {
    #[serde(rename = "StreamName")]
    pub(crate) name: Option<String>,
    #[serde(rename = "StreamARN")]
    pub(crate) arn: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateStream {
    pub(crate) stream_name: String,
    pub(crate) device_name: Option<String>,
    pub(crate) media_type: Option<String>,
    pub(crate) kms_key_id: Option<String>,
    #[serde(default)]
    pub(crate) data_retention_in_hours: u32,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) stream_storage_configuration: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ListStreams {
    pub(crate) max_results: Option<usize>,
    pub(crate) next_token: Option<String>,
    pub(crate) stream_name_condition: Option<NameCondition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NameCondition {
    pub(crate) comparison_operator: Option<String>,
    pub(crate) comparison_value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeleteStream {
    #[serde(rename = "StreamARN")]
    pub(crate) stream_arn: String,
    pub(crate) current_version: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UpdateDataRetention {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) current_version: String,
    pub(crate) operation: String,
    pub(crate) data_retention_change_in_hours: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UpdateStream {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) current_version: String,
    pub(crate) device_name: Option<String>,
    pub(crate) media_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TagStream {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UntagStream {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) tag_key_list: Vec<String>,
}

/// A resource by its ARN: here, a stream.
#[derive(Debug, Deserialize)]
pub(crate) struct ResourceOf {
    #[serde(rename = "ResourceARN")]
    pub(crate) resource_arn: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TagResource {
    #[serde(rename = "ResourceARN")]
    pub(crate) resource_arn: String,
    pub(crate) tags: Vec<TagIn>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TagIn {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UntagResource {
    #[serde(rename = "ResourceARN")]
    pub(crate) resource_arn: String,
    pub(crate) tag_key_list: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct GetDataEndpoint {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    #[serde(rename = "APIName")]
    pub(crate) api_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetMedia {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) start_selector: StartSelector,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StartSelector {
    pub(crate) start_selector_type: String,
    pub(crate) after_fragment_number: Option<String>,
    pub(crate) start_timestamp: Option<Value>,
    pub(crate) continuation_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListFragments {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) max_results: Option<usize>,
    pub(crate) next_token: Option<String>,
    pub(crate) fragment_selector: Option<FragmentSelector>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FragmentSelector {
    pub(crate) fragment_selector_type: String,
    pub(crate) timestamp_range: TimestampRange,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TimestampRange {
    pub(crate) start_timestamp: Value,
    pub(crate) end_timestamp: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetMediaForFragmentList {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) fragments: Vec<String>,
}

/// `HLSFragmentSelector` and `DASHFragmentSelector`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PlaybackSelector {
    pub(crate) fragment_selector_type: Option<String>,
    pub(crate) timestamp_range: Option<PlaybackRange>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PlaybackRange {
    pub(crate) start_timestamp: Option<Value>,
    pub(crate) end_timestamp: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetHls {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) playback_mode: Option<String>,
    #[serde(rename = "HLSFragmentSelector")]
    pub(crate) fragment_selector: Option<PlaybackSelector>,
    pub(crate) container_format: Option<String>,
    pub(crate) discontinuity_mode: Option<String>,
    pub(crate) display_fragment_timestamp: Option<String>,
    pub(crate) expires: Option<u64>,
    pub(crate) max_media_playlist_fragment_results: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetDash {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) playback_mode: Option<String>,
    #[serde(rename = "DASHFragmentSelector")]
    pub(crate) fragment_selector: Option<PlaybackSelector>,
    pub(crate) display_fragment_timestamp: Option<String>,
    pub(crate) display_fragment_number: Option<String>,
    pub(crate) expires: Option<u64>,
    pub(crate) max_manifest_fragment_results: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetClip {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) clip_fragment_selector: FragmentSelector,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetImages {
    #[serde(flatten)]
    pub(crate) stream: StreamOf,
    pub(crate) image_selector_type: String,
    pub(crate) start_timestamp: Value,
    pub(crate) end_timestamp: Value,
    pub(crate) sampling_interval: Option<u64>,
    pub(crate) format: String,
    pub(crate) format_config: Option<BTreeMap<String, String>>,
    pub(crate) width_pixels: Option<u32>,
    pub(crate) height_pixels: Option<u32>,
    pub(crate) max_results: Option<usize>,
    pub(crate) next_token: Option<String>,
}

/// `StreamInfo`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StreamInfoOut {
    device_name: String,
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    media_type: String,
    kms_key_id: String,
    version: String,
    status: &'static str,
    creation_time: f64,
    data_retention_in_hours: u32,
}

impl From<StreamInfo> for StreamInfoOut {
    fn from(info: StreamInfo) -> Self {
        Self {
            device_name: info.device_name,
            stream_name: info.name,
            stream_arn: info.arn.as_str().to_owned(),
            media_type: info.media_type,
            kms_key_id: info.key,
            version: info.version,
            status: match info.status {
                Status::Active => "ACTIVE",
                Status::Deleting => "DELETING",
            },
            creation_time: seconds(info.created_ms),
            data_retention_in_hours: info.retention_h,
        }
    }
}

/// One of `Fragments`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FragmentOut {
    fragment_number: String,
    fragment_size_in_bytes: u64,
    producer_timestamp: f64,
    server_timestamp: f64,
    fragment_length_in_milliseconds: u64,
}

impl From<&FragmentInfo> for FragmentOut {
    fn from(f: &FragmentInfo) -> Self {
        Self {
            fragment_number: f.number.to_string(),
            fragment_size_in_bytes: f.size,
            producer_timestamp: seconds(f.producer_ms),
            server_timestamp: seconds(f.server_ms),
            fragment_length_in_milliseconds: f.duration_ms,
        }
    }
}

/// Times of answers are seconds since 1970.
pub(crate) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
