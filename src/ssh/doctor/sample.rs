//! A machine in memory, for the tests of this module.

use std::collections::BTreeMap;

use super::{Account, HostKey, Machine, Seen, SeenFile, account_in, public_part};

/// Files by path.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(pub BTreeMap<String, SeenFile>);

impl Disk {
    pub(in crate::ssh::doctor) fn put(&mut self, path: &str, bytes: impl AsRef<[u8]>) {
        self.0.insert(path.to_owned(), SeenFile { bytes: bytes.as_ref().to_vec(), mode: 0o644, loose: None });
    }

    pub(in crate::ssh::doctor) fn change(&mut self, path: &str, change: impl FnOnce(&mut SeenFile)) {
        change(self.0.get_mut(path).expect("it is there"));
    }
}

impl Machine for Disk {
    fn read(&self, path: &str) -> Seen {
        self.0.get(path).cloned().map_or(Seen::Absent, Seen::There)
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let below = |path: &String| path.strip_prefix(directory)?.strip_prefix('/').map(str::to_owned);
        self.0.keys().filter_map(below).filter(|name| !name.contains('/')).collect()
    }

    fn host_key(&self, path: &str) -> HostKey {
        let Some(file) = self.0.get(path) else { return HostKey::Absent };
        match std::str::from_utf8(&file.bytes).ok().and_then(public_part) {
            Some(blob) => HostKey::There { blob, mode: file.mode },
            None => HostKey::Unreadable,
        }
    }

    fn account(&self, name: &str) -> Account {
        let Some(file) = self.0.get("/etc/shadow") else { return Account::Unknown };
        account_in(&String::from_utf8_lossy(&file.bytes), name)
    }
}
