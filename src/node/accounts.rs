//! Users and groups by name, as /etc/passwd and /etc/group have them: the accounts of a machine's own services. Directories
//! that other tools ask over a network are not asked, since an agent has to start without one.

use std::path::Path;

use rustix::fs::{Gid, Uid};

use crate::disk::{Access, Disk, RealFiles};
use crate::policy::Account;

/// How large such a file may be, bytes.
const ACCOUNTS_BYTES_MAX: usize = 8 << 20;

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

impl Ids {
    /// Those that this process has.
    pub fn own() -> Self {
        Self { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }

    /// Those of an account of this machine.
    ///
    /// # Errors
    /// What is missing.
    pub fn of(account: &Account) -> Result<Self, String> {
        let (passwd, group) = (read("passwd")?, read("group")?);
        Self::find(account, &passwd, &group)
    }

    fn find(account: &Account, passwd: &str, groups: &str) -> Result<Self, String> {
        let line = rows(passwd).find(|row| row.first() == Some(&account.user.as_str()));
        let known = line.and_then(|row| Some((row.get(2)?.parse().ok()?, row.get(3)?.parse().ok()?)));
        let (user, own_group) = match (known, account.user.parse::<u32>()) {
            (Some((user, group)), _) => (user, Some(group)),
            (None, Ok(number)) => (number, None),
            (None, Err(_)) => return Err(format!("this machine has no user {}", account.user)),
        };
        let group = match &account.group {
            None => own_group.ok_or_else(|| format!("user {user} has no group of its own; name one"))?,
            Some(name) => {
                let line = rows(groups).find(|row| row.first() == Some(&name.as_str()));
                let known = line.and_then(|row| row.get(2)?.parse().ok());
                known.or_else(|| name.parse().ok()).ok_or_else(|| format!("this machine has no group {name}"))?
            }
        };
        // All bits set means "leave it as it is" to chown(2).
        if user == u32::MAX || group == u32::MAX {
            return Err(format!("{account} is nobody's number"));
        }
        Ok(Self { user, group })
    }

    pub(super) fn uid(self) -> Uid {
        Uid::from_raw(self.user)
    }

    pub(super) fn gid(self) -> Gid {
        Gid::from_raw(self.group)
    }
}

fn read(name: &str) -> Result<String, String> {
    let files = RealFiles::open(Path::new("/etc"), Access::Public).map_err(|e| format!("cannot open /etc: {e}"))?;
    let bytes = Disk::new(files).read(name, ACCOUNTS_BYTES_MAX).map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_or_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/:/bin/false\nbroken:x\n";
        let groups = "root:x:0:\nweb:x:40:www\n";
        let find = |text: &str| Ids::find(&text.parse().unwrap(), passwd, groups);
        assert_eq!(find("www"), Ok(Ids { user: 33, group: 34 }));
        assert_eq!(find("root:web"), Ok(Ids { user: 0, group: 40 }));
        assert_eq!(find("1000:40"), Ok(Ids { user: 1000, group: 40 }));
        for (text, part) in [
            ("nobody", "no user nobody"),
            ("broken", "no user broken"),
            ("www:nobody", "no group nobody"),
            ("1000", "no group of its own"),
            ("4294967295:0", "nobody's number"),
        ] {
            assert!(find(text).unwrap_err().contains(part), "{text}");
        }
    }
}
