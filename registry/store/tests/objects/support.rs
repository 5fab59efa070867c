//! An S3 server for one test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use granary_core::SystemClock;
use granary_embedded::object_store;
use granary_store::objects::{
    Credentials, ObjectError, ObjectStore, ObjectStoreOptions, PartBufferOptions, PartBuffers, Proxy,
    Timeouts, Uploads,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub const ACCESS_KEY: &str = "test-access-key";
pub const SECRET_KEY: &str = "test-secret-key";
pub const BUCKET: &str = "test-bucket";

/// A server over a folder, with one bucket; both end with the test.
pub struct Server {
    pub store: ObjectStore,
    pub address: SocketAddr,
    _stop: DropGuard,
    _folder: TempDir,
}

impl Server {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let credentials = object_store::Credentials::new(ACCESS_KEY, SECRET_KEY);
        let server =
            object_store::ObjectStore::open(folder.path(), credentials, Arc::new(SystemClock)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { server.serve(listener, stopped).await });
        let store = connect(address).await;
        let made = store.probe(BUCKET, false, &SystemClock).await;
        assert!(made[0].outcome.as_ref().is_err_and(ObjectError::is_not_found), "{made:?}");
        let owner = "test owner".parse().unwrap();
        store.ensure_bucket(&super::provision::plan(BUCKET, owner)).await.unwrap();
        Self { store, address, _stop: stop.drop_guard(), _folder: folder }
    }

    /// Uploads that share so many buffers of 5 MiB.
    pub fn uploads(&self, count: u16) -> Uploads {
        let options = PartBufferOptions { count, part_bytes: 5 << 20, ..PartBufferOptions::default() };
        Uploads::new(self.store.clone(), PartBuffers::new(options), Arc::new(SystemClock))
    }

    /// A client without anything of ours, to look behind the scenes.
    pub fn raw(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::v2026_01_12())
            .region(aws_sdk_s3::config::Region::new("us-east-1"))
            .endpoint_url(format!("http://{}", self.address))
            .force_path_style(true)
            .credentials_provider(aws_credential_types::Credentials::new(
                ACCESS_KEY, SECRET_KEY, None, None, "test",
            ))
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Stores `bytes` and says under which key.
    pub async fn put(&self, bytes: &[u8]) -> String {
        let mut upload = self.uploads(1).begin(BUCKET, bytes.len() as u64).await;
        upload.write(bytes).await.unwrap();
        upload.finish().await.unwrap().key
    }

    /// The keys of all blobs.
    pub async fn keys(&self) -> Vec<String> {
        let objects: Vec<_> = self.store.list_keys(BUCKET, "blobs/").try_collect().await.unwrap();
        objects.into_iter().map(|object| object.key).collect()
    }
}

pub fn options(address: SocketAddr) -> ObjectStoreOptions {
    ObjectStoreOptions {
        endpoint: Some(format!("http://{address}")),
        public_endpoint: Some(format!("http://{address}")),
        region: "us-east-1".to_owned(),
        credentials: Credentials::Static {
            access_key_id: ACCESS_KEY.to_owned(),
            secret_access_key: SECRET_KEY.into(),
            session_token: None,
        },
        path_style: true,
        ca_bundle: None,
        proxy: Proxy::default(),
        timeouts: Timeouts { idle: Duration::from_secs(5), ..Timeouts::default() },
    }
}

pub async fn connect(address: SocketAddr) -> ObjectStore {
    ObjectStore::connect(options(address)).await.unwrap()
}

/// Bytes that look random and are the same in every run.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// All bytes of a stream, or the error that ended it.
pub async fn collect<S>(stream: S) -> Result<Vec<u8>, ObjectError>
where
    S: Stream<Item = Result<Bytes, ObjectError>>,
{
    let pieces: Vec<Bytes> = stream.try_collect().await?;
    Ok(pieces.concat())
}
