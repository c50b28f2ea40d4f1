"""Put a new file in the place of an old one, all or nothing, whatever interrupts it.

Write to another name in the same folder, flush to the disk, rename, flush the folder. Without the
first flush some file systems rename a file whose content is not there yet (Pillai et al., "All file
systems are not created equal", OSDI 2014); without the second the rename itself may be lost.
"""

import errno
import os
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows: an open file cannot be deleted there, which serves as the lock
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.gru_np-\d+-[0-9a-f]{16}\.tmp")
_BINARY: int = getattr(os, "O_BINARY", 0)
_CHUNK = 2**24  # bytes in one write


def replace_file(path: str, blocks: Iterable[memoryview]) -> None:
    """Make `path` a file that consists of the blocks of bytes, or leave it as it is.

    A symbolic link is followed: the file it points to is replaced. Permissions of an existing file
    are kept, and its owner, group and extended attributes as far as the system lets this user set
    them. Leftovers of writers that were killed, for whatever path in this folder, are removed.

    Raises
    ------
    ValueError
        `path` exists and is not a regular file.
    OSError
        With `errno`, `path` and a sentence that says whether the old file is still in place.
    """
    temporary, file, folder_file = "", -1, -1
    what_is_there = "what was there before is unchanged"
    renamed: tuple[int, int] | None = None  # device and number of the new file, once it may be
    try:
        target, folder, old = find_place(path)
        if hasattr(os, "O_DIRECTORY"):  # opened first: an error now is better than one after
            folder_file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        _sweep(folder)
        while file < 0:
            temporary = os.path.join(folder, f".gru_np-{os.getpid()}-{os.urandom(8).hex()}.tmp")
            # A new file is born with the mode it will keep, 0666 less the umask; one that takes
            # the place of another is closed to all but its owner until it is complete.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY
            file = os.open(temporary, flags, 0o666 if old is None else 0o600)
            if not _lock(file):  # another process swept it before the lock was ours
                file = _close(file)
        for block in blocks:
            while block:
                block = block[os.write(file, block[:_CHUNK]) :]
        if old is not None:
            _take_after(old, target, temporary, os.fstat(file))
        os.fsync(file)
        renamed = _identity(os.fstat(file))
        if fcntl is None:
            file = _close(file)  # Windows does not rename an open file
        os.replace(temporary, target)
        _flush_folder(folder_file)
    except BaseException as error:
        if renamed is not None:
            what_is_there = _look(target, renamed)
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            reason = f"cannot be saved: {error.strerror or error}; {what_is_there}"
            raise OSError(error.errno, reason, path) from error
        raise
    finally:
        _close(file)
        _close(folder_file)


def find_place(path: str) -> tuple[str, str, os.stat_result | None]:
    """Give the file to make or replace, its folder and what is there now, or raise.

    Whatever can be known before there is anything to write is found out here.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if path.endswith(tuple(filter(None, (os.sep, os.altsep)))):
        raise IsADirectoryError(errno.EISDIR, "the path is that of a folder")
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}")
    old = _status_to_keep(target)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"the folder {folder} is write-protected")
    return target, folder, old


def kind(status: os.stat_result) -> str:
    """Say what a file is."""
    kinds = {
        stat.S_IFREG: "a regular file", stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }  # fmt: skip
    return kinds.get(stat.S_IFMT(status.st_mode), "something else")


def _close(file: int) -> int:
    """Close a descriptor, if it is one, and return -1; what matters was flushed before."""
    if file >= 0:
        with suppress(OSError):
            os.close(file)
    return -1


def _flush_folder(folder_file: int) -> None:
    """Make the rename outlast a power failure, on file systems that can."""
    if folder_file < 0:
        return
    try:
        os.fsync(folder_file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # folders cannot be flushed there
            raise


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _look(target: str, new: tuple[int, int]) -> str:
    """Say which file is there after a rename or what followed it failed.

    A rename may have been done and reported as failed: by a network file system whose answer was
    lost, or a disk that failed as the change was written.
    """
    try:
        there = _identity(os.stat(target))
    except FileNotFoundError:
        return "no file is there"
    except OSError:
        return "it is not known whether the old or the new file is in place"
    if there == new:
        return "the new file is in place, but might not outlast a power failure"
    return "what was there before is unchanged"


def _take_after(old: os.stat_result, target: str, temporary: str, new: os.stat_result) -> None:
    """Give the new file the owner, permissions and extended attributes of the old one.

    Only the permissions can always be set; the rest is for the owner's sake if root saves.
    """
    if hasattr(os, "chown") and (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        try:
            os.chown(temporary, old.st_uid, old.st_gid)
        except OSError:
            with suppress(OSError):
                os.chown(temporary, -1, old.st_gid)
    mode = old.st_mode & 0o777
    if mode != stat.S_IMODE(new.st_mode):
        os.chmod(temporary, mode)
    if hasattr(os, "listxattr"):
        with suppress(OSError):  # a file system without them
            for name in os.listxattr(target):
                with suppress(OSError):  # one that belongs to the system
                    os.setxattr(temporary, name, os.getxattr(target, name))


def _status_to_keep(target: str) -> os.stat_result | None:
    """Return the status of the file to be replaced, None if there is none."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"expected a regular file to replace, found {kind(status)}")
    if not os.access(target, os.W_OK):  # a rename would not ask
        raise PermissionError(errno.EACCES, "the file is write-protected")
    return status


def _lock(file: int) -> bool:
    """Mark a temporary file as in use; the system drops the lock when its writer dies.

    False if another process has removed the file, or is about to.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: `_sweep` goes by age there
    return os.fstat(file).st_nlink > 0


def _sweep(folder: str) -> None:
    """Remove temporary files whose writers are dead.

    The writer's lock tells, not its process number: numbers are reused, and mean nothing in
    another container or on another machine that shares the folder.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):  # another user's, or gone meanwhile
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    """Remove a temporary file unless its writer holds the lock."""
    if fcntl is None:
        os.unlink(path)  # refused by Windows while its writer has it open
        return
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except BlockingIOError:
        pass
    except OSError:
        if time.time() - os.fstat(file).st_mtime > 3600:  # seconds
            os.unlink(path)
    finally:
        os.close(file)
