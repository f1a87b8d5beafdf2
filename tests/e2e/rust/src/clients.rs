//! The SDK's clients as a program has them: only the endpoint is another, and there is no TLS on loopback.

use aws_sdk_kinesisvideo::config::{
    BehaviorVersion, Config, Credentials, Region, SharedHttpClient, retry::RetryConfig,
};
use aws_sdk_kinesisvideo::types::ApiName;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn credentials(secret: String) -> Credentials {
    Credentials::new(variable("ACCESS_KEY_ID"), secret, None, None, "test")
}

fn http() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}

fn region() -> Region {
    Region::from_static("us-east-1")
}

/// The control plane with this secret.
pub fn control_with(secret: String) -> aws_sdk_kinesisvideo::Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(variable("ENDPOINT"))
        .region(region())
        .credentials_provider(credentials(secret))
        // What is refused once is a finding, not something to try again.
        .retry_config(RetryConfig::disabled())
        .http_client(http())
        .build();
    aws_sdk_kinesisvideo::Client::from_conf(config)
}

/// The control plane.
pub fn control() -> aws_sdk_kinesisvideo::Client {
    control_with(variable("SECRET_ACCESS_KEY"))
}

async fn endpoint(stream: &str, api: ApiName) -> String {
    let answer = control().get_data_endpoint().stream_name(stream).api_name(api).send().await;
    answer.expect("an endpoint").data_endpoint.expect("its address")
}

/// Who reads media as they come.
pub async fn media(stream: &str) -> aws_sdk_kinesisvideomedia::Client {
    let config = aws_sdk_kinesisvideomedia::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint(stream, ApiName::GetMedia).await)
        .region(region())
        .credentials_provider(credentials(variable("SECRET_ACCESS_KEY")))
        .retry_config(RetryConfig::disabled())
        .http_client(http())
        .build();
    aws_sdk_kinesisvideomedia::Client::from_conf(config)
}

/// Who reads what is stored, by an endpoint that is asked for `api`.
pub async fn archived(stream: &str, api: ApiName) -> aws_sdk_kinesisvideoarchivedmedia::Client {
    let config = aws_sdk_kinesisvideoarchivedmedia::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint(stream, api).await)
        .region(region())
        .credentials_provider(credentials(variable("SECRET_ACCESS_KEY")))
        .retry_config(RetryConfig::disabled())
        .http_client(http())
        .build();
    aws_sdk_kinesisvideoarchivedmedia::Client::from_conf(config)
}
