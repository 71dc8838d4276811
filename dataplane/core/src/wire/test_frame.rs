//! A [`Frame`] over a `Vec` with the room a port promises, for tests beside the code.

use crate::port::{Frame, HEADROOM_MIN, TAILROOM_MIN};

pub(super) struct TestFrame {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl TestFrame {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self::with_room(bytes, HEADROOM_MIN, TAILROOM_MIN)
    }

    /// As [`Self::new`]; room and whatever grows into it is filled with 0xa5.
    pub(super) fn with_room(bytes: &[u8], headroom: usize, tailroom: usize) -> Self {
        let mut buffer = vec![0xa5; headroom];
        buffer.extend(bytes);
        let end = buffer.len();
        buffer.resize(end + tailroom, 0xa5);
        Self {
            buffer,
            start: headroom,
            end,
        }
    }
}

impl Frame for TestFrame {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    fn grow_front(&mut self, n: usize) -> bool {
        let room = self.start >= n;
        self.start -= if room { n } else { 0 };
        room
    }

    fn grow_back(&mut self, n: usize) -> bool {
        let room = self.buffer.len() - self.end >= n;
        self.end += if room { n } else { 0 };
        room
    }

    fn trim_front(&mut self, n: usize) {
        self.start += n.min(self.end - self.start);
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}
