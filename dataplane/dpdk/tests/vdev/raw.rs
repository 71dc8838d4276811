//! A packet socket: frames to and from an interface past the kernel's IP stack.

use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::FromRawFd;

/// Bound to one interface.
pub(crate) struct Raw(File);

impl Raw {
    pub(crate) fn bind(interface: &str) -> Self {
        const ALL: u16 = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no precondition.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(ALL)) };
        assert!(fd >= 0, "a packet socket: root");
        // SAFETY: a fresh descriptor that nobody else has.
        let socket = unsafe { File::from_raw_fd(fd) };
        let name = CString::new(interface).unwrap();
        // SAFETY: a NUL-terminated string, read during the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        assert_ne!(index, 0, "{interface} is there");
        // SAFETY: all zeroes is a sockaddr_ll.
        let mut at: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        at.sll_family = libc::AF_PACKET as u16;
        at.sll_protocol = ALL;
        at.sll_ifindex = index as i32;
        let len = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: `at` is a socket address of `len` bytes, read during the call.
        let bound = unsafe { libc::bind(fd, (&raw const at).cast(), len) };
        assert_eq!(bound, 0, "bound to {interface}");
        Self(socket)
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        assert_eq!(self.0.write(frame).expect("sent"), frame.len());
    }

    /// The next frame that came in or went out, if there is one.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 65_536];
        match self.0.read(&mut bytes) {
            Ok(len) => {
                bytes.truncate(len);
                Some(bytes)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}
