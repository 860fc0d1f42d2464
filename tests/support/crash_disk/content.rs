//! Bytes of files: pages that copies share, and none for zeros, so that segments written in advance cost nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// The bytes of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    length: usize,
    /// The pages that are not all zeros; zeros after the end.
    pages: BTreeMap<usize, Arc<[u8; PAGE]>>,
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Cuts it, or makes it longer by zeros.
    pub(super) fn resize(&mut self, length: usize) {
        if length < self.length {
            self.pages.split_off(&length.div_ceil(PAGE));
            if let Some(last) = self.pages.get_mut(&(length / PAGE)) {
                Arc::make_mut(last)[length % PAGE..].fill(0);
            }
        }
        self.length = length;
    }

    /// Reads what there is from `offset` on.
    pub(super) fn read(&self, offset: usize, into: &mut [u8]) -> usize {
        let end = (offset + into.len()).min(self.length);
        let mut at = offset;
        while at < end {
            let piece = (PAGE - at % PAGE).min(end - at);
            let target = &mut into[at - offset..at - offset + piece];
            match self.pages.get(&(at / PAGE)) {
                Some(page) => target.copy_from_slice(&page[at % PAGE..at % PAGE + piece]),
                None => target.copy_from_slice(&ZEROS[..piece]),
            }
            at += piece;
        }
        end.saturating_sub(offset)
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        self.read(0, &mut bytes);
        bytes
    }

    /// Writes, and makes it as long as needed.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.length = self.length.max(offset + bytes.len());
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done;
            let piece = (PAGE - at % PAGE).min(bytes.len() - done);
            let source = &bytes[done..done + piece];
            let is_zero = source == &ZEROS[..piece];
            if !is_zero || self.pages.contains_key(&(at / PAGE)) {
                let page = self.pages.entry(at / PAGE).or_insert_with(|| Arc::new(ZEROS));
                Arc::make_mut(page)[at % PAGE..at % PAGE + piece].copy_from_slice(source);
            }
            done += piece;
        }
    }

    /// Writes zeros, and makes it as long as needed.
    pub(super) fn write_zeros(&mut self, offset: usize, count: usize) {
        self.length = self.length.max(offset + count);
        let (start, end) = (offset, offset + count);
        for (number, page) in self.pages.range_mut(start / PAGE..end.div_ceil(PAGE)) {
            let first = number * PAGE;
            let (from, to) = (start.max(first), end.min(first + PAGE));
            Arc::make_mut(page)[from - first..to - first].fill(0);
        }
    }

    /// Where the pages are that are not all zeros.
    pub(super) fn written(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        self.pages.keys().map(|number| number * PAGE..(number + 1) * PAGE)
    }
}

/// A write that was not synced.
#[derive(Clone, Debug)]
pub(super) struct DirtyWrite {
    pub(super) offset: usize,
    length: usize,
    /// None for zeros.
    bytes: Option<Vec<u8>>,
}

impl DirtyWrite {
    /// A write, or as many as it takes to have long runs of zeros apart.
    pub(super) fn split(offset: usize, bytes: &[u8]) -> Vec<Self> {
        let mut writes: Vec<Self> = Vec::new();
        for (number, chunk) in bytes.chunks(PAGE).enumerate() {
            let at = offset + number * PAGE;
            let is_zero = bytes.len() > PAGE && chunk == &ZEROS[..chunk.len()];
            match writes.last_mut() {
                Some(last) if last.bytes.is_none() == is_zero => {
                    last.length += chunk.len();
                    if let Some(held) = &mut last.bytes {
                        held.extend_from_slice(chunk);
                    }
                }
                _ => writes.push(Self { offset: at, length: chunk.len(), bytes: (!is_zero).then(|| chunk.to_vec()) }),
            }
        }
        writes
    }

    pub(super) fn end(&self) -> usize {
        self.offset + self.length
    }

    pub(super) fn is_zeros(&self) -> bool {
        self.bytes.is_none()
    }

    pub(super) fn apply(&self, content: &mut Content) {
        match &self.bytes {
            Some(bytes) => content.write(self.offset, bytes),
            None => content.write_zeros(self.offset, self.length),
        }
    }

    /// Applies what of it lies within `piece`, which begins at `start` of the file.
    pub(super) fn apply_within(&self, piece: &mut [u8], start: usize) {
        let (from, to) = (self.offset.max(start), self.end().min(start + piece.len()));
        if from < to {
            let target = &mut piece[from - start..to - start];
            match &self.bytes {
                Some(bytes) => target.copy_from_slice(&bytes[from - self.offset..to - self.offset]),
                None => target.fill(0),
            }
        }
    }
}
