//! What is behind a queue descriptor: `current->files->fdt->fd[n]`, as far as it is an mqueue.

use crate::kernel::{Helper, Kernel, offsets};
use ipc_schema::wire::Queue;

/// MQUEUE_MAGIC of `include/uapi/linux/magic.h`.
const MQUEUE_MAGIC: u64 = 0x1980_0202;

/// Fills in what the descriptor leads to; an inode of 0 says that it is no queue.
///
/// # Safety
/// `to` is a record's tail.
#[inline(always)]
pub unsafe fn describe(to: *mut Queue, task: *const u8, descriptor: i64) {
    let inode = inode_of(task, descriptor);
    // SAFETY: the caller's promise; the offsets are those of the structures that their names say.
    unsafe {
        if inode.is_null() {
            (&raw mut (*to).inode).write(0);
            return;
        }
        let o = offsets();
        let info = inode.sub(o.mqueue_inode as usize);
        (&raw mut (*to).inode).write(Helper::read(inode, o.inode_ino));
        (&raw mut (*to).messages).write(Helper::read(info, o.mqueue_messages));
        (&raw mut (*to).bytes).write(Helper::read(info, o.mqueue_bytes));
        (&raw mut (*to).max_messages).write(Helper::read(info, o.mqueue_max_messages));
        (&raw mut (*to).max_message_bytes).write(Helper::read(info, o.mqueue_max_message_bytes));
        let sb: *const u8 = Helper::read(inode, o.inode_sb);
        let ipc_ns: *const u8 = Helper::read(sb, o.sb_fs_info);
        (&raw mut (*to).ipc_ns).write(Helper::read(ipc_ns, o.ipc_ns_inum));
        (&raw mut (*to).padding).write(0);
    }
}

/// The inode of a queue, NULL for any other descriptor.
#[inline(always)]
fn inode_of(task: *const u8, descriptor: i64) -> *const u8 {
    let none = core::ptr::null();
    let o = offsets();
    let descriptor = i64::from(descriptor as i32);
    if o.mqueue_inode == 0 || descriptor < 0 {
        return none;
    }
    // SAFETY: the offsets are those of the structures that their names say; the helper reads zero on a fault.
    unsafe {
        let files: *const u8 = Helper::read(task, o.task_files);
        let fdt: *const u8 = Helper::read(files, o.files_fdt);
        if descriptor >= i64::from(Helper::read::<u32>(fdt, o.fdt_max_fds)) {
            return none;
        }
        let fds: *const u8 = Helper::read(fdt, o.fdt_fd);
        let file: *const u8 = Helper::read(fds.add(descriptor as usize * 8), 0);
        if file.is_null() {
            return none;
        }
        let inode: *const u8 = Helper::read(file, o.file_inode);
        let sb: *const u8 = Helper::read(inode, o.inode_sb);
        if Helper::read::<u64>(sb, o.sb_magic) == MQUEUE_MAGIC { inode } else { none }
    }
}
