"""Far more blobs than fit, half of them run while they are evicted, with files
held open; and the same through a store that copies its executables.

Both stores have a file system of their own, so that what they allocate is seen
from outside: with or without a name, to the byte.
"""

import collections
import contextlib
import errno
import mmap
import os
import random
import subprocess
import threading
import time

from copying import CopyingStore
from harness import (MIB, Daemon, LoopDisk, allocated_below, blobs_on_disk,
                     digest_of, hash_file, program)

SIZES = (4096, 2 * MIB)
# Of what is put at once: a client's uploads in progress are accounted too.
BATCH = 4
HELD_MAX = 12


class CasementTarget:
  """casement, as the workload sees it."""
  name = 'casement'

  def __init__(self, workspace, options, counts, disk):
    self.daemon = Daemon(workspace, options, counts, 'pressure',
                         disk.mount_point / 'store',
                         ['--data-path', options.data_path, '--max-bytes',
                          options.max_bytes])
    self.daemon.start()
    self._files = workspace.make('pressure-files')

  def put(self, batch, worker):
    paths = []
    for number, data in enumerate(batch.values()):
      paths.append(self._files / f'{worker}-{number}')
      paths[-1].write_bytes(data)
    done = self.daemon.casement('put', *paths, check=False)
    # Full of what is held open and run: writers may be told so (G16).
    full = done.returncode != 0 and 'store is full' in done.stderr
    if done.returncode != 0 and not full:
      raise RuntimeError(f'put: {done.stderr}')
    return not full

  def executable(self, digest):
    return self.daemon.mount / 'cas' / f'{digest}.exec'

  def plain(self, digest):
    return self.daemon.mount / 'cas' / digest

  def evict(self, digests):
    self.daemon.casement('evict', *digests, check=False)


class CopyingTarget:
  """The control, as the workload sees it."""
  name = 'copying'

  def __init__(self, options, disk):
    folder = disk.mount_point / 'store'
    folder.mkdir()
    self.store = CopyingStore(folder, options.max_bytes)

  def put(self, batch, _):
    for digest, data in batch.items():
      self.store.put(digest, data)
    return True

  def executable(self, digest):
    return self.store.executable(digest)

  def plain(self, digest):
    return self.store.folder / digest

  def evict(self, digests):
    for digest in digests:
      self.store.evict(digest)


class Workload:
  """Pushers, runners, holders, evictors, and somebody who looks on."""

  def __init__(self, counts, target, disk, deadline, push_bytes):
    self._counts = counts
    self._target = target
    self._disk = disk
    self._deadline = deadline
    self._push_bytes = push_bytes
    self.pushed_bytes = 0
    self.runs = 0
    self.max_used = 0
    self.samples = 0
    self._recent = collections.deque(maxlen=64)  # (digest, exit status)
    self._done = threading.Event()
    self._lock = threading.Lock()

  def run(self):
    jobs = (self._push, self._push, self._run, self._run, self._hold,
            self._evict)
    threads = [threading.Thread(target=self._loop, args=(job, number))
               for number, job in enumerate(jobs)]
    threads.append(threading.Thread(target=self._watch))
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()

  def _loop(self, job, number):
    while not self._done.is_set():
      if time.monotonic() > self._deadline or (
          self._push_bytes and self.pushed_bytes >= self._push_bytes):
        self._done.set()
      try:
        job(number)
      except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        self._counts.violation(f'{self._target.name}: {job.__name__}: {error}')

  def _watch(self):
    while not self._done.is_set():
      self.max_used = max(self.max_used,
                          self._disk.used() - self._disk.baseline)
      self.samples += 1
      time.sleep(0.002)

  def _push(self, worker):
    batch = {}
    status = {}
    for _ in range(BATCH):
      code = random.randrange(200)
      data = program(code, random.randrange(*SIZES), random.random())
      batch[digest_of(data)] = data
      status[digest_of(data)] = code
    if not self._target.put(batch, worker):
      time.sleep(0.05)
      return
    with self._lock:
      self._recent.extend(status.items())
      self.pushed_bytes += sum(map(len, batch.values()))
    self._counts.add('operations', len(batch))

  def _pick(self):
    with self._lock:
      return random.choice(self._recent) if self._recent else None

  def _run(self, _):
    picked = self._pick()
    if picked is None:
      time.sleep(0.01)
      return
    digest, code = picked
    # Gone is an answer; ETXTBSY, EIO or another program's status are not.
    with contextlib.suppress(FileNotFoundError):
      done = subprocess.run([self._target.executable(digest)], check=False,
                            stdin=subprocess.DEVNULL)
      self._counts.check(done.returncode == code,
                         f'{digest}.exec ended with {done.returncode}, not '
                         f'{code} (G4, G7)')
      self.runs += 1
    self._counts.add('operations')

  def _hold(self, _):
    """Opens some, lets them be evicted, and reads what was opened."""
    held = []
    for _ in range(HELD_MAX):
      picked = self._pick()
      if picked is None:
        break
      with contextlib.suppress(FileNotFoundError):
        path = (self._target.plain(picked[0]) if random.random() < 0.5 else
                self._target.executable(picked[0]))
        held.append((picked[0], os.open(path, os.O_RDONLY)))
    if held:
      self._target.evict([digest for digest, _ in held[::2]])
    time.sleep(random.uniform(0, 0.2))
    for digest, fd in held:
      with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as data:
        self._counts.check(digest_of(data) == digest,
                           f'a mapping of {digest} reads as another (G4)')
        self._counts.add('bytes checked', len(data))
      os.close(fd)

  def _evict(self, _):
    time.sleep(0.05)
    picked = self._pick()
    if picked is not None:
      self._target.evict([picked[0]])


def settle(counts, daemon, disk):
  """After the last close: nothing of what was evicted is left (G2), and all
  sums agree (G1)."""
  deadline = time.monotonic() + 30
  while True:  # The kernel gives files back a moment after they are closed.
    owners = daemon.json('stats')['accounted_by_owner']
    left = sum(owners[owner] for owner in ('zombies', 'uploads', 'scratch'))
    if left == 0 or time.monotonic() > deadline:
      break
    time.sleep(0.05)
  counts.check(left == 0, f'after the last close: {owners} (G2)')
  counts.check(daemon.verify()['unaccounted_bytes'] == 0, 'unaccounted')
  daemon.stop()  # What is written back is accounted as it is.
  daemon.start()
  stats = daemon.json('stats')
  accounted = stats['accounted_bytes']
  walked = allocated_below(daemon.store)
  used = disk.used() - disk.baseline
  blobs = sum(path.lstat().st_blocks * 512
              for path in blobs_on_disk(daemon.store))
  shown = {entry.name for entry in os.scandir(daemon.mount / 'cas')
           if not entry.name.endswith('.exec')}
  counts.check(accounted == walked == used,
               f'accounted {accounted}, du {walked}, allocated {used} (G1)')
  counts.check(stats['accounted_by_owner']['blobs'] == blobs,
               f'blobs {stats["accounted_by_owner"]}, on disk {blobs} (G1)')
  names = {path.name for path in blobs_on_disk(daemon.store)}
  counts.check(names == shown, f'orphans: {names ^ shown} (G2)')
  for name in sorted(names):
    digest, size = hash_file(daemon.store / 'cas' / name[:2] / name)
    counts.check(digest == name, f'{name} holds {digest} (G9)')
    counts.add('bytes checked', size)
  return accounted


def describe(target, load, options, rest):
  over = load.max_used - options.max_bytes
  return (f'{target:10} {load.pushed_bytes / MIB:8.0f} {load.runs:7} '
          f'{load.samples:8} {options.max_bytes / MIB:7.0f} '
          f'{load.max_used / MIB:9.1f} {over / MIB:+9.1f}  {rest}')


def section(counts, options, workspace, seconds):
  size = 3 * options.max_bytes + 64 * MIB
  deadline = time.monotonic() + seconds * 2 / 3
  disk = LoopDisk(workspace, 'pressure', size)
  target = CasementTarget(workspace, options, counts, disk)
  load = Workload(counts, target, disk, deadline, options.push_bytes)
  load.run()
  stats = target.daemon.json('stats')
  counts.add('evictions', stats['evictions'])
  counts.check(load.max_used <= options.max_bytes + SIZES[1],
               f'{load.max_used} bytes allocated of {options.max_bytes} (G3)')
  accounted = settle(counts, target.daemon, disk)
  target.daemon.stop()
  disk.unmount()
  counts.notes += [
      'The same workload, MiB, allocated as sampled from outside:',
      f'{"store":10} {"pushed":>8} {"runs":>7} {"samples":>8} {"limit":>7} '
      f'{"allocated":>9} {"over":>9}  left at the end',
      describe('casement', load, options,
               f'0 leaks; accounted = du = allocated = {accounted} bytes')]
  control(counts, options, workspace, seconds / 3, load.pushed_bytes)


def control(counts, options, workspace, seconds, push_bytes):
  """Its violations are what it is for, so they are counted apart."""
  apart = type(counts)('copying')
  apart.violation = lambda text: None
  size = 3 * options.max_bytes + 64 * MIB
  disk = LoopDisk(workspace, 'copying', size)
  target = CopyingTarget(options, disk)
  load = Workload(apart, target, disk, time.monotonic() + seconds, push_bytes)
  try:
    load.run()
  finally:
    target.store.close()
  leaks, leaked_bytes = target.store.leaked()
  counts.notes.append(describe(
      'copying', load, options,
      f'{leaks} leaked copies, {leaked_bytes} bytes; '
      f'{target.store.copied_bytes / MIB:.0f} MiB copied'))
  disk.unmount()
