//! Large aligned memory that is asked for, not assumed.
//!
//! An [`AlignedBuffer`] is an anonymous mapping of its own: zeroed, touched only when used, given back to the system on drop,
//! and an error instead of an abort when the system has no more. It takes no more resident memory than its length rounded up
//! to 64 KiB, so that a memory budget can be summed beforehand.

use std::num::NonZero;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::Element;

/// Size and alignment of a transparent huge page.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The least alignment of any buffer: one small page.
const ALIGN_BYTES_MIN: usize = 4096;

/// Mappings are a multiple of this, which is the largest page size of the systems we build for. A constant, because rustix's
/// `page_size` reads addresses that valgrind hides. What it adds to smaller pages is never touched.
const MAP_STEP_BYTES: usize = 64 << 10;

/// The system refused a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("out of memory: a buffer of `{bytes}` bytes could not be mapped")]
pub struct OutOfMemory {
    /// The length that was asked for, in bytes.
    pub bytes: usize,
}

/// An owned, zeroed byte buffer, aligned to 2 MiB from 2 MiB on and to 4096 bytes below.
pub struct AlignedBuffer {
    start: NonNull<u8>,
    bytes: usize,
    /// Mapped length: `bytes` rounded up to [`MAP_STEP_BYTES`]; 0 where nothing is mapped.
    mapped_bytes: usize,
}

// SAFETY: the buffer owns its mapping, and gives out references only through `&self` and `&mut self`.
unsafe impl Send for AlignedBuffer {}
// SAFETY: there is no interior mutability: shared references only read.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// Maps `bytes` zeroed bytes; a length of 0 maps nothing.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the system refuses the mapping, or `bytes` exceeds the address space.
    pub fn new(bytes: usize) -> Result<AlignedBuffer, OutOfMemory> {
        if bytes == 0 {
            return Ok(AlignedBuffer {
                start: dangling(),
                bytes,
                mapped_bytes: 0,
            });
        }
        let refused = OutOfMemory { bytes };
        let mapped_bytes = bytes.checked_next_multiple_of(MAP_STEP_BYTES).ok_or(refused)?;
        if isize::try_from(mapped_bytes).is_err() {
            return Err(refused);
        }
        let start = if bytes < HUGE_PAGE_BYTES {
            map(mapped_bytes).ok_or(refused)?
        } else {
            let start = map_huge_aligned(mapped_bytes).ok_or(refused)?;
            advise_huge(start, mapped_bytes);
            start
        };
        debug_assert_eq!(start.addr().get() % ALIGN_BYTES_MIN, 0);
        Ok(AlignedBuffer {
            start,
            bytes,
            mapped_bytes,
        })
    }

    /// The buffer as elements; bytes that do not fill a whole element at the end are left out.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        let whole = self.bytes - self.bytes % size_of::<T>();
        bytemuck::cast_slice(&self[..whole])
    }

    /// The buffer as writable elements; bytes that do not fill a whole element at the end are left out.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        let whole = self.bytes - self.bytes % size_of::<T>();
        bytemuck::cast_slice_mut(&mut self[..whole])
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        debug_assert!(self.bytes <= self.mapped_bytes);
        // SAFETY: `start` begins a live mapping of at least `bytes` initialised (zeroed) bytes that this buffer owns, or it is
        // a non-null address with `bytes == 0`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        debug_assert!(self.bytes <= self.mapped_bytes);
        // SAFETY: as in `deref`; `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        unmap(self.start, self.mapped_bytes);
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlignedBuffer")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// An aligned address that is never read: the start of an empty buffer.
fn dangling() -> NonNull<u8> {
    NonNull::without_provenance(NonZero::new(ALIGN_BYTES_MIN).expect("the alignment is not zero"))
}

fn map(bytes: usize) -> Option<NonNull<u8>> {
    debug_assert!(bytes > 0);
    // SAFETY: a new private anonymous mapping at an address of the system's choice overlaps no memory in use.
    let start = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    NonNull::new(start.ok()?.cast())
}

/// Maps one huge page more than needed and gives the misaligned ends back, so that no huge page can reach past the buffer.
fn map_huge_aligned(bytes: usize) -> Option<NonNull<u8>> {
    let padded_bytes = bytes.checked_add(HUGE_PAGE_BYTES)?;
    let base = map(padded_bytes)?;
    let head_bytes = base.addr().get().next_multiple_of(HUGE_PAGE_BYTES) - base.addr().get();
    debug_assert!(head_bytes + bytes <= padded_bytes);
    // SAFETY: both offsets lie within the mapping of `padded_bytes` made above.
    let (start, end) = unsafe { (base.add(head_bytes), base.add(head_bytes + bytes)) };
    unmap(base, head_bytes);
    unmap(end, padded_bytes - head_bytes - bytes);
    Some(start)
}

/// Gives whole pages back. A refusal (the system's limit on mappings) only costs untouched address space, so it is not reported.
fn unmap(start: NonNull<u8>, bytes: usize) {
    if bytes == 0 {
        return;
    }
    debug_assert_eq!(start.addr().get() % ALIGN_BYTES_MIN, 0);
    debug_assert_eq!(bytes % ALIGN_BYTES_MIN, 0);
    // SAFETY: callers pass a page-aligned part of a mapping made by `map` that they own and do not use afterwards.
    let _ = unsafe { munmap(start.as_ptr().cast(), bytes) };
}

/// Asks for huge pages; a kernel without them serves small ones.
#[cfg(target_os = "linux")]
fn advise_huge(start: NonNull<u8>, bytes: usize) {
    debug_assert_eq!(start.addr().get() % HUGE_PAGE_BYTES, 0);
    // SAFETY: the range is one mapping of ours, and this advice does not change its contents.
    let _ = unsafe { rustix::mm::madvise(start.as_ptr().cast(), bytes, rustix::mm::Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_start: NonNull<u8>, _bytes: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeroed_aligned_and_writable_to_the_last_byte() {
        for bytes in [
            1,
            63,
            64,
            4095,
            4096,
            4097,
            HUGE_PAGE_BYTES - 1,
            HUGE_PAGE_BYTES,
            3 * HUGE_PAGE_BYTES + 5,
        ] {
            let mut buffer = AlignedBuffer::new(bytes).unwrap();
            let align = if bytes < HUGE_PAGE_BYTES {
                ALIGN_BYTES_MIN
            } else {
                HUGE_PAGE_BYTES
            };
            assert_eq!(buffer.as_ptr().addr() % align, 0, "{bytes} bytes");
            assert_eq!(buffer.len(), bytes);
            assert_eq!((buffer[0], buffer[bytes / 2], buffer[bytes - 1]), (0, 0, 0));
            buffer[bytes - 1] = 7;
            buffer[0] = 9;
            assert_eq!(buffer.iter().filter(|&&byte| byte != 0).count(), bytes.min(2));
        }
    }

    #[test]
    fn an_empty_buffer_is_fine() {
        let mut buffer = AlignedBuffer::new(0).unwrap();
        assert!(buffer.is_empty());
        assert!(buffer.as_slice::<f64>().is_empty());
        assert!(buffer.as_mut_slice::<f32>().is_empty());
    }

    #[test]
    fn elements_cover_the_whole_multiples() {
        let mut buffer = AlignedBuffer::new(8 * 5 + 7).unwrap();
        buffer
            .as_mut_slice::<f64>()
            .copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(buffer.as_slice::<f64>()[4], 5.0);
        assert_eq!(buffer.as_slice::<f32>().len(), 11);
    }

    #[test]
    fn too_much_is_an_error_with_the_length() {
        for bytes in [usize::MAX, isize::MAX as usize, 1 << 60] {
            assert_eq!(AlignedBuffer::new(bytes).unwrap_err(), OutOfMemory { bytes });
        }
    }

    #[test]
    fn buffers_cross_threads() {
        fn is_send_and_sync<T: Send + Sync>() {}
        is_send_and_sync::<AlignedBuffer>();
    }
}
