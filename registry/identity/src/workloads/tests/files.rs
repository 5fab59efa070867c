//! Keys in a file, which whoever mounts it replaces.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use granary_crds::KeySource;
use tempfile::TempDir;

use super::issuer::{Key, key_set};
use super::*;
use crate::KeysError;

const URL: &str = "https://issuer.example";

struct Mounted {
    folder: TempDir,
    clock: ManualClock,
    workloads: Workloads,
}

impl Mounted {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let clock = ManualClock::new(begin());
        let source = KeySource::File(folder.path().join("jwks.json"));
        let workloads = workloads(vec![trust("ci", URL, source)], &clock);
        Self { folder, clock, workloads }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("jwks.json")
    }

    fn pass(&self, milliseconds: i64) {
        let now = granary_core::Clock::now(&self.clock);
        self.clock.set(now + SignedDuration::from_millis(milliseconds));
    }

    async fn verify(&self, key: &Key) -> Result<Verified, WorkloadError> {
        let token = key.sign(&claims(URL, granary_core::Clock::now(&self.clock)));
        self.workloads.verify(&token).await
    }
}

/// Writes a file that bears another time than the one before.
fn write(path: &Path, text: &str, age: u64) {
    fs::write(path, text).unwrap();
    let modified = SystemTime::now() - Duration::from_secs(age);
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let (one, two) = (Key::new("1", "EdDSA"), Key::new("2", "EdDSA"));
    assert_eq!(key_set(&[&one]).len(), key_set(&[&two]).len());
    let mounted = Mounted::new();
    write(&mounted.file(), &key_set(&[&one]), 100);
    let first = mounted.verify(&one).await.unwrap();
    assert!(mounted.workloads.still_trusts(&first));

    // The same length, another time.
    write(&mounted.file(), &key_set(&[&two]), 50);
    mounted.pass(999);
    assert!(mounted.workloads.still_trusts(&first), "looked at once a second");
    mounted.verify(&one).await.unwrap();
    mounted.pass(1);
    assert!(!mounted.workloads.still_trusts(&first));
    mounted.verify(&two).await.unwrap();
    assert!(matches!(mounted.verify(&one).await, Err(WorkloadError::UnknownKey)));

    // Another length, put in place at once.
    let next = mounted.folder.path().join("next");
    write(&next, &key_set(&[&one, &two]), 50);
    fs::rename(next, mounted.file()).unwrap();
    mounted.pass(1000);
    mounted.verify(&one).await.unwrap();
    mounted.verify(&two).await.unwrap();
}

#[tokio::test]
async fn a_file_is_another_one_when_its_link_leads_elsewhere() {
    let (one, two) = (Key::new("1", "EdDSA"), Key::new("2", "EdDSA"));
    let mounted = Mounted::new();
    let folder = mounted.folder.path();
    let modified = SystemTime::now() - Duration::from_secs(100);
    for (version, key) in [("..v1", &one), ("..v2", &two)] {
        fs::create_dir(folder.join(version)).unwrap();
        let path = folder.join(version).join("jwks.json");
        fs::write(&path, key_set(&[key])).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }
    symlink("..v1", folder.join("..data")).unwrap();
    symlink("..data/jwks.json", mounted.file()).unwrap();
    mounted.verify(&one).await.unwrap();
    symlink("..v2", folder.join("..tmp")).unwrap();
    fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
    mounted.pass(1000);
    mounted.verify(&two).await.unwrap();
    assert!(matches!(mounted.verify(&one).await, Err(WorkloadError::UnknownKey)));
}

#[tokio::test]
async fn an_unchanged_file_is_fresh_for_as_long_as_it_is_there() {
    let key = Key::new("1", "EdDSA");
    let mounted = Mounted::new();
    write(&mounted.file(), &key_set(&[&key]), 100);
    for _ in 0..5 {
        mounted.verify(&key).await.unwrap();
        mounted.pass(20 * 3600 * 1000);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_an_outage() {
    let key = Key::new("1", "EdDSA");
    let mounted = Mounted::new();
    let cause = |result: Result<Verified, WorkloadError>| match result {
        Err(WorkloadError::Keys { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    assert!(matches!(*cause(mounted.verify(&key).await), KeysError::File { .. }));
    write(&mounted.file(), "{", 100);
    mounted.pass(1000);
    assert!(matches!(*cause(mounted.verify(&key).await), KeysError::KeySet(_)));
    write(&mounted.file(), &" ".repeat(1024 * 1024 + 1), 90);
    mounted.pass(1000);
    assert!(matches!(*cause(mounted.verify(&key).await), KeysError::TooLarge));
    write(&mounted.file(), &key_set(&[&key]), 80);
    mounted.pass(1000);
    mounted.verify(&key).await.unwrap();

    // Half written, then gone: the keys of before stay for a day.
    write(&mounted.file(), &key_set(&[&key])[..20], 70);
    mounted.pass(1000);
    mounted.verify(&key).await.unwrap();
    fs::remove_file(mounted.file()).unwrap();
    mounted.pass(24 * 3600 * 1000 - 1000);
    mounted.verify(&key).await.unwrap();
    mounted.pass(1000);
    assert!(matches!(*cause(mounted.verify(&key).await), KeysError::File { .. }));
    write(&mounted.file(), &key_set(&[&key]), 60);
    mounted.pass(1000);
    mounted.verify(&key).await.unwrap();
}
