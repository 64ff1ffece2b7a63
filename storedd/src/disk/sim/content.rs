//! The bytes of one simulated file: shared pages, so that a copy costs nothing until one side is written.

use std::hash::Hasher;
use std::ops::Range;
use std::sync::Arc;

/// Bytes in a page.
pub(super) const PAGE: usize = 4096;
/// Longest simulated file, in bytes.
pub(super) const FILE_LIMIT: u64 = 1 << 36;
static ZERO: [u8; PAGE] = [0; PAGE];

#[derive(Debug, Clone, Default)]
enum Page {
    /// Never written: reads as zero, takes no space.
    #[default]
    Hole,
    /// Written with zeros: takes space on the disk, none in memory.
    Zero,
    Bytes(Arc<[u8; PAGE]>),
}

impl Page {
    fn bytes(&self) -> &[u8; PAGE] {
        match self {
            Page::Hole | Page::Zero => &ZERO,
            Page::Bytes(bytes) => bytes,
        }
    }

    /// Puts `bytes` at `at`; a page that was zero and stays zero is not materialised.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let zero = is_zero(bytes);
        match self {
            Page::Bytes(page) if bytes.len() < PAGE => {
                Arc::make_mut(page)[at..at + bytes.len()].copy_from_slice(bytes);
            }
            _ if zero => *self = Page::Zero,
            _ => {
                let mut page = ZERO;
                page[at..at + bytes.len()].copy_from_slice(bytes);
                *self = Page::Bytes(Arc::new(page));
            }
        }
    }
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE).all(|chunk| chunk == &ZERO[..chunk.len()])
}

/// A file's length and pages. Bytes of the last page behind the length are zero; pages behind the end of `pages` are
/// holes.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: Arc<Vec<Page>>,
    allocated: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that the file takes on the disk.
    pub(super) fn space(&self) -> u64 {
        self.allocated * PAGE as u64
    }

    /// Fills `buf`; the range lies within the length.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) {
        for (page, at, part) in parts(offset, buf.len() as u64) {
            let bytes = self.pages.get(page).map_or(&ZERO, Page::bytes);
            buf[part.clone()].copy_from_slice(&bytes[at..at + part.len()]);
        }
    }

    /// Writes, growing the file if needed.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        for (page, at, part) in parts(offset, bytes.len() as u64) {
            self.page_mut(page).put(at, &bytes[part]);
        }
        self.len = self.len.max(end);
    }

    /// Writes zeros.
    pub(super) fn write_zeros(&mut self, offset: u64, len: u64) {
        for (page, at, part) in parts(offset, len) {
            self.page_mut(page).put(at, &ZERO[..part.len()]);
        }
        self.len = self.len.max(offset + len);
    }

    fn page_mut(&mut self, page: usize) -> &mut Page {
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() <= page {
            pages.resize_with(page + 1, Page::default);
        }
        if matches!(pages[page], Page::Hole) {
            pages[page] = Page::Zero;
            self.allocated += 1;
        }
        &mut pages[page]
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let keep = pages_of(len);
        if keep < self.pages.len() {
            let pages = Arc::make_mut(&mut self.pages);
            self.allocated -= pages.drain(keep..).filter(|p| !matches!(p, Page::Hole)).count() as u64;
        }
        let tail = (len % PAGE as u64) as usize;
        if len < self.len && tail != 0 && matches!(self.pages.get(keep - 1), Some(Page::Bytes(_))) {
            self.page_mut(keep - 1).put(tail, &ZERO[tail..]);
        }
        self.len = len;
    }

    /// How many of the bytes, from the front, fit into `free` bytes of space.
    pub(super) fn fits(&self, offset: u64, len: u64, free: u64) -> u64 {
        let mut free = free / PAGE as u64;
        for (page, _, part) in parts(offset, len) {
            if matches!(self.pages.get(page), None | Some(Page::Hole)) {
                if free == 0 {
                    return part.start as u64;
                }
                free -= 1;
            }
        }
        len
    }

    /// Takes over the pages of a byte range, and the length, from another state of the same file.
    pub(super) fn adopt(&mut self, from: &Content, range: Range<u64>) {
        for (page, ..) in parts(range.start, range.end.min(from.len).saturating_sub(range.start)) {
            if let Some(theirs @ (Page::Zero | Page::Bytes(_))) = from.pages.get(page) {
                *self.page_mut(page) = theirs.clone();
            }
        }
        self.len = from.len;
    }

    /// True if both read the same; pages that are in memory once for both are not compared.
    pub(super) fn is_same(&self, other: &Content) -> bool {
        let same = |(a, b): (&Page, &Page)| match (a, b) {
            (Page::Bytes(a), Page::Bytes(b)) if Arc::ptr_eq(a, b) => true,
            _ => a.bytes() == b.bytes(),
        };
        let common = self.pages.len().min(other.pages.len());
        let rest = self.pages[common..].iter().chain(&other.pages[common..]);
        self.len == other.len
            && (Arc::ptr_eq(&self.pages, &other.pages)
                || self.pages.iter().zip(other.pages.iter()).all(same) && rest.into_iter().all(|p| *p.bytes() == ZERO))
    }

    /// Length and a few bytes of each page.
    pub(super) fn sketch(&self, hasher: &mut impl Hasher) {
        hasher.write_u64(self.len);
        for (at, page) in self.pages.iter().enumerate() {
            if let Page::Bytes(bytes) = page {
                let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
                let sum = (0..PAGE / 64).fold(0u64, |sum, line| sum.rotate_left(7) ^ word(line * 64));
                if sum != 0 {
                    hasher.write_u64(sum ^ at as u64);
                }
            }
        }
    }

    /// How many pages are in memory once for both, or not at all.
    #[cfg(test)]
    pub(super) fn shares(&self, other: &Content) -> u64 {
        let same = |(a, b): &(&Page, &Page)| match (a, b) {
            (Page::Bytes(a), Page::Bytes(b)) => Arc::ptr_eq(a, b),
            (Page::Bytes(_), _) | (_, Page::Bytes(_)) => false,
            _ => true,
        };
        self.pages.iter().zip(other.pages.iter()).filter(same).count() as u64
    }

    /// The pages that are not zero, with their numbers.
    pub(super) fn nonzero(&self) -> impl Iterator<Item = (usize, &[u8; PAGE])> {
        self.pages.iter().enumerate().map(|(n, page)| (n, page.bytes())).filter(|(_, bytes)| **bytes != ZERO)
    }
}

fn pages_of(len: u64) -> usize {
    usize::try_from(len.div_ceil(PAGE as u64)).unwrap_or(usize::MAX)
}

/// Splits a byte range into (page, offset in the page, range in the caller's buffer).
fn parts(offset: u64, len: u64) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
    let mut done = 0u64;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let (page, at) = ((offset + done) / PAGE as u64, ((offset + done) % PAGE as u64) as usize);
        let part = (len - done).min((PAGE - at) as u64);
        let range = done as usize..(done + part) as usize;
        done += part;
        Some((page as usize, at, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as a plain vector, the oracle.
    #[test]
    fn behaves_like_a_vector() {
        let mut seed = 1u64;
        let mut random = move |below: u64| {
            seed = super::super::mix(seed);
            seed % below
        };
        for _ in 0..50 {
            let (mut content, mut vector) = (Content::default(), Vec::<u8>::new());
            for _ in 0..30 {
                let (offset, len) = (random(20_000), random(9000) as usize);
                match random(4) {
                    0 => {
                        content.set_len(offset);
                        vector.resize(offset as usize, 0);
                    }
                    kind => {
                        let byte = if kind == 1 { 0 } else { random(256) as u8 };
                        content.write(offset, &vec![byte; len]);
                        vector.resize(vector.len().max(offset as usize + len), 0);
                        vector[offset as usize..offset as usize + len].fill(byte);
                    }
                }
                let mut read = vec![1; vector.len()];
                content.read(0, &mut read);
                assert!(read == vector && content.len() == vector.len() as u64);
                let allocated = content.pages.iter().filter(|p| !matches!(p, Page::Hole)).count();
                assert_eq!(allocated as u64, content.allocated);
            }
        }
    }

    #[test]
    fn zeros_take_space_but_no_memory() {
        let mut content = Content::default();
        content.write(0, &vec![0; 1 << 20]);
        assert_eq!((content.space(), content.nonzero().count()), (1 << 20, 0));
        assert!(content.pages.iter().all(|p| matches!(p, Page::Zero)));
        assert_eq!(content.fits(0, 1 << 20, 0), 1 << 20);
        assert_eq!(content.fits((1 << 20) - 10, 20, 4095), 10);
    }
}
