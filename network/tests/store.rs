//! What the blob store makes of crashes and damaged files.
#![allow(clippy::unwrap_used)]

use essaim_network::blob::{Outboard, PIECE_LEN, PartialBlob, hash_file};
use essaim_network::{BlobError, BlobStore};
use essaim_protocol::ids::Hash;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0u8; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Every file under `dir` but the lock.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => out.extend(files(&entry.path())),
            false if entry.file_name() != "lock" => out.push(entry.path()),
            false => {}
        }
    }
    out.sort();
    out
}

/// What happens to a file.
type Damage = fn(&Path);

fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

#[test]
fn blobs_outlive_the_store_and_leftovers_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let content = bytes(3 * PIECE_LEN + 1, 1);
    let store = BlobStore::open(dir.path()).unwrap();
    let hash = store.insert_bytes(&content).unwrap();
    assert_eq!(hash, Hash::of(&content));
    drop(store);
    // A write that a crash cut off.
    fs::write(dir.path().join("tmp/0"), b"half").unwrap();
    fs::write(dir.path().join("tmp/17"), b"half").unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(store.read(&hash, u64::MAX).unwrap(), content);
    assert_eq!((store.hashes().unwrap(), store.used_bytes()), (vec![hash], content.len() as u64));
    assert_eq!(store.len(&hash), Some(content.len() as u64));
    for index in 0..4usize {
        let end = content.len().min((index + 1) * PIECE_LEN);
        assert_eq!(store.read_piece(&hash, index as u32).unwrap(), &content[index * PIECE_LEN..end]);
    }
    assert!(matches!(store.read_piece(&hash, 4), Err(BlobError::NoSuchPiece { index: 4, pieces: 4, .. })));
    store.remove(&hash).unwrap();
    store.remove(&hash).unwrap();
    assert_eq!((store.contains(&hash), store.used_bytes()), (false, 0));
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_store_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    match BlobStore::open(dir.path()) {
        Err(BlobError::InUse(path)) => assert_eq!(path, dir.path()),
        other => panic!("{other:?}"),
    }
    drop(store);
    BlobStore::open(dir.path()).unwrap();
}

#[test]
fn damaged_files_are_found_at_every_place_and_never_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let content = bytes(2 * PIECE_LEN + 500, 2);
    let damages: [(&str, Damage); 5] = [
        ("first byte", |path| flip(path, 0)),
        ("last byte", |path| flip(path, 2 * PIECE_LEN + 499)),
        ("truncated", |path| fs::write(path, &fs::read(path).unwrap()[..PIECE_LEN]).unwrap()),
        ("emptied", |path| fs::write(path, b"").unwrap()),
        ("longer", |path| fs::write(path, [&fs::read(path).unwrap()[..], &[0]].concat()).unwrap()),
    ];
    for (what, damage) in damages {
        for warm in [false, true] {
            // By the whole blob.
            let hash = store.insert_bytes(&content).unwrap();
            let path = store.path(&hash).unwrap();
            if warm {
                store.outboard(&hash).unwrap();
            }
            damage(&path);
            match store.read(&hash, 1 << 30) {
                Err(BlobError::Corrupt { hash: found, .. }) => assert_eq!(found, hash),
                other => panic!("{what}: {other:?}"),
            }
            assert!(!store.contains(&hash) && !path.exists(), "{what}: quarantined");
            assert_eq!(store.used_bytes(), 0, "{what}");

            // By its pieces: whatever is handed out is right, and the damage is found.
            store.insert_bytes(&content).unwrap();
            if warm {
                store.outboard(&hash).unwrap();
            }
            damage(&path);
            let pieces: Vec<_> = (0..3).map(|index| store.read_piece(&hash, index)).collect();
            for (index, piece) in pieces.iter().enumerate() {
                if let Ok(piece) = piece {
                    let end = content.len().min((index + 1) * PIECE_LEN);
                    assert_eq!(piece, &content[index * PIECE_LEN..end], "{what}");
                }
            }
            assert!(pieces.iter().any(Result::is_err), "{what}");
            assert!(!store.contains(&hash), "{what}: quarantined");
        }
    }
}

#[test]
fn a_damaged_outboard_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let content = bytes(3 * PIECE_LEN, 3);
    let file = dir.path().join("source");
    fs::write(&file, &content).unwrap();
    let place = dir.path().join("store");
    let store = BlobStore::open(&place).unwrap();
    let hash = store.insert_file(&file).unwrap();
    let right = store.outboard(&hash).unwrap();
    assert_eq!(*right, hash_file(&file).unwrap());
    drop(store);
    for at in [0, 8, 50] {
        flip(&place.join("outboards").join(hash.to_string()), at);
        let store = BlobStore::open(&place).unwrap();
        assert_eq!(store.outboard(&hash).unwrap(), right);
        assert_eq!(store.read_piece(&hash, 1).unwrap(), &content[PIECE_LEN..2 * PIECE_LEN]);
    }
}

#[test]
fn reads_and_inserts_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let hash = store.insert_bytes(&[1; 100]).unwrap();
    assert_eq!(store.read(&hash, 100).unwrap(), [1; 100]);
    match store.read(&hash, 99) {
        Err(BlobError::TooLong { len_bytes: 100, max_len_bytes: 99, .. }) => {}
        other => panic!("{other:?}"),
    }
    store.set_quota_bytes(150);
    match store.insert_bytes(&[2; 51]) {
        Err(BlobError::Full { quota_bytes: 150, used_bytes: 100, wanted_bytes: 51 }) => {}
        other => panic!("{other:?}"),
    }
    store.insert_bytes(&[2; 50]).unwrap();
    // The same blob again takes no more room.
    store.set_quota_bytes(1000);
    store.insert_bytes(&[2; 50]).unwrap();
    assert_eq!(store.used_bytes(), 150);
}

#[test]
fn external_files_come_and_go_by_their_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path().join("store")).unwrap();
    let file = dir.path().join("public.bin");
    let content = bytes(PIECE_LEN + 9, 4);
    let hash = Hash::of(&content);
    assert!(matches!(store.register_external(hash, &file), Err(BlobError::Io { .. })), "no such file");
    fs::write(&file, &content).unwrap();
    store.register_external(hash, &file).unwrap();
    assert_eq!((store.path(&hash), store.used_bytes()), (Some(file.clone()), 0));
    assert_eq!(store.read(&hash, 1 << 20).unwrap(), content);
    fs::remove_file(&file).unwrap();
    assert!(!store.contains(&hash));
    fs::write(&file, b"something else").unwrap();
    assert!(matches!(store.read(&hash, 1 << 20), Err(BlobError::Corrupt { .. })));
    assert!(!store.contains(&hash), "forgotten");
    assert_eq!(fs::read(&file).unwrap(), b"something else", "not deleted");
}

/// A download of four pieces of which the first and the last are written.
fn half_done(dir: &Path) -> (Arc<BlobStore>, Outboard, Vec<u8>) {
    let content = bytes(3 * PIECE_LEN + 77, 5);
    let file = dir.join("source");
    fs::write(&file, &content).unwrap();
    let outboard = hash_file(&file).unwrap();
    let store = Arc::new(BlobStore::open(dir.join("store")).unwrap());
    let mut partial = PartialBlob::create(store.clone(), outboard.clone()).unwrap();
    partial.write_piece(3, &content[3 * PIECE_LEN..]).unwrap();
    partial.write_piece(0, &content[..PIECE_LEN]).unwrap();
    (store, outboard, content)
}

#[test]
fn a_download_goes_on_with_the_pieces_that_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let (store, outboard, content) = half_done(dir.path());
    let hash = outboard.hash();
    assert!(!store.contains(&hash), "not a blob before it is whole");
    let (mut partial, have) = PartialBlob::resume(store.clone(), &hash).unwrap().unwrap();
    assert_eq!(have, [true, false, false, true]);
    assert_eq!(*partial.outboard(), outboard);
    partial.write_piece(1, &content[PIECE_LEN..2 * PIECE_LEN]).unwrap();
    partial.write_piece(2, &content[2 * PIECE_LEN..3 * PIECE_LEN]).unwrap();
    let path = partial.finish().unwrap();
    assert_eq!(store.path(&hash), Some(path));
    assert_eq!(store.read(&hash, 1 << 30).unwrap(), content);
    assert_eq!(store.used_bytes(), content.len() as u64);
    assert_eq!(fs::read_dir(store.dir().join("partial")).unwrap().count(), 0);
}

#[test]
fn a_damaged_download_loses_only_what_is_damaged() {
    let damages: [(&str, Damage, Option<[bool; 4]>); 4] = [
        ("flipped", |path| flip(path, 5), Some([false, false, false, true])),
        ("truncated", |path| fs::write(path, &fs::read(path).unwrap()[..PIECE_LEN]).unwrap(), None),
        ("its list flipped", |path| flip(&path.with_extension("outboard"), 20), None),
        ("its list gone", |path| fs::remove_file(path.with_extension("outboard")).unwrap(), None),
    ];
    for (what, damage, expected) in damages {
        let dir = tempfile::tempdir().unwrap();
        let (store, outboard, _) = half_done(dir.path());
        damage(&store.dir().join("partial").join(outboard.hash().to_string()));
        let resumed = PartialBlob::resume(store.clone(), &outboard.hash()).unwrap();
        assert_eq!(resumed.map(|(_, have)| have), expected.map(|have| have.to_vec()), "{what}");
        let left = fs::read_dir(store.dir().join("partial")).unwrap().count();
        assert_eq!(left, if expected.is_some() { 2 } else { 0 }, "{what}: what is of no use is removed");
    }
}

#[test]
fn one_blob_may_be_inserted_by_several_threads_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let content = bytes(PIECE_LEN * 2, 6);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    store.insert_bytes(&content).unwrap();
                }
            });
        }
    });
    assert_eq!(store.read(&Hash::of(&content), 1 << 30).unwrap(), content);
    assert_eq!(store.used_bytes(), content.len() as u64);
}
