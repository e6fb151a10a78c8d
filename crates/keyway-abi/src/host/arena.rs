//! C memory for the arguments of one call: zeroed, at addresses that stay, wiped and given back when the call is over.

use crate::ctypes::CK_ULONG;
use core::ptr::NonNull;
use keyway_wire::generated::rv::CKR_HOST_MEMORY;
use std::alloc::{alloc_zeroed, dealloc, Layout};
use zeroize::Zeroize;

/// Most calls need no more than one block of this size, in words of 8 bytes.
const BLOCK: usize = 128;
/// Larger blocks hold data rather than secrets; wiping them would cost more than the call.
const WIPED: usize = 8_192;
/// Bytes that all arguments of one call may take.
const MAX_TOTAL: usize = 4 * keyway_wire::limits::MAX_OUTPUT;

struct Block {
    memory: NonNull<u64>,
    words: usize,
    used: usize,
}

/// The memory of one call.
#[derive(Default)]
pub(super) struct Arena {
    blocks: Vec<Block>,
    total: usize,
}

impl Arena {
    /// So many zeroed bytes, aligned for every C type; not NULL even for none.
    pub(super) fn allocate(&mut self, bytes: usize) -> Result<*mut u8, u64> {
        let words = bytes.div_ceil(8);
        let fits = self
            .blocks
            .last()
            .is_some_and(|block| block.words - block.used >= words);
        if !fits {
            self.grow(words.max(BLOCK))?;
        }
        let block = self.blocks.last_mut().ok_or(CKR_HOST_MEMORY)?;
        let start = block.memory.as_ptr().wrapping_add(block.used);
        block.used += words;
        Ok(start.cast())
    }

    fn grow(&mut self, words: usize) -> Result<(), u64> {
        let layout = Layout::array::<u64>(words).map_err(|_| CKR_HOST_MEMORY)?;
        self.total = self.total.saturating_add(layout.size());
        if self.total > MAX_TOTAL {
            return Err(CKR_HOST_MEMORY);
        }
        // SAFETY: the layout is not of size zero, since `words` is at least BLOCK.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(CKR_HOST_MEMORY)?;
        self.blocks.push(Block {
            memory: memory.cast(),
            words,
            used: 0,
        });
        Ok(())
    }

    /// A copy of these bytes.
    pub(super) fn copy(&mut self, data: &[u8]) -> Result<*mut u8, u64> {
        let place = self.allocate(data.len())?;
        // SAFETY: there is room for so many bytes, and nobody else has it.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), place, data.len()) };
        Ok(place)
    }

    /// A copy of this text with a terminator.
    pub(super) fn text(&mut self, text: &[u8]) -> Result<*mut u8, u64> {
        // A zero behind it is there already.
        let place = self.allocate(text.len() + 1)?;
        // SAFETY: as above.
        unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), place, text.len()) };
        Ok(place)
    }

    /// A cell that holds this number.
    pub(super) fn cell(&mut self, value: CK_ULONG) -> Result<*mut CK_ULONG, u64> {
        self.copy(&value.to_ne_bytes()).map(|place| place.cast())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for block in &self.blocks {
            if block.words <= WIPED {
                // SAFETY: the words in use lie in the block, which is initialised and ours alone now that the call is over.
                unsafe { core::slice::from_raw_parts_mut(block.memory.as_ptr(), block.used) }.zeroize();
            }
            if let Ok(layout) = Layout::array::<u64>(block.words) {
                // SAFETY: it was allocated with this layout.
                unsafe { dealloc(block.memory.as_ptr().cast(), layout) };
            }
        }
    }
}
