//! Blobs in files, by hash.
//!
//! ```text
//! DIR/lock                     held while a process has the store open
//! DIR/blobs/ab/<hash>          a blob, whole
//! DIR/outboards/<hash>         its length (u64 LE) and piece values; made when first needed, checked when read
//! DIR/partial/<hash>[.outboard] a download on its way
//! DIR/tmp/                     writes that are not finished; emptied when the store is opened
//! ```
//! Invariants: a file under `blobs/` got there by a rename after its bytes were synced; nothing is handed out that does not
//! match its hash. A file that does not is deleted (or, for an external file, forgotten), so that it is fetched again.

use super::tree::{self, MAX_BLOB_LEN, Outboard, PIECE_LEN, piece_range};
use essaim_protocol::ids::Hash;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long opening waits for another holder of the lock to go: a process that is just shutting down.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// The most piece values kept in memory: 16 MiB of them.
const CACHED_VALUES_MAX: usize = 512 * 1024;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The blob is not here.
    #[error("blob {0} is not in the store")]
    NotFound(Hash),
    /// The blob is longer than the caller allows.
    #[error("blob {hash} has {len_bytes} bytes, where {max_len_bytes} are allowed")]
    TooLong {
        /// The blob.
        hash: Hash,
        /// Its length.
        len_bytes: u64,
        /// The length allowed.
        max_len_bytes: u64,
    },
    /// The file does not hold the blob: it was truncated or changed. It is no longer in the store.
    #[error("{} does not hold blob {hash}: it was removed from the store, fetch it again", path.display())]
    Corrupt {
        /// The blob.
        hash: Hash,
        /// The file.
        path: PathBuf,
    },
    /// There is no such piece.
    #[error("blob {hash} has {pieces} pieces and no piece {index}")]
    NoSuchPiece {
        /// The blob.
        hash: Hash,
        /// The piece asked for.
        index: u32,
        /// How many there are.
        pieces: u32,
    },
    /// Another process has the store open.
    #[error("the blob store {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The store would hold more than it may.
    #[error("the blob store may hold {quota_bytes} bytes; it holds {used_bytes} and {wanted_bytes} more were to come")]
    Full {
        /// The most it may hold.
        quota_bytes: u64,
        /// What it holds.
        used_bytes: u64,
        /// What was to be added.
        wanted_bytes: u64,
    },
}

/// Gives an I/O error its circumstances.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    move |source| BlobError::Io { action, path: path.to_owned(), source }
}

#[derive(Debug, Default)]
struct Cache {
    outboards: HashMap<Hash, Arc<Outboard>>,
    values: usize,
}

/// A store of blobs in a directory. All methods block: call them from a thread that may.
#[derive(Debug)]
pub struct BlobStore {
    dir: PathBuf,
    /// Holds the lock for as long as the store lives.
    _lock: File,
    external: Mutex<HashMap<Hash, PathBuf>>,
    cache: Mutex<Cache>,
    temp_count: AtomicU64,
    quota_bytes: AtomicU64,
    own: Mutex<Own>,
}

/// The store's own blobs and what they were counted as, which a damaged file's length may no longer be.
#[derive(Debug, Default)]
struct Own {
    len_bytes: HashMap<Hash, u64>,
    used_bytes: u64,
}

impl Own {
    /// Counts a blob anew: `None` for one that is gone.
    fn count(&mut self, hash: Hash, len_bytes: Option<u64>) {
        let before = match len_bytes {
            Some(len_bytes) => self.len_bytes.insert(hash, len_bytes),
            None => self.len_bytes.remove(&hash),
        };
        self.used_bytes = self.used_bytes + len_bytes.unwrap_or(0) - before.unwrap_or(0);
    }
}

/// No lock of the store is held across anything that could leave its value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BlobStore {
    /// Opens the store in `dir`, which is made if it is not there. Unfinished writes are cleaned away.
    ///
    /// # Errors
    /// [`BlobError::InUse`] if another process has it open; [`BlobError::Io`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<BlobStore, BlobError> {
        let dir = dir.into();
        for part in ["blobs", "outboards", "partial", "tmp"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        let lock_file = acquire(&dir)?;
        let tmp = dir.join("tmp");
        for entry in fs::read_dir(&tmp).map_err(io_error("list", &tmp))?.flatten() {
            fs::remove_file(entry.path()).map_err(io_error("remove", &entry.path()))?;
        }
        let store = BlobStore {
            dir,
            _lock: lock_file,
            external: Mutex::default(),
            cache: Mutex::default(),
            temp_count: AtomicU64::new(0),
            quota_bytes: AtomicU64::new(u64::MAX),
            own: Mutex::default(),
        };
        for hash in store.hashes()? {
            lock(&store.own).count(hash, store.own_len(&hash));
        }
        Ok(store)
    }

    /// The store's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lets the store hold at most `quota_bytes`; what it holds already stays. External files do not count.
    pub fn set_quota_bytes(&self, quota_bytes: u64) {
        self.quota_bytes.store(quota_bytes, Ordering::Relaxed);
    }

    /// How many bytes of whole blobs the store's own files hold.
    pub fn used_bytes(&self) -> u64 {
        lock(&self.own).used_bytes
    }

    /// Refuses what the quota has no room for.
    pub(crate) fn check_room(&self, wanted_bytes: u64) -> Result<(), BlobError> {
        let (used_bytes, quota_bytes) = (self.used_bytes(), self.quota_bytes.load(Ordering::Relaxed));
        if used_bytes.saturating_add(wanted_bytes) > quota_bytes {
            return Err(BlobError::Full { quota_bytes, used_bytes, wanted_bytes });
        }
        Ok(())
    }

    fn own_path(&self, hash: &Hash) -> PathBuf {
        let name = hash.to_string();
        self.dir.join("blobs").join(&name[..2]).join(name)
    }

    fn own_len(&self, hash: &Hash) -> Option<u64> {
        fs::metadata(self.own_path(hash)).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
    }

    pub(crate) fn outboard_path(&self, hash: &Hash) -> PathBuf {
        self.dir.join("outboards").join(hash.to_string())
    }

    pub(crate) fn partial_path(&self, hash: &Hash) -> PathBuf {
        self.dir.join("partial").join(hash.to_string())
    }

    /// Where the blob's file is, if it is here.
    pub fn path(&self, hash: &Hash) -> Option<PathBuf> {
        let own = self.own_path(hash);
        if own.is_file() {
            return Some(own);
        }
        lock(&self.external).get(hash).filter(|path| path.is_file()).cloned()
    }

    /// Whether the blob is here. Its bytes are checked when they are read.
    pub fn contains(&self, hash: &Hash) -> bool {
        self.path(hash).is_some()
    }

    /// The length of the blob's file in bytes.
    pub fn len(&self, hash: &Hash) -> Option<u64> {
        fs::metadata(self.path(hash)?).ok().map(|meta| meta.len())
    }

    /// The blob's bytes, checked against its hash.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::TooLong`], [`BlobError::Corrupt`] (the file is then gone from the store),
    /// [`BlobError::Io`].
    pub fn read(&self, hash: &Hash, max_len_bytes: u64) -> Result<Vec<u8>, BlobError> {
        let path = self.path(hash).ok_or(BlobError::NotFound(*hash))?;
        let file = File::open(&path).map_err(io_error("open", &path))?;
        let len_bytes = file.metadata().map_err(io_error("read", &path))?.len();
        if len_bytes > max_len_bytes {
            return Err(BlobError::TooLong { hash: *hash, len_bytes, max_len_bytes });
        }
        let mut bytes = Vec::with_capacity(len_bytes as usize);
        file.take(max_len_bytes).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        if Hash::of(&bytes) != *hash {
            return Err(self.quarantine(hash, path));
        }
        Ok(bytes)
    }

    /// Checks the whole file of a blob against its hash.
    ///
    /// # Errors
    /// As [`BlobStore::read`].
    pub fn verify(&self, hash: &Hash) -> Result<(), BlobError> {
        let path = self.path(hash).ok_or(BlobError::NotFound(*hash))?;
        let outboard = tree::hash_file(&path).map_err(io_error("read", &path))?;
        if outboard.hash() != *hash {
            return Err(self.quarantine(hash, path));
        }
        Ok(())
    }

    /// Takes a file that does not match its hash out of the store.
    fn quarantine(&self, hash: &Hash, path: PathBuf) -> BlobError {
        tracing::warn!(%hash, path = %path.display(), "blob file does not match its hash; removed");
        if let Err(error) = self.remove(hash) {
            tracing::warn!(%hash, %error, "cannot remove the blob file");
        }
        BlobError::Corrupt { hash: *hash, path }
    }

    /// Removes the blob: its file is deleted, or forgotten if it is an external one. Does nothing if it is not here.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn remove(&self, hash: &Hash) -> Result<(), BlobError> {
        lock(&self.external).remove(hash);
        let mut cache = lock(&self.cache);
        if let Some(outboard) = cache.outboards.remove(hash) {
            cache.values -= outboard.pieces() as usize;
        }
        drop(cache);
        for path in [self.own_path(hash), self.outboard_path(hash)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &path)(error)),
                _ => {}
            }
        }
        lock(&self.own).count(*hash, None);
        Ok(())
    }

    /// The hashes of the store's own blobs, in no order.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn hashes(&self) -> Result<Vec<Hash>, BlobError> {
        let blobs = self.dir.join("blobs");
        let mut out = Vec::new();
        for folder in fs::read_dir(&blobs).map_err(io_error("list", &blobs))?.flatten() {
            let names = fs::read_dir(folder.path()).map_err(io_error("list", &folder.path()))?;
            out.extend(names.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<Hash>().ok()));
        }
        Ok(out)
    }

    /// Keeps `bytes` and returns their hash.
    ///
    /// # Errors
    /// [`BlobError::Full`], [`BlobError::Io`].
    pub fn insert_bytes(&self, bytes: &[u8]) -> Result<Hash, BlobError> {
        let hash = Hash::of(bytes);
        self.check_room(bytes.len() as u64)?;
        let temp = self.write_temp(|file| file.write_all(bytes))?;
        self.place(&temp, &hash)?;
        Ok(hash)
    }

    /// Copies the file at `path` into the store and returns its hash.
    ///
    /// # Errors
    /// [`BlobError::Full`], [`BlobError::TooLong`], [`BlobError::Io`].
    pub fn insert_file(&self, path: &Path) -> Result<Hash, BlobError> {
        let source = File::open(path).map_err(io_error("open", path))?;
        self.check_room(source.metadata().map_err(io_error("read", path))?.len())?;
        let mut outboard = None;
        let temp = self.write_temp(|file| {
            outboard = Some(tree::outboard_of(source, |bytes| file.write_all(bytes))?);
            Ok(())
        })?;
        let Some(outboard) = outboard else { return Err(io_error("read", path)(io::ErrorKind::Other.into())) };
        let (hash, len_bytes) = (outboard.hash(), outboard.len_bytes());
        if len_bytes > MAX_BLOB_LEN {
            fs::remove_file(&temp).map_err(io_error("remove", &temp))?;
            return Err(BlobError::TooLong { hash, len_bytes, max_len_bytes: MAX_BLOB_LEN });
        }
        self.place(&temp, &hash)?;
        self.keep_outboard(outboard)?;
        Ok(hash)
    }

    /// Makes a file that lies elsewhere a blob of this store without copying it. The file stays its owner's: the store never
    /// changes or deletes it, and forgets it when its bytes turn out not to match. Registrations are not kept
    /// across a restart.
    ///
    /// # Errors
    /// [`BlobError::Io`] if there is no such file. That its bytes match is checked when they are read.
    pub fn register_external(&self, hash: Hash, path: impl Into<PathBuf>) -> Result<(), BlobError> {
        let path = path.into();
        let meta = fs::metadata(&path).map_err(io_error("read", &path))?;
        if !meta.is_file() {
            return Err(io_error("read", &path)(io::Error::other("not a file")));
        }
        lock(&self.external).insert(hash, path);
        Ok(())
    }

    /// Writes a synced file under `tmp/` and returns its path.
    pub(crate) fn write_temp(&self, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<PathBuf, BlobError> {
        let path = self.dir.join("tmp").join(self.temp_count.fetch_add(1, Ordering::Relaxed).to_string());
        let mut file = File::create(&path).map_err(io_error("create", &path))?;
        let written = write(&mut file).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // The name is free again at the next opening at the latest.
            let _ = fs::remove_file(&path);
            return Err(io_error("write", &path)(error));
        }
        Ok(path)
    }

    /// Moves a finished, synced file to its place among the blobs.
    pub(crate) fn place(&self, temp: &Path, hash: &Hash) -> Result<PathBuf, BlobError> {
        let path = self.own_path(hash);
        rename_durably(temp, &path)?;
        lock(&self.own).count(*hash, self.own_len(hash));
        Ok(path)
    }

    /// The blob's outboard: from memory, from its file, or by reading the whole blob once.
    ///
    /// # Errors
    /// As [`BlobStore::read`], without a bound on the length.
    pub fn outboard(&self, hash: &Hash) -> Result<Arc<Outboard>, BlobError> {
        let path = self.path(hash).ok_or(BlobError::NotFound(*hash))?;
        let len_bytes = fs::metadata(&path).map_err(io_error("read", &path))?.len();
        if let Some(outboard) = lock(&self.cache).outboards.get(hash)
            && outboard.len_bytes() == len_bytes
        {
            return Ok(outboard.clone());
        }
        if let Some(outboard) = read_outboard(&self.outboard_path(hash), *hash)
            && outboard.len_bytes() == len_bytes
        {
            return Ok(self.remember(outboard));
        }
        let outboard = tree::hash_file(&path).map_err(io_error("read", &path))?;
        if outboard.hash() != *hash {
            return Err(self.quarantine(hash, path));
        }
        self.keep_outboard(outboard)
    }

    fn remember(&self, outboard: Outboard) -> Arc<Outboard> {
        let outboard = Arc::new(outboard);
        let mut cache = lock(&self.cache);
        if cache.values > CACHED_VALUES_MAX {
            *cache = Cache::default();
        }
        cache.values += outboard.pieces() as usize;
        if let Some(old) = cache.outboards.insert(outboard.hash(), outboard.clone()) {
            cache.values -= old.pieces() as usize;
        }
        outboard
    }

    pub(crate) fn keep_outboard(&self, outboard: Outboard) -> Result<Arc<Outboard>, BlobError> {
        if outboard.pieces() > 1 {
            self.write_outboard(&self.outboard_path(&outboard.hash()), &outboard)?;
        }
        Ok(self.remember(outboard))
    }

    pub(crate) fn write_outboard(&self, path: &Path, outboard: &Outboard) -> Result<(), BlobError> {
        let bytes = [&outboard.len_bytes().to_le_bytes()[..], &outboard.to_bytes()].concat();
        let temp = self.write_temp(|file| file.write_all(&bytes))?;
        rename_durably(&temp, path)
    }

    /// Piece `index` of the blob, checked against its value.
    ///
    /// # Errors
    /// [`BlobError::NoSuchPiece`], or as [`BlobStore::read`].
    pub fn read_piece(&self, hash: &Hash, index: u32) -> Result<Vec<u8>, BlobError> {
        let outboard = self.outboard(hash)?;
        let pieces = outboard.pieces();
        if index >= pieces {
            return Err(BlobError::NoSuchPiece { hash: *hash, index, pieces });
        }
        let path = self.path(hash).ok_or(BlobError::NotFound(*hash))?;
        let bytes = read_range(&path, &outboard, index).map_err(io_error("read", &path))?;
        if !outboard.verifies(index, &bytes) {
            return Err(self.quarantine(hash, path));
        }
        Ok(bytes)
    }
}

/// The bytes of a piece as the file has them, fewer if the file ends early.
pub(crate) fn read_range(path: &Path, outboard: &Outboard, index: u32) -> io::Result<Vec<u8>> {
    let range = piece_range(outboard.len_bytes(), index);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::with_capacity(PIECE_LEN);
    file.take(range.end - range.start).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The outboard in a file, if it is whole and merges to `hash`.
pub(crate) fn read_outboard(path: &Path, hash: Hash) -> Option<Outboard> {
    let file = File::open(path).ok()?;
    let max_len = 8 + super::MAX_BLOB_FRAME_LEN as u64;
    let mut bytes = Vec::new();
    file.take(max_len).read_to_end(&mut bytes).ok()?;
    let (len_bytes, values) = bytes.split_first_chunk::<8>()?;
    Outboard::from_bytes(hash, u64::from_le_bytes(*len_bytes), values)
}

/// Renames, and syncs the directory so that the name is on disk too.
pub(crate) fn rename_durably(from: &Path, to: &Path) -> Result<(), BlobError> {
    let Some(folder) = to.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    fs::rename(from, to).map_err(io_error("move into place", to))?;
    // A directory can be opened for syncing on Unix only; elsewhere the rename itself has to do.
    #[cfg(unix)]
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(io_error("sync", folder))?;
    Ok(())
}

fn acquire(dir: &Path) -> Result<File, BlobError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(io_error("create", &path))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if start.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(fs::TryLockError::WouldBlock) => return Err(BlobError::InUse(dir.to_owned())),
            Err(fs::TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
        }
    }
}
