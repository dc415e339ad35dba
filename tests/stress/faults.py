"""What happens to disks: full, read-only, damaged, written to by others."""

import os
import random
import time

from harness import (MIB, Daemon, LoopDisk, blobs_on_disk,
                     check_running_store, check_store_files, digest_of,
                     hash_file, run)

DISK_BYTES = 64 * MIB


class Victim:
  """A daemon on a small disk of its own, with some blobs."""

  def __init__(self, counts, options, workspace, number):
    self.counts = counts
    self.disk = LoopDisk(workspace, f'faults-{number}', DISK_BYTES,
                         'errors=remount-ro')
    self._files = workspace.make(f'faults-{number}-files')
    self.daemon = Daemon(workspace, options, counts, f'faults-{number}',
                         self.disk.mount_point / 'store',
                         ['--data-path', options.data_path])
    self.daemon.start()
    self.digests = [self.put(random.randrange(1, 300_000)) for _ in range(12)]

  def put(self, size, must=True):
    """The digest; None if it was refused, which must have been said well."""
    data = random.randbytes(size)
    path = self._files / 'put'
    path.write_bytes(data)
    done = self.daemon.casement('put', path, check=False)
    self.counts.add('operations')
    if done.returncode == 0:
      return digest_of(data)
    self.counts.check(not must, f'put failed: {done.stderr}')
    self.counts.check(done.returncode == 1 and len(done.stderr) > 10,
                      f'put says {done.stderr!r}')
    return None

  def read_all(self):
    """G16: readers see nothing of it."""
    for digest in self.digests:
      read, size = hash_file(self.daemon.mount / 'cas' / digest)
      self.counts.check(read == digest, f'{digest} reads as {read} (G16)')
      self.counts.add('bytes checked', size)

  def file_of(self, digest):
    return self.daemon.store / 'cas' / digest[:2] / digest

  def end(self):
    self.daemon.stop()
    check_store_files(self.counts, self.daemon.store)
    self.disk.unmount()


def full_disk(victim):
  """A foreign file takes all the space, and goes again."""
  filler = victim.disk.mount_point / 'foreign'
  with open(filler, 'wb', buffering=0) as file:
    chunk = bytes(MIB)
    while chunk:
      try:
        file.write(chunk)
      except OSError:  # Down to the last block.
        chunk = chunk[:len(chunk) // 2]
  victim.counts.add('faults')
  before = set(victim.digests)
  victim.digests = [digest for digest in victim.digests
                    if victim.file_of(digest).exists()]
  victim.read_all()
  # Room is made for it out of older blobs, or it is refused.
  for _ in range(4):
    digest = victim.put(random.randrange(1, 100_000), must=False)
    if digest:
      victim.digests.append(digest)
  stats = victim.daemon.json('stats')
  victim.counts.check(stats['blobs'] == len(blobs_on_disk(victim.daemon.store)),
                      'blobs known and on disk differ on a full disk')
  filler.unlink()
  victim.digests = [digest for digest in victim.digests
                    if victim.file_of(digest).exists()]
  victim.counts.check(victim.digests, f'all of {before} evicted')
  victim.digests.append(victim.put(200_000))
  victim.read_all()
  check_running_store(victim.counts, victim.daemon)


def read_only(victim):
  """ext4 finds an error and turns read-only; later the disk is mounted so."""
  name = os.path.basename(victim.disk.device())
  trigger = f'/sys/fs/ext4/{name}/trigger_fs_error'
  run('sync', '-f', victim.disk.mount_point)
  with open(trigger, 'w', encoding='ascii') as file:
    file.write('casement stress\n')
  victim.counts.add('faults')
  victim.read_all()
  victim.counts.check(victim.put(10_000, must=False) is None,
                      'put succeeded on a read-only disk')
  victim.read_all()
  victim.daemon.stop()
  victim.disk.unmount()
  run('fsck.ext4', '-fy', victim.disk.image, check=False)
  victim.disk.mount('ro')
  victim.counts.add('faults')
  victim.daemon.start()
  victim.read_all()  # G13
  victim.counts.check(victim.put(10_000, must=False) is None,
                      'put succeeded on read-only media')
  victim.daemon.stop()
  victim.disk.unmount()
  victim.disk.mount()
  victim.daemon.start()
  victim.read_all()
  check_running_store(victim.counts, victim.daemon)


def bit_flips(victim):
  """verify finds exactly what was flipped, and repairs by dropping it."""
  flipped = random.sample(victim.digests, 3)
  for digest in flipped:
    path = victim.file_of(digest)
    with open(path, 'r+b') as file:
      at = random.randrange(path.stat().st_size)
      file.seek(at)
      byte = file.read(1)[0]
      file.seek(at)
      file.write(bytes([byte ^ 1 << random.randrange(8)]))
    victim.counts.add('faults')
  for repair in ((), ('--repair',)):
    found = victim.daemon.verify(*repair)['damaged']
    victim.counts.check(sorted(found) == sorted(flipped),
                        f'verify found {found}, not {flipped}')
  victim.digests = [digest for digest in victim.digests
                    if digest not in flipped]
  for digest in flipped:
    victim.counts.check(not (victim.daemon.mount / 'cas' / digest).exists(),
                        f'{digest} is still served')
  victim.read_all()
  check_running_store(victim.counts, victim.daemon)


def torn(victim):
  """Blobs and the index cut short; strangers in the store."""
  victim.daemon.stop()
  cut = random.sample(victim.digests, 2)
  for digest in cut:
    size = victim.file_of(digest).stat().st_size
    os.truncate(victim.file_of(digest), random.randrange(size))
  index = victim.daemon.store / 'index'
  os.truncate(index, random.randrange(index.stat().st_size))
  victim.counts.add('faults', 3)
  victim.digests = [digest for digest in victim.digests if digest not in cut]
  shard = victim.file_of(victim.digests[0]).parent
  wrong = digest_of(random.randbytes(1000))
  strangers = [shard / 'stranger', shard / (shard.name + wrong[2:]),
               shard / (shard.name + digest_of(b'another')[2:])]
  strangers[0].write_text('not a blob')
  os.symlink('/etc/passwd', strangers[1])
  os.mkfifo(strangers[2])
  victim.counts.add('faults', 3)
  victim.daemon.start()
  victim.read_all()
  for name in (*cut, strangers[1].name, strangers[2].name):
    victim.counts.check(not (victim.daemon.mount / 'cas' / name).exists(),
                        f'{name} is served')
  for path in (*strangers, *map(victim.file_of, cut)):
    path.unlink(missing_ok=True)
  victim.daemon.stop()
  victim.daemon.start()
  victim.read_all()
  check_running_store(victim.counts, victim.daemon)


def section(counts, options, workspace, seconds):
  deadline = time.monotonic() + seconds
  kinds = [full_disk, read_only, bit_flips, torn]
  number = 0
  while number < len(kinds) or time.monotonic() < deadline:
    victim = Victim(counts, options, workspace, number)
    kinds[number % len(kinds)](victim)
    victim.end()
    number += 1
