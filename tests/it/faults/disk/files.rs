//! The file operations of a simulated machine, one by one, each as the real ones behave.

use std::io;
use std::sync::Arc;

use keys::digest::Digest;
use keys::disk::{EntryKind, Files};

use super::{Content, Flaw, Inner, Machine, Names, Node, Operation, Part, SimFiles};

impl SimFiles {
    /// Looks at what is there.
    fn look<T>(&self, work: impl FnOnce(&super::World) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.machine.inner();
        inner.begin(Operation::Look)?;
        work(&inner.world)
    }

    /// Changes something, if it does not fail.
    fn change<T>(&self, operation: Operation, work: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.machine.inner();
        inner.begin(operation)?;
        let result = work(&mut inner)?;
        inner.changed();
        Ok(result)
    }
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn part(directory: usize, name: &str, node: Option<usize>) -> Part {
    Part { directory, name: name.to_owned(), node }
}

impl Files for SimFiles {
    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        self.look(|world| {
            let Some((.., Some(node))) = absent(world.find(self.root, path))? else { return Ok(None) };
            match &*world.nodes[node] {
                Node::Directory { .. } => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
                Node::File { bytes, .. } if bytes.len() > limit => Err(io::ErrorKind::FileTooLarge.into()),
                Node::File { bytes, .. } => Ok(Some(bytes.to_vec())),
            }
        })
    }

    fn list(&self, directory: &str) -> io::Result<Vec<(String, EntryKind)>> {
        self.look(|world| {
            let Some(directory) = absent(world.directory(self.root, directory))? else { return Ok(Vec::new()) };
            let kind = |node| if world.is_directory(node) { EntryKind::Directory } else { EntryKind::File };
            Ok(world.names(directory)?.iter().map(|(name, node)| (name.clone(), kind(*node))).collect())
        })
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.machine.inner();
        // A write that fails for want of room has made the file, and may have filled half of it.
        let result = inner.begin(Operation::Write);
        let bytes = match &result {
            Ok(()) => bytes,
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => return result,
            Err(_) => &bytes[..bytes.len() / 2],
        };
        let (directory, name, there) = inner.world.find(self.root, path)?;
        if there.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node =
            inner.world.add(Node::File { bytes: Arc::from(bytes), hash: Digest::of(bytes), content: Content::Cached });
        inner.world.change(vec![part(directory, name, Some(node))]);
        inner.changed();
        result
    }

    fn sync_file(&self, path: &str) -> io::Result<()> {
        let mut inner = self.machine.inner();
        let result = inner.begin(Operation::SyncFile);
        if inner.flaw == Flaw::NameBeforeContent {
            return result;
        }
        let (.., Some(node)) = inner.world.find(self.root, path)? else { return Err(io::ErrorKind::NotFound.into()) };
        if let Node::File { content, .. } = Arc::make_mut(&mut inner.world.nodes[node]) {
            // The kernel says once that it could not write, and then takes the page for clean.
            *content = match (&result, *content) {
                (Err(_), Content::Cached) => Content::GivenUp,
                (Ok(()), Content::Cached) => Content::Durable,
                (_, other) => other,
            };
        }
        inner.changed();
        result
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.change(Operation::SyncDirectory, |inner| {
            let directory = inner.world.directory(self.root, directory)?;
            inner.world.names(directory)?;
            if inner.flaw != Flaw::NamesNeverSynced {
                inner.world.sync_directory(directory);
            }
            Ok(())
        })
    }

    fn link(&self, from: &str, to: &str) -> io::Result<bool> {
        self.change(Operation::Link, |inner| {
            let (.., Some(node)) = inner.world.find(self.root, from)? else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let (directory, name, there) = inner.world.find(self.root, to)?;
            if there.is_some() {
                return Ok(false);
            }
            inner.world.change(vec![part(directory, name, Some(node))]);
            inner.sync_at_once(directory);
            Ok(true)
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(Operation::Rename, |inner| {
            let (old, old_name, Some(node)) = inner.world.find(self.root, from)? else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let (new, new_name, there) = inner.world.find(self.root, to)?;
            if there.is_some_and(|there| inner.world.is_directory(there)) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            if inner.flaw == Flaw::RenameInTwoSteps && there.is_some() {
                inner.world.change(vec![part(new, new_name, None)]);
                inner.changed();
            }
            inner.world.change(vec![part(new, new_name, Some(node)), part(old, old_name, None)]);
            inner.sync_at_once(new);
            Ok(())
        })
    }

    fn unlink(&self, path: &str) -> io::Result<bool> {
        self.change(Operation::Unlink, |inner| {
            let Some((directory, name, Some(node))) = absent(inner.world.find(self.root, path))? else {
                return Ok(false);
            };
            if inner.world.is_directory(node) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            inner.world.change(vec![part(directory, name, None)]);
            Ok(true)
        })
    }

    fn make_directory(&self, directory: &str) -> io::Result<bool> {
        self.change(Operation::MakeDirectory, |inner| {
            let (above, name, there) = inner.world.find(self.root, directory)?;
            if there.is_some() {
                return Ok(false);
            }
            let node = inner.world.add(Node::Directory { now: Names::new(), durable: Names::new() });
            inner.world.change(vec![part(above, name, Some(node))]);
            Ok(true)
        })
    }

    fn remove_directory(&self, directory: &str) -> io::Result<bool> {
        self.change(Operation::RemoveDirectory, |inner| {
            let Some((above, name, Some(node))) = absent(inner.world.find(self.root, directory))? else {
                return Ok(false);
            };
            if !inner.world.names(node)?.is_empty() {
                return Ok(false);
            }
            inner.world.change(vec![part(above, name, None)]);
            Ok(true)
        })
    }

    fn try_lock(&self) -> io::Result<Option<Box<dyn Send>>> {
        let mut inner = self.machine.inner();
        inner.begin(Operation::Look)?;
        let free = inner.locks.insert(self.root);
        Ok(free.then(|| Box::new(Held { machine: self.machine.clone(), root: self.root }) as Box<dyn Send>))
    }

    fn root(&self) -> String {
        format!("/{}", self.label)
    }
}

impl Inner {
    /// What a disk does that brings names to the platter before the content they name.
    fn sync_at_once(&mut self, directory: usize) {
        if self.flaw == Flaw::NameBeforeContent {
            self.world.sync_directory(directory);
        }
    }
}

struct Held {
    machine: Machine,
    root: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.machine.inner().locks.remove(&self.root);
    }
}
