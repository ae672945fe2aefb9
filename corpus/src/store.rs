//! Where the stages of a build meet: objects by name, in a folder or in an object store (S3 and what speaks like it).
//!
//! An object appears whole or not at all, and is never changed in place. That is all that stages ask of it, so that several
//! machines share one without talking to each other.

use crate::output::mend;
use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// An object at most, bytes: stages cut what they write into pieces far below it.
pub const OBJECT_MAX: u64 = 1 << 32;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No store can be opened there.
    #[error(
        "{location}: {reason}; name a folder, or s3://BUCKET/FOLDER with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT for other services) set"
    )]
    Open {
        /// What was named.
        location: String,
        /// Why not.
        reason: String,
    },
    /// An object that is not there.
    #[error("{location}: no {name} there")]
    Missing {
        /// The store.
        location: String,
        /// The object.
        name: String,
    },
    /// An operation failed.
    #[error("{location}: {name}: {reason}")]
    Io {
        /// The store.
        location: String,
        /// The object.
        name: String,
        /// Why.
        reason: String,
    },
    /// An object that is not what a stage wrote.
    #[error("{location}: {name} is damaged ({reason}); remove it and build again")]
    Damaged {
        /// The store.
        location: String,
        /// The object.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// A store. Clones share it; any thread may use it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    /// The same, where it is a folder.
    folder: Option<Arc<LocalFileSystem>>,
    prefix: ObjectPath,
    runtime: Arc<Runtime>,
    location: Arc<str>,
}

impl Store {
    /// Opens a folder, which is made where it is missing, or `s3://BUCKET/FOLDER`, whose access is taken from the environment
    /// as other programs take it (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`).
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn open(location: &str) -> Result<Store, StoreError> {
        let failed = |reason: String| StoreError::Open { location: location.to_owned(), reason };
        let folder = location.strip_prefix("file://").unwrap_or(location);
        if let Some(rest) = location.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = ObjectPath::parse(prefix.trim_end_matches('/')).map_err(|error| failed(error.to_string()))?;
            // Of two that are built in, one must be named before the first connection; a second naming changes nothing.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let s3 = AmazonS3Builder::from_env().with_bucket_name(bucket).build();
            let s3 = s3.map_err(|error| failed(error.to_string()))?;
            return Store::over(Arc::new(s3), prefix, location);
        }
        if folder.contains("://") {
            return Err(failed("no store of this kind is known".into()));
        }
        std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        let local = LocalFileSystem::new_with_prefix(Path::new(folder)).map_err(|error| failed(error.to_string()))?;
        let local = Arc::new(local);
        let store = Store::over(local.clone(), ObjectPath::default(), location)?;
        Ok(Store { folder: Some(local), ..store })
    }

    /// A store in memory, for tests.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the machine gives no threads.
    pub fn in_memory() -> Result<Store, StoreError> {
        Store::over(Arc::new(InMemory::new()), ObjectPath::default(), "memory")
    }

    fn over(inner: Arc<dyn ObjectStore>, prefix: ObjectPath, location: &str) -> Result<Store, StoreError> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let failed =
            |error: std::io::Error| StoreError::Open { location: location.to_owned(), reason: error.to_string() };
        Ok(Store {
            inner,
            folder: None,
            prefix,
            runtime: Arc::new(runtime.map_err(failed)?),
            location: location.into(),
        })
    }

    /// What was opened.
    pub fn location(&self) -> &str {
        &self.location
    }

    fn path(&self, name: &str) -> ObjectPath {
        let parts = name.split('/').map(object_store::path::PathPart::from);
        self.prefix.parts().chain(parts).collect()
    }

    fn failed(&self, name: &str) -> impl Fn(object_store::Error) -> StoreError {
        let (location, name) = (self.location.to_string(), name.to_owned());
        move |error| match error {
            object_store::Error::NotFound { .. } => {
                StoreError::Missing { location: location.clone(), name: name.clone() }
            }
            error => {
                let reason = format!("{error}{}", mend(&error));
                StoreError::Io { location: location.clone(), name: name.clone(), reason }
            }
        }
    }

    /// An error that says that an object is not what a stage wrote.
    pub fn damaged(&self, name: &str, reason: impl ToString) -> StoreError {
        StoreError::Damaged { location: self.location.to_string(), name: name.to_owned(), reason: reason.to_string() }
    }

    /// Writes an object, whole or not at all; one that is there is replaced.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put(&self, name: &str, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let path = self.path(name);
        self.runtime.block_on(self.inner.put(&path, bytes.into().into())).map_err(self.failed(name)).map(drop)
    }

    /// A whole object.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        let path = self.path(name);
        let read = async {
            let found = self.inner.get(&path).await.map_err(self.failed(name))?;
            match found.meta.size > OBJECT_MAX {
                true => Err(self.damaged(name, format!("{} bytes, at most {OBJECT_MAX} are read", found.meta.size))),
                false => found.bytes().await.map_err(self.failed(name)),
            }
        };
        self.runtime.block_on(read)
    }

    /// Makes a new file of an object, brought to the disk. Where the store is a folder of the same file system, the file is the object's own
    /// under another name, and takes no room: objects are replaced, never changed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn fetch(&self, name: &str, file: &Path) -> Result<(), StoreError> {
        let object = self.folder.as_ref().and_then(|folder| folder.path_to_filesystem(&self.path(name)).ok());
        let linked = object.is_some_and(|object| fs::hard_link(object, file).is_ok());
        let written = match linked {
            true => File::open(file).and_then(|file| file.sync_all()),
            false => {
                let bytes = self.get(name)?;
                File::create(file).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            }
        };
        let failed = |error: std::io::Error| format!("{}: {error}{}", file.display(), mend(&error));
        let (location, name) = (self.location.to_string(), name.to_owned());
        written.map_err(|error| StoreError::Io { location, name, reason: failed(error) })
    }

    /// Bytes of an object. A range that reaches past its end is an error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.runtime.block_on(self.inner.get_range(&self.path(name), range)).map_err(self.failed(name))?;
        match bytes.len() as u64 == wanted {
            true => Ok(bytes),
            false => Err(self.damaged(name, format!("{} bytes of {wanted} are there", bytes.len()))),
        }
    }

    /// Length of an object in bytes, where there is one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn len(&self, name: &str) -> Result<Option<u64>, StoreError> {
        match self.runtime.block_on(self.inner.head(&self.path(name))) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(name)(error)),
        }
    }

    /// Names of all objects below a folder, sorted.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        use futures::TryStreamExt;
        let prefix = self.path(folder);
        let listed = self.inner.list(Some(&prefix)).map_ok(|meta| meta.location).try_collect::<Vec<_>>();
        let listed = self.runtime.block_on(listed).map_err(self.failed(folder))?;
        let skip = self.prefix.parts().count();
        let name = |path: ObjectPath| {
            path.parts().skip(skip).map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/")
        };
        let mut names: Vec<String> = listed.into_iter().map(name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        match self.runtime.block_on(self.inner.delete(&self.path(name))) {
            Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => Err(self.failed(name)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds_objects(store: &Store) {
        assert!(matches!(store.get("a/b"), Err(StoreError::Missing { .. })));
        assert_eq!(store.len("a/b").unwrap(), None);
        store.put("a/b", vec![1, 2, 3]).unwrap();
        store.put("a/c/d", vec![]).unwrap();
        store.put("ab", vec![9]).unwrap();
        assert_eq!(store.get("a/b").unwrap(), [1, 2, 3].as_slice());
        assert_eq!(store.get_range("a/b", 1..3).unwrap(), [2, 3].as_slice());
        assert!(store.get_range("a/b", 1..4).is_err() && store.get_range("a/b", 3..3).unwrap().is_empty());
        assert_eq!((store.len("a/b").unwrap(), store.len("a/c/d").unwrap()), (Some(3), Some(0)));
        assert_eq!(store.list("a").unwrap(), ["a/b", "a/c/d"]);
        store.put("a/b", vec![4]).unwrap();
        assert_eq!(store.get("a/b").unwrap(), [4].as_slice());
        store.remove("a/b").unwrap();
        store.remove("a/b").unwrap();
        assert_eq!(store.list("a").unwrap(), ["a/c/d"]);
    }

    #[test]
    fn a_folder_and_memory_hold_objects() {
        holds_objects(&Store::in_memory().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().join("deep/work");
        holds_objects(&Store::open(location.to_str().unwrap()).unwrap());
        assert!(location.join("a/c/d").is_file());
    }

    #[test]
    fn an_object_becomes_a_file_that_later_objects_leave_alone() {
        let folder = tempfile::tempdir().unwrap();
        let work = Store::open(folder.path().join("work").to_str().unwrap()).unwrap();
        for (n, store) in [work, Store::in_memory().unwrap()].iter().enumerate() {
            let file = folder.path().join(format!("{n}"));
            store.put("a/b c", vec![1, 2, 3]).unwrap();
            store.fetch("a/b c", &file).unwrap();
            store.put("a/b c", vec![4]).unwrap();
            assert_eq!(fs::read(&file).unwrap(), [1, 2, 3]);
            assert!(matches!(store.fetch("none", &folder.path().join("none")), Err(StoreError::Missing { .. })));
        }
    }

    #[test]
    fn what_is_no_store_is_refused_with_a_way_out() {
        let refusal = Store::open("gopher://x").unwrap_err().to_string();
        assert!(refusal.starts_with("gopher://x: no store of this kind is known; name a folder"), "{refusal}");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Store::open(file.path().to_str().unwrap()).is_err());
    }
}
