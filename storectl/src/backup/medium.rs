//! Where an archive is written to: a file, which gets its name when it is whole; a device or a pipe, as it is.

use crate::archive;
use crate::exit::{Outcome, Stop};
use crate::files::{self, Fresh, Stream};
use proto::Code;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::Path;

/// Bytes written at once.
const WRITE_BYTES: usize = 256 << 10;

#[derive(Debug)]
enum Kind {
    File(Fresh),
    Stream(Stream),
    Stdout(io::Stdout),
}

/// See the page.
#[derive(Debug)]
pub struct Medium {
    kind: BufWriter<Counted>,
    name: String,
}

#[derive(Debug)]
struct Counted {
    kind: Kind,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.kind {
            Kind::File(file) => file.write(bytes),
            Kind::Stream(stream) => stream.write(bytes),
            Kind::Stdout(out) => out.write(bytes),
        }?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::File(file) => file.flush(),
            Kind::Stream(stream) => stream.flush(),
            Kind::Stdout(out) => out.flush(),
        }
    }
}

impl Medium {
    /// Opens it; `-` is standard output.
    ///
    /// # Errors
    /// Standard output is a terminal (64); a file that is no archive is there (73); those of the system.
    pub fn at(path: &Path) -> Outcome<Medium> {
        let name = path.display().to_string();
        let kind = if files::is_stdin(path) {
            let out = io::stdout();
            if out.is_terminal() {
                let hint = "send it to a file or a program: storectl backup -f - / > backup.sda";
                return Err(Stop::hint(Code::Usage, "an archive is nothing for a terminal", hint));
            }
            Kind::Stdout(out)
        } else if files::is_special(path) {
            Kind::Stream(Stream::to(path)?)
        } else {
            if path.symlink_metadata().is_ok() && !is_archive(path)? {
                let text = format!("{name} is there already, and is no archive");
                return Err(Stop::hint(Code::Exists, text, "give another name, or move it away"));
            }
            Kind::File(Fresh::over(path)?)
        };
        Ok(Medium { kind: BufWriter::with_capacity(WRITE_BYTES, Counted { kind, bytes: 0 }), name })
    }

    /// True for standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self.kind.get_ref().kind, Kind::Stdout(_))
    }

    /// True for what is written in whole blocks.
    pub fn has_blocks(&self) -> bool {
        !matches!(self.kind.get_ref().kind, Kind::File(_))
    }

    /// Makes failures of it from errors.
    pub fn failure(&self) -> impl Fn(io::Error) -> Stop + 'static {
        let name = self.name.clone();
        move |e| match e.kind() {
            io::ErrorKind::BrokenPipe => {
                let hint = "the archive is not whole: run it again";
                Stop::hint(Code::Io, format!("{name}: nobody reads it any more"), hint)
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Stop::hint(Code::Busy, format!("{name}: no space: {e}"), "make room, or give another file")
            }
            _ => Stop::new(Code::Io, format!("{name} cannot be written: {e}")),
        }
    }

    /// The archive is whole: a file gets its name, durably. Gives its bytes.
    ///
    /// # Errors
    /// Those of the system.
    pub fn put(self) -> Outcome<u64> {
        let failed = self.failure();
        let Counted { kind, bytes } = self.kind.into_inner().map_err(|e| failed(e.into_error()))?;
        match kind {
            Kind::File(file) => file.put()?,
            Kind::Stream(stream) => stream.sync().map_err(failed)?,
            Kind::Stdout(mut out) => out.flush().map_err(failed)?,
        }
        Ok(bytes)
    }
}

impl Write for Medium {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.kind.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.kind.flush()
    }
}

/// True for an empty file and for one that begins as an archive does.
fn is_archive(path: &Path) -> Outcome<bool> {
    let mut begin = Vec::new();
    let magic = archive::frame::MAGIC;
    let read = files::open(path)?.take(magic.len() as u64).read_to_end(&mut begin);
    read.map_err(|e| files::failed(path, &e))?;
    Ok(begin.is_empty() || begin == magic)
}
