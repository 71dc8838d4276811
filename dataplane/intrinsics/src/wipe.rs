//! An allocator that leaves nothing behind in what it takes back.
//!
//! A key's own type can erase itself; the tables that a cipher expands it into belong to a
//! library that doesn't, and so do buffers that once held one. Here all of them are zero
//! before anybody else gets their memory. The walk frees nothing, so it pays nothing.

use core::alloc::{GlobalAlloc, Layout};
use core::hint::black_box;
use std::alloc::System;

/// The system's allocator, with memory set to zero when it is freed or moved.
#[derive(Clone, Copy, Default, Debug)]
pub struct WipingAllocator;

// SAFETY: every call is the system allocator's own, with what the caller gave; `realloc` is the
// trait's, made of these.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's duties are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's duties are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` is a block of this layout, which nobody uses any more.
        unsafe { at.write_bytes(0, layout.size()) };
        // Or it would be left out, as memory that nobody reads again.
        black_box(at);
        // SAFETY: the caller's duties are the same.
        unsafe { System.dealloc(at, layout) }
    }
}
