//! A bucket in a store of the clouds: S3 and what speaks like it, Azure Blob, Google Cloud Storage. Requests, signatures and
//! credentials are the crate `object_store`'s; the bytes go through [`wire`], which is ureq, as everywhere else here.
//!
//! A write with a condition is repeated only after an answer that says that nothing was done. Where that cannot be told it
//! fails, and may have happened: an own write that was taken for another's would be done twice.

mod wire;

use std::fs::File;
use std::io::{self, Read as _};

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig,
    UpdateVersion,
};
use std::str::FromStr;
use std::sync::Arc;

use super::{Bucket, Condition, EntryKind, Tag};
use crate::limits::{KEY_FILE_BYTES_MAX, LISTING_MAX, URL_BYTES_MAX};
use wire::{Count, Wire};

/// A prefix in an object store.
pub struct Cloud {
    store: Box<dyn ObjectStore>,
    runtime: tokio::runtime::Runtime,
    count: Count,
    /// Empty, or with a slash at its end.
    prefix: String,
    name: String,
    identity: String,
}

impl Cloud {
    /// The store at `s3://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or `gs://BUCKET/PREFIX`. Credentials, region and endpoint
    /// come from the environment: `AWS_…`, `AZURE_…`, `GOOGLE_…`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for an address that is none, and for an environment that does not suffice.
    pub fn open(address: &str) -> io::Result<Self> {
        Self::open_with(address, None)
    }

    /// The same by these settings, with the names that the environment has for them in small letters, and without the
    /// environment.
    ///
    /// # Errors
    /// As [`Cloud::open`].
    pub fn open_with(address: &str, settings: Option<&[(&str, &str)]>) -> io::Result<Self> {
        let bad = |problem: String| io::Error::new(io::ErrorKind::InvalidInput, problem);
        let (scheme, rest) = address.split_once("://").unwrap_or_default();
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let is_segment = |part: &str| !part.is_empty() && !part.starts_with('.') && is_plain(part);
        if address.len() > URL_BYTES_MAX
            || !is_segment(bucket)
            || !(prefix.is_empty() || prefix.split('/').all(is_segment))
        {
            return Err(bad(
                "an object store's address is SCHEME://BUCKET/PREFIX, in letters, digits, '-', '_', '.'".into()
            ));
        }
        let count = Count::default();
        let wire = Wire::new(count.clone());
        // What is sent again, and when, is the wire's business: it knows which writes have a condition.
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let url = format!("{scheme}://{bucket}");
        // The same name at another end is another store.
        let (place, built) = match scheme {
            "s3" => {
                let builder = set(settings, AmazonS3Builder::from_env, AmazonS3Builder::with_config)?;
                let builder = builder.with_url(&url).with_retry(retry).with_http_connector(wire);
                let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
                (vec![endpoint], builder.build().map(|s| Box::new(s) as Box<dyn ObjectStore>))
            }
            "az" => {
                let builder = set(settings, MicrosoftAzureBuilder::from_env, MicrosoftAzureBuilder::with_config)?;
                let builder = builder.with_url(&url).with_retry(retry).with_http_connector(wire);
                let names = [AzureConfigKey::AccountName, AzureConfigKey::Endpoint, AzureConfigKey::UseEmulator];
                let place = names.iter().map(|name| builder.get_config_value(name)).collect();
                (place, builder.build().map(|s| Box::new(s) as _))
            }
            "gs" => {
                let builder =
                    set(settings, GoogleCloudStorageBuilder::from_env, GoogleCloudStorageBuilder::with_config)?;
                let builder = builder.with_url(&url).with_retry(retry).with_http_connector(wire);
                let base = builder.get_config_value(&GoogleConfigKey::BaseUrl).or_else(|| account_base(&builder));
                (vec![base], builder.build().map(|s| Box::new(s) as _))
            }
            _ => return Err(bad(format!("no object store is known as '{scheme}://'"))),
        };
        let store = built.map_err(|e| bad(e.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let place: String = place.into_iter().flatten().map(|part| format!(" {part}")).collect();
        let identity = format!("{url}{place}").replace(char::is_control, "");
        Ok(Self {
            identity,
            store,
            runtime,
            count,
            name: format!("{scheme}://{bucket}/{prefix}").trim_end_matches('/').to_owned(),
            prefix,
        })
    }

    /// Which store it is, without the prefix: its address, and at which end it was sought.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// A counter of the requests that were sent, also of those to come.
    pub fn requests(&self) -> Arc<std::sync::atomic::AtomicU64> {
        self.count.clone()
    }

    fn path(&self, key: &str) -> io::Result<Path> {
        Path::parse(format!("{}{key}", self.prefix)).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
    }

    /// A directory of keys, as the store names it.
    fn directory_path(&self, prefix: &str) -> io::Result<Path> {
        self.path(prefix.trim_end_matches('/'))
    }

    fn key<'a>(&self, path: &'a Path) -> Option<&'a str> {
        path.as_ref().strip_prefix(&self.prefix)
    }

    /// How large an object is; `None` if there is none.
    fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        match self.runtime.block_on(self.store.head(path)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }
}

/// The end that a service account's key names, in a setting or in a file. One that cannot be read is not judged here: the
/// builder says what is wrong with it.
fn account_base(builder: &GoogleCloudStorageBuilder) -> Option<String> {
    let key = builder.get_config_value(&GoogleConfigKey::ServiceAccountKey).map(String::into_bytes);
    let file = || {
        let path = builder.get_config_value(&GoogleConfigKey::ServiceAccount)?;
        let mut text = Vec::new();
        File::open(path).ok()?.take(KEY_FILE_BYTES_MAX as u64).read_to_end(&mut text).ok()?;
        Some(text)
    };
    let account: serde_json::Value = serde_json::from_slice(&key.or_else(file)?).ok()?;
    account.get("gcs_base_url")?.as_str().map(str::to_owned)
}

/// What is set of a store: by the environment, or by these settings alone.
fn set<B: Default, K: FromStr<Err = Error>>(
    settings: Option<&[(&str, &str)]>,
    environment: fn() -> B,
    with: fn(B, K, String) -> B,
) -> io::Result<B> {
    let Some(settings) = settings else { return Ok(environment()) };
    let set = |builder, (key, value): &(&str, &str)| Ok(with(builder, key.parse()?, (*value).to_owned()));
    let built: Result<B, Error> = settings.iter().try_fold(B::default(), set);
    built.map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
}

/// A failure of the store as one of the system.
fn failed(error: Error) -> io::Error {
    let kind = match &error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::InvalidPath { .. } => io::ErrorKind::InvalidInput,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    // What a server says goes to a terminal, in one line and of a bounded length.
    let text: String = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect();
    io::Error::new(kind, text)
}

fn too_large(limit: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes"))
}

/// Both names that stores have for a version: the entity tag, and a generation.
fn tag(e_tag: Option<String>, version: Option<String>) -> io::Result<Tag> {
    let e_tag = e_tag.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "the store gives no entity tags"))?;
    Ok(Tag(format!("{e_tag}\n{}", version.unwrap_or_default())))
}

fn version(tag: &Tag) -> UpdateVersion {
    let (e_tag, version) = tag.0.split_once('\n').unwrap_or((&tag.0, ""));
    let version = (!version.is_empty()).then(|| version.to_owned());
    UpdateVersion { e_tag: Some(e_tag.to_owned()), version }
}

impl Bucket for Cloud {
    fn get(&self, key: &str, limit: usize) -> io::Result<Option<(Vec<u8>, Tag)>> {
        let path = self.path(key)?;
        self.runtime.block_on(async {
            let found = match self.store.get(&path).await {
                Ok(found) => found,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(e) => return Err(failed(e)),
            };
            if found.meta.size > limit as u64 {
                return Err(too_large(limit));
            }
            let (size, tag) = (found.meta.size, tag(found.meta.e_tag.clone(), found.meta.version.clone())?);
            let (mut bytes, mut body) = (Vec::new(), found.into_stream());
            while let Some(more) = body.try_next().await.map_err(failed)? {
                if bytes.len() + more.len() > limit {
                    return Err(too_large(limit));
                }
                bytes.extend_from_slice(&more);
            }
            if bytes.len() as u64 != size {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the store gave less than the object has"));
            }
            Ok(Some((bytes, tag)))
        })
    }

    fn get_part(&self, key: &str, offset: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(key)?;
        let end = offset.saturating_add(length as u64);
        if length > 0 {
            let options = GetOptions { range: Some(GetRange::Bounded(offset..end)), ..GetOptions::default() };
            let found = self.runtime.block_on(async {
                let mut body = self.store.get_opts(&path, options).await?.into_stream();
                let mut bytes = Vec::new();
                while let Some(more) = body.try_next().await? {
                    bytes.extend_from_slice(&more);
                    if bytes.len() > length {
                        break;
                    }
                }
                Ok(bytes)
            });
            match found {
                Ok(bytes) if bytes.len() <= length => return Ok(Some(bytes)),
                Ok(_) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the store gave more than was asked for"));
                }
                Err(Error::NotFound { .. }) => return Ok(None),
                // A range beyond the end is an error to HTTP.
                Err(e) if self.size(&path)?.is_none_or(|size| size > offset) => return Err(failed(e)),
                Err(_) => {}
            }
        }
        Ok(self.size(&path)?.map(|_| Vec::new()))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let directory = prefix.rsplit_once('/').map_or("", |(directory, _)| directory);
        let path = self.directory_path(directory)?;
        self.runtime.block_on(async {
            let (mut found, mut listed) = (Vec::new(), self.store.list(Some(&path)));
            while let Some(meta) = listed.try_next().await.map_err(failed)? {
                found.extend(self.key(&meta.location).filter(|key| key.starts_with(prefix)).map(str::to_owned));
                if found.len() > LISTING_MAX {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
            }
            Ok(found)
        })
    }

    fn directory(&self, directory: &str) -> io::Result<Vec<(String, EntryKind)>> {
        let path = self.directory_path(directory)?;
        let listed = self.runtime.block_on(self.store.list_with_delimiter(Some(&path))).map_err(failed)?;
        let last = |path: &Path| path.filename().map(str::to_owned);
        let directories = listed.common_prefixes.iter().filter_map(|p| Some((last(p)?, EntryKind::Directory)));
        let files = listed.objects.iter().filter_map(|m| Some((last(&m.location)?, EntryKind::File)));
        Ok(directories.chain(files).collect())
    }

    fn put(&self, key: &str, bytes: &[u8], condition: &Condition) -> io::Result<bool> {
        let path = self.path(key)?;
        let mode = match condition {
            Condition::Always => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Unchanged(tag) => PutMode::Update(version(tag)),
        };
        let payload = PutPayload::from(bytes.to_vec());
        match self.runtime.block_on(self.store.put_opts(&path, payload, PutOptions::from(mode))) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) if *condition != Condition::Always => {
                Ok(false)
            }
            Err(e) => Err(failed(e)),
        }
    }

    fn delete(&self, key: &str) -> io::Result<bool> {
        let path = self.path(key)?;
        // Stores do not say whether there was one.
        if self.size(&path)?.is_none() {
            return Ok(false);
        }
        match self.runtime.block_on(self.store.delete(&path)) {
            Ok(()) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(failed(e)),
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cloud({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bucket_at_another_end_is_another_store() {
        let key = r#"{"gcs_base_url":"http://127.0.0.1:1","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("account.json");
        std::fs::write(&path, key).expect("written");
        let identity = |settings: &[(&str, &str)]| {
            Cloud::open_with("gs://fleets/cdn", Some(settings)).expect("a store").identity().to_owned()
        };
        assert_eq!(identity(&[("google_base_url", "http://127.0.0.1:2")]), "gs://fleets http://127.0.0.1:2");
        for settings in [("google_service_account_key", key), ("google_service_account", path.to_str().expect("text"))]
        {
            assert_eq!(identity(&[settings]), "gs://fleets http://127.0.0.1:1", "{}", settings.0);
        }
    }
}
