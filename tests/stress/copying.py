"""The control: a store that keeps a second, executable copy of what is run.

As the peers do it (Buildbarn's and NativeLink's file caches among them): a file
a blob, mode 0444; `<digest>.exec`, 0555, is copied from it when it is first
run; the size limit counts blobs; the evicted blob's copy is removed by a
callback. Between looking a blob up and making its copy known the blob can go.
"""

import collections
import contextlib
import os
import pathlib
import queue
import shutil
import threading


class CopyingStore:

  def __init__(self, folder, max_bytes):
    self.folder = pathlib.Path(folder)
    self._max_bytes = max_bytes
    self._sizes = collections.OrderedDict()  # Least recently used first.
    self._total = 0
    self._lock = threading.Lock()
    self._evicted = queue.Queue()
    self._callback = threading.Thread(target=self._remove_copies)
    self._callback.start()
    self.evictions = 0
    self.copied_bytes = 0

  def close(self):
    self._evicted.put(None)
    self._callback.join()

  def put(self, digest, data):
    temporary = self.folder / f'{digest}.{threading.get_ident()}'
    temporary.write_bytes(data)
    temporary.chmod(0o444)
    temporary.rename(self.folder / digest)
    with self._lock:
      if digest not in self._sizes:
        self._total += len(data)
      self._sizes[digest] = len(data)
    self._shrink()

  def evict(self, digest):
    with self._lock:
      if digest in self._sizes:
        self._drop_locked(digest)

  def executable(self, digest):
    """The path to run; FileNotFoundError if the blob is not there."""
    copy = self.folder / f'{digest}.exec'
    if copy.exists():
      return copy
    with self._lock:
      if digest not in self._sizes:
        raise FileNotFoundError(digest)
      self._sizes.move_to_end(digest)
    temporary = self.folder / f'{digest}.exec.{threading.get_ident()}'
    shutil.copyfile(self.folder / digest, temporary)
    temporary.chmod(0o555)
    temporary.rename(copy)  # The published race: the blob may be gone by now.
    self.copied_bytes += copy.stat().st_size
    return copy

  def _shrink(self):
    with self._lock:
      while self._total > self._max_bytes and self._sizes:
        self._drop_locked(next(iter(self._sizes)))

  def _drop_locked(self, digest):
    self._total -= self._sizes.pop(digest)
    self.evictions += 1
    with contextlib.suppress(FileNotFoundError):
      os.unlink(self.folder / digest)
    self._evicted.put(digest)

  def _remove_copies(self):
    while (digest := self._evicted.get()) is not None:
      with contextlib.suppress(FileNotFoundError):
        os.unlink(self.folder / f'{digest}.exec')

  def leaked(self):
    """Copies whose blob is gone: (how many, bytes)."""
    with self._lock:
      leaks = [path for path in self.folder.iterdir()
               if '.exec' in path.name and
               path.name.split('.')[0] not in self._sizes]
    return len(leaks), sum(path.stat().st_blocks * 512 for path in leaks)
