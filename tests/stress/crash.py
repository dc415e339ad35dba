"""Power loss: the disk's image as it is at many instants, without a sync.

The image is copied until two copies in a row are equal: then nothing was written
between the end of the one and the beginning of the other, and it is what a
machine would have found that lost its power there. Each is mounted (ext4 replays
its journal) and served by a daemon to which this is another boot; whatever it
shows must be what its name says.
"""

import filecmp
import os
import pathlib
import random
import shutil
import threading
import time
import uuid

from harness import MIB, Daemon, LoopDisk, digest_of, hash_file, run

DISK_BYTES = 48 * MIB
COPIES_MAX = 20
# How the disk orders data and names: the last ones show files whose blocks were
# never written.
ORDERS = ('data=ordered', 'data=writeback', 'data=writeback,nodelalloc')


class Load:
  """Puts, evictions, and commits of the journal that somebody else asks for."""

  def __init__(self, counts, daemon, disk, folder):
    self._counts = counts
    self._daemon = daemon
    self._disk = disk
    self._folder = folder
    self._stop = threading.Event()
    self._threads = [threading.Thread(target=self._put),
                     threading.Thread(target=self._commit)]
    for thread in self._threads:
      thread.start()

  def stop(self):
    self._stop.set()
    for thread in self._threads:
      thread.join()

  def _put(self):
    digests = []
    while not self._stop.is_set():
      paths = []
      for number in range(8):
        paths.append(self._folder / f'crash-{number}')
        paths[-1].write_bytes(random.randbytes(random.randrange(1, 200_000)))
        digests.append(digest_of(paths[-1].read_bytes()))
      self._daemon.casement('put', *paths, check=False)
      if len(digests) > 100:
        self._daemon.casement('evict', *digests[:60], check=False)
        self._counts.add('evictions', 60)
        del digests[:60]
      self._counts.add('operations', len(paths))

  def _commit(self):
    """fsync(2) of another file: names of blobs become durable, their bytes not
    yet. Seldom somebody syncs it all."""
    while not self._stop.is_set():
      fd = os.open(self._disk.mount_point / 'other', os.O_CREAT | os.O_WRONLY)
      os.write(fd, os.urandom(8))
      os.fsync(fd)
      os.close(fd)
      if random.random() < 0.05:
        run('sync', '-f', self._disk.mount_point)
      time.sleep(random.uniform(0.02, 0.3))


def snapshot(image, folder):
  """A copy at one instant, or None if there was always something going on."""
  copies = [folder / 'crash-a.img', folder / 'crash-b.img']
  shutil.copyfile(image, copies[0])
  for number in range(1, COPIES_MAX):
    shutil.copyfile(image, copies[number % 2])
    if filecmp.cmp(*copies, shallow=False):
      return copies[number % 2]
  return None


def put_durable(daemon, folder):
  """Blobs that were synced by a clean stop: none may ever be lost."""
  paths = []
  for number in range(30):
    paths.append(folder / f'durable-{number}')
    paths[-1].write_bytes(random.randbytes(random.randrange(1, 100_000)))
  daemon.casement('put', *paths)
  daemon.stop()
  daemon.start()
  return {digest_of(path.read_bytes()) for path in paths}


def check_image(counts, options, workspace, image, number, durable):
  boot_id = workspace.folder / 'boot_id'
  boot_id.write_text(f'{uuid.uuid4()}\n')
  disk = LoopDisk(workspace, 'crashed', 0, image=image)
  daemon = Daemon(workspace, options, counts, f'crashed-{number}',
                  disk.mount_point / 'store',
                  ['--data-path', options.data_path], boot_id=boot_id)
  try:
    daemon.start()
    served = set()
    for name in os.listdir(daemon.root() / 'cas'):
      digest, size = hash_file(daemon.root() / 'cas' / name)
      counts.check(digest == name.removesuffix('.exec'),
                   f'after a power loss {name} reads as {digest} (G9)')
      counts.add('bytes checked', size)
      served.add(digest)
    counts.check(durable <= served, f'lost by a power loss: {durable - served}')
    report = daemon.verify()
    counts.check(not report['damaged'], f'damaged after the start: {report}')
    counts.check(report['unaccounted_bytes'] == 0, f'unaccounted: {report}')
    damaged = daemon.json('stats')['damaged']
    daemon.stop()
  finally:
    daemon.end()
    disk.unmount()
  return len(served), damaged


def section(counts, options, workspace, seconds):
  deadline = time.monotonic() + seconds
  files = workspace.make('crash-files')
  images = served = torn = 0
  for round_number in range(1000):
    disk = LoopDisk(workspace, f'crash-{round_number}', DISK_BYTES,
                    ORDERS[round_number % len(ORDERS)])
    daemon = Daemon(workspace, options, counts, f'crash-{round_number}',
                    disk.mount_point / 'store',
                    ['--data-path', options.data_path, '--max-bytes',
                     24 * MIB])
    daemon.start()
    durable = put_durable(daemon, files)
    load = Load(counts, daemon, disk, files)
    round_end = min(deadline, time.monotonic() + 20)
    try:
      while True:
        time.sleep(random.uniform(0.1, 1.5))
        image = snapshot(pathlib.Path(disk.image), workspace.folder)
        if image is not None:
          images += 1
          counts.add('faults')
          good, bad = check_image(counts, options, workspace, image, images,
                                  durable)
          served += good
          torn += bad
        if time.monotonic() > round_end:
          break
    finally:
      load.stop()
    daemon.stop()
    disk.unmount()
    disk.image.unlink()
    if time.monotonic() > deadline and images > 0:
      break
  counts.notes.append(
      f'Crash images: {images}; blobs served from them {served}, found torn and '
      f'dropped {torn}')
