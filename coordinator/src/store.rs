//! The durable store: signed statements, the wall time of rounds, and counters, in SQLite.
//!
//! A statement is written once. Writing another one in its place is refused here, below everything that decides: so no
//! bug above can sign two records or two lists of claims for one round and lose the trace. `synchronous=FULL`: when a
//! write returns, it survives a power cut.

use essaim_protocol::ids::{Hash, MemberId};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the tables.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE statements (
    kind INTEGER NOT NULL, round INTEGER NOT NULL, member BLOB NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (kind, round, member)
) WITHOUT ROWID;
CREATE TABLE rounds (round INTEGER PRIMARY KEY, opened_unix_ms INTEGER NOT NULL, seconds REAL);
CREATE TABLE refusals (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
";

/// What is stored by round and member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StoredKind {
    /// The signed manifest; round 0.
    Manifest,
    /// A signed join, under the round that was open when it came; a later one of the same round replaces it.
    Join,
    /// A signed claim.
    Claim,
    /// The signed receipt of a claim.
    Receipt,
    /// The signed list of claims of a round.
    ClaimList,
    /// The signed record of a round.
    Record,
    /// A ledger's canonical bytes, after a round.
    Ledger,
}

impl StoredKind {
    fn code(self) -> i64 {
        match self {
            StoredKind::Manifest => 1,
            StoredKind::Join => 2,
            StoredKind::Claim => 3,
            StoredKind::Receipt => 4,
            StoredKind::ClaimList => 5,
            StoredKind::Record => 6,
            StoredKind::Ledger => 7,
        }
    }
}

/// A row to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub kind: StoredKind,
    /// Its round.
    pub round: u64,
    /// Its member, for joins, claims and receipts.
    pub member: Option<MemberId>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// How long a round took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundTime {
    /// When it opened, milliseconds since 1970.
    pub opened_unix_ms: u64,
    /// Seconds until its record, once there is one.
    pub seconds: Option<f64>,
}

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite's error.
    #[error("{path}: {source}", path = .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The tables are of another version.
    #[error("{path} has tables of version {got}, this build reads {SCHEMA_VERSION}", path = .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        got: i64,
    },
    /// Another statement is stored in its place: a bug, or a second coordinator with the same key.
    #[error("refused to replace the stored {kind:?} of round {round}: {stored} is stored, {got} was to be")]
    Conflict {
        /// What.
        kind: StoredKind,
        /// Of which round.
        round: u64,
        /// Hash of the stored bytes.
        stored: Hash,
        /// Hash of the new bytes.
        got: Hash,
    },
    /// A round beyond what is stored.
    #[error("round {0} is out of range")]
    Round(u64),
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
}

fn round_key(round: u64) -> Result<i64, StoreError> {
    i64::try_from(round).map_err(|_| StoreError::Round(round))
}

impl Store {
    /// Makes a new store.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`], also when there is one already.
    pub fn create(path: &Path) -> Result<Store, StoreError> {
        let store = Store::connect(path)?;
        let script = format!("BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
        store.connection.execute_batch(&script).map_err(store.error())?;
        Ok(store)
    }

    /// Opens a store and checks its version and its pages.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let store = Store::connect(path)?;
        let read = |name: &str| store.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let got = read("user_version").map_err(store.error())?;
        if got != SCHEMA_VERSION {
            return Err(StoreError::Version { path: path.to_owned(), got });
        }
        let check: String =
            store.connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(store.error())?;
        if check != "ok" {
            let source =
                rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(check));
            return Err(StoreError::Sqlite { path: path.to_owned(), source });
        }
        Ok(store)
    }

    fn connect(path: &Path) -> Result<Store, StoreError> {
        let at = |source| StoreError::Sqlite { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(at)?;
        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;";
        connection.execute_batch(pragmas).map_err(at)?;
        Ok(Store { connection, path: path.to_owned() })
    }

    fn error(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.path.clone();
        move |source| StoreError::Sqlite { path: path.clone(), source }
    }

    /// Writes rows, all or none. A row that is stored already, with the same bytes, is fine.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when other bytes are stored in a row's place (joins are replaced).
    pub fn put(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let at = self.error();
        let transaction = self.connection.transaction().map_err(&at)?;
        for row in rows {
            put_row(&transaction, row, &at)?;
        }
        transaction.commit().map_err(&at)
    }

    /// One row's bytes.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn get(&self, kind: StoredKind, round: u64, member: Option<&MemberId>) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT bytes FROM statements WHERE kind = ?1 AND round = ?2 AND member = ?3";
        let key = params![kind.code(), round_key(round)?, member_key(member)];
        self.connection.query_row(sql, key, |row| row.get(0)).optional().map_err(self.error())
    }

    /// The rows of a kind and round, by member.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn of_round(&self, kind: StoredKind, round: u64) -> Result<BTreeMap<MemberId, Vec<u8>>, StoreError> {
        let sql = "SELECT member, bytes FROM statements WHERE kind = ?1 AND round = ?2 ORDER BY member";
        let read = || {
            let mut query = self.connection.prepare_cached(sql)?;
            let key = i64::try_from(round).unwrap_or(i64::MAX);
            let rows = query.query_map(params![kind.code(), key], |row| {
                let member: Vec<u8> = row.get(0)?;
                Ok((MemberId(member.try_into().unwrap_or([0; 32])), row.get(1)?))
            })?;
            rows.collect::<Result<BTreeMap<_, _>, rusqlite::Error>>()
        };
        read().map_err(self.error())
    }

    /// The last round that has a row of `kind`.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn last_round(&self, kind: StoredKind) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT MAX(round) FROM statements WHERE kind = ?1";
        let last: Option<i64> =
            self.connection.query_row(sql, params![kind.code()], |row| row.get(0)).map_err(self.error())?;
        Ok(last.and_then(|round| u64::try_from(round).ok()))
    }

    /// Remembers when a round opened, unless that is known.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn round_opened(&self, round: u64, unix_ms: u64) -> Result<(), StoreError> {
        let sql = "INSERT OR IGNORE INTO rounds (round, opened_unix_ms) VALUES (?1, ?2)";
        let row = params![round_key(round)?, i64::try_from(unix_ms).unwrap_or(i64::MAX)];
        self.connection.execute(sql, row).map_err(self.error())?;
        Ok(())
    }

    /// Remembers how long a round took, unless that is known.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn round_closed(&self, round: u64, seconds: f64) -> Result<(), StoreError> {
        let sql = "UPDATE rounds SET seconds = ?2 WHERE round = ?1 AND seconds IS NULL";
        self.connection.execute(sql, params![round_key(round)?, seconds]).map_err(self.error())?;
        Ok(())
    }

    /// When a round opened and how long it took.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn round_time(&self, round: u64) -> Result<Option<RoundTime>, StoreError> {
        let sql = "SELECT opened_unix_ms, seconds FROM rounds WHERE round = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            let opened: i64 = row.get(0)?;
            Ok(RoundTime { opened_unix_ms: u64::try_from(opened).unwrap_or(0), seconds: row.get(1)? })
        };
        self.connection.query_row(sql, params![round_key(round)?], read).optional().map_err(self.error())
    }

    /// Adds to the counter of a reason for refusing.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn count_refusals(&self, reason: &str, count: u64) -> Result<(), StoreError> {
        let sql = "INSERT INTO refusals (reason, count) VALUES (?1, ?2)
                   ON CONFLICT (reason) DO UPDATE SET count = count + ?2";
        let row = params![reason, i64::try_from(count).unwrap_or(i64::MAX)];
        self.connection.execute(sql, row).map_err(self.error())?;
        Ok(())
    }

    /// The counters, by reason.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn refusals(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let read = || {
            let mut query = self.connection.prepare_cached("SELECT reason, count FROM refusals")?;
            let rows = query.query_map([], |row| {
                let count: i64 = row.get(1)?;
                Ok((row.get(0)?, u64::try_from(count).unwrap_or(0)))
            })?;
            rows.collect::<Result<BTreeMap<_, _>, rusqlite::Error>>()
        };
        read().map_err(self.error())
    }

    /// A value of the `meta` table.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        self.connection.query_row(sql, params![name], |row| row.get(0)).optional().map_err(self.error())
    }

    /// Sets a value of the `meta` table.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn set_meta(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
        self.connection.execute(sql, params![name, value]).map_err(self.error())?;
        Ok(())
    }
}

fn member_key(member: Option<&MemberId>) -> &[u8] {
    member.map_or(&[], |member| member.as_bytes())
}

fn put_row(
    transaction: &rusqlite::Transaction<'_>,
    row: &Row,
    at: &impl Fn(rusqlite::Error) -> StoreError,
) -> Result<(), StoreError> {
    let key = params![row.kind.code(), round_key(row.round)?, member_key(row.member.as_ref()), row.bytes];
    let verb = if row.kind == StoredKind::Join { "REPLACE" } else { "IGNORE" };
    let insert = format!("INSERT OR {verb} INTO statements (kind, round, member, bytes) VALUES (?1, ?2, ?3, ?4)");
    if transaction.prepare_cached(&insert).and_then(|mut query| query.execute(key)).map_err(at)? > 0 {
        return Ok(());
    }
    let select = "SELECT bytes FROM statements WHERE kind = ?1 AND round = ?2 AND member = ?3";
    let key = params![row.kind.code(), round_key(row.round)?, member_key(row.member.as_ref())];
    let stored: Vec<u8> = transaction.query_row(select, key, |found| found.get(0)).map_err(at)?;
    if stored == row.bytes {
        return Ok(());
    }
    let [stored, got] = [Hash::of(&stored), Hash::of(&row.bytes)];
    Err(StoreError::Conflict { kind: row.kind, round: row.round, stored, got })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: StoredKind, round: u64, member: Option<u8>, bytes: &[u8]) -> Row {
        Row { kind, round, member: member.map(|byte| MemberId([byte; 32])), bytes: bytes.to_vec() }
    }

    #[test]
    fn rows_survive_and_are_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let mut store = Store::create(&path).unwrap();
        store.put(&[row(StoredKind::Record, 3, None, b"r3"), row(StoredKind::Claim, 3, Some(1), b"c1")]).unwrap();
        store.put(&[row(StoredKind::Record, 3, None, b"r3")]).unwrap();
        let both = [row(StoredKind::ClaimList, 4, None, b"l4"), row(StoredKind::Record, 3, None, b"other")];
        assert!(matches!(store.put(&both), Err(StoreError::Conflict { kind: StoredKind::Record, round: 3, .. })));
        drop(store);

        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.get(StoredKind::Record, 3, None).unwrap().unwrap(), b"r3");
        assert_eq!(store.get(StoredKind::ClaimList, 4, None).unwrap(), None, "all rows or none");
        assert_eq!(store.of_round(StoredKind::Claim, 3).unwrap().len(), 1);
        assert_eq!(store.last_round(StoredKind::Record).unwrap(), Some(3));
        assert_eq!(store.last_round(StoredKind::Receipt).unwrap(), None);
        store.put(&[row(StoredKind::Join, 1, Some(2), b"a")]).unwrap();
        store.put(&[row(StoredKind::Join, 1, Some(2), b"b")]).unwrap();
        assert_eq!(store.get(StoredKind::Join, 1, Some(&MemberId([2; 32]))).unwrap().unwrap(), b"b");
    }

    #[test]
    fn a_copy_taken_at_any_moment_opens_with_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let mut store = Store::create(&path).unwrap();
        for round in 0..20 {
            store.put(&[row(StoredKind::Record, round, None, &round.to_le_bytes())]).unwrap();
            // What a SIGKILL leaves: the files as they are, the connection still open.
            let copy = tempfile::tempdir().unwrap();
            for name in ["state.sqlite", "state.sqlite-wal"] {
                std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
            }
            let copied = Store::open(&copy.path().join("state.sqlite")).unwrap();
            assert_eq!(copied.last_round(StoredKind::Record).unwrap(), Some(round));
        }
    }

    #[test]
    fn counters_and_times_add_up_and_another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let store = Store::create(&path).unwrap();
        store.count_refusals("stale", 2).unwrap();
        store.count_refusals("stale", 3).unwrap();
        assert_eq!(store.refusals().unwrap().get("stale"), Some(&5));
        store.round_opened(1, 1000).unwrap();
        store.round_opened(1, 2000).unwrap();
        store.round_closed(1, 2.5).unwrap();
        store.round_closed(1, 9.5).unwrap();
        assert_eq!(store.round_time(1).unwrap(), Some(RoundTime { opened_unix_ms: 1000, seconds: Some(2.5) }));
        store.set_meta("x", b"1").unwrap();
        assert_eq!(store.meta("x").unwrap().unwrap(), b"1");
        store.connection.execute_batch("PRAGMA user_version = 9").unwrap();
        drop(store);
        assert!(matches!(Store::open(&path), Err(StoreError::Version { got: 9, .. })));
        std::fs::write(&path, b"not a database at all, but long enough to have a header.............................")
            .unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Sqlite { .. })));
    }
}
