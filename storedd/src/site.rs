//! Where a partition lies: in one directory, or in two on different disks. Pure paths.

use std::fmt;
use std::path::{Path, PathBuf};

/// The directories of a partition, absolute once the configuration is read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The root: its identity, indexes and manifests; message files too, if they have no root of their own.
    pub path: PathBuf,
    /// The root of message files, if that is another directory (`message_path`).
    pub messages: Option<PathBuf>,
}

impl Site {
    /// No directory: the database has the partition, and nothing says where it lies.
    #[must_use]
    pub fn nowhere() -> Site {
        Site { path: PathBuf::new(), messages: None }
    }

    /// True for [`Site::nowhere`].
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// Both roots, or the one there is.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.path).chain(&self.messages).map(PathBuf::as_path)
    }

    /// Changes each of the roots.
    pub fn each_root(&mut self, change: impl Fn(&mut PathBuf)) {
        change(&mut self.path);
        self.messages.iter_mut().for_each(change);
    }
}

impl<P: AsRef<Path>> From<P> for Site {
    /// All in one directory.
    fn from(path: P) -> Site {
        Site { path: path.as_ref().to_path_buf(), messages: None }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.messages.as_ref().map_or(Ok(()), |messages| write!(f, ", messages in {}", messages.display()))
    }
}
