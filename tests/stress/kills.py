"""SIGKILL of the daemon under load, over and over."""

import contextlib
import os
import random
import subprocess
import threading
import time

from harness import (Daemon, check_running_store, check_store_files, digest_of,
                     is_mounted, program)

# What is there at most before some of it is evicted: so that a full check after
# each kill takes no time.
BLOBS_MAX = 120
SIZE_MAX = 200_000


class Load:
  """Clients that put, evict, run and write until they are told to stop. What
  fails is the daemon's death, as far as they know."""

  def __init__(self, counts, daemon, folder):
    self._counts = counts
    self._daemon = daemon
    self._folder = folder
    self.kept = set()  # Acknowledged, and not asked to be evicted since.
    self.unsure = set()
    self._lock = threading.Lock()
    self._stop = threading.Event()
    self._threads = []

  def start(self):
    self._stop.clear()
    self._threads = [threading.Thread(target=self._loop, args=(act, number))
                     for number, act in enumerate(
                         (self._put, self._put, self._evict, self._use))]
    for thread in self._threads:
      thread.start()

  def stop(self):
    self._stop.set()
    for thread in self._threads:
      thread.join()

  def _loop(self, act, number):
    while not self._stop.is_set():
      with contextlib.suppress(OSError, RuntimeError, IndexError,
                               subprocess.SubprocessError):
        act(number)
        self._counts.add('operations')

  def _put(self, number):
    names = {}
    for i in range(4):
      data = program(random.randrange(100), random.randrange(100, SIZE_MAX),
                     random.random())
      path = self._folder / f'put-{number}-{i}'
      path.write_bytes(data)
      names[digest_of(data)] = path
    self._daemon.casement('put', *names.values())
    with self._lock:
      self.kept.update(names)

  def _evict(self, _):
    time.sleep(0.05)
    with self._lock:
      count = max(1, len(self.kept) - BLOBS_MAX)
      chosen = random.sample(sorted(self.kept), min(count, len(self.kept)))
      self.kept.difference_update(chosen)
      self.unsure.update(chosen)
    if chosen:
      self._daemon.casement('evict', *chosen)
      self._counts.add('evictions', len(chosen))

  def _use(self, _):
    daemon = self._daemon
    if random.random() < 0.5:
      with self._lock:
        digest = random.choice(sorted(self.kept))
      # -1: it is a program, which may say anything; the mount may be dead.
      subprocess.run([f'{daemon.mount}/cas/{digest}.exec'], check=False,
                     stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
      return
    path = daemon.casement('sandbox', 'create').stdout.strip()
    with open(os.path.join(path, 'output'), 'wb') as file:
      for _ in range(20):
        file.write(random.randbytes(random.randrange(20_000)))
    name = os.path.basename(path)
    daemon.casement('sandbox', 'collect', name, 'output')
    if random.random() < 0.7:
      daemon.casement('sandbox', 'release', name)


def section(counts, options, workspace, seconds):
  daemon = Daemon(workspace, options, counts, 'kills',
                  workspace.make('kills-store'),
                  ['--data-path', options.data_path])
  load = Load(counts, daemon, workspace.make('kills-files'))
  deadline = time.monotonic() + seconds
  daemon.start()
  while True:
    load.start()
    time.sleep(random.uniform(0.02, 0.6))
    daemon.kill()
    load.stop()
    counts.add('kills')
    there = set(check_store_files(counts, daemon.store))
    counts.check(load.kept <= there,
                 f'lost by a kill: {load.kept - there} (G9, G23)')
    daemon.start()
    counts.check(is_mounted(daemon.mount) == 1,
                 f'{is_mounted(daemon.mount)} mounts after a kill (G23)')
    counts.check(not daemon.json('sandbox', 'list'), 'a sandbox survived')
    check_running_store(counts, daemon)
    # Collected outputs are nobody's; they would only grow.
    surplus = sorted(there - load.kept)
    if len(surplus) > BLOBS_MAX:
      daemon.casement('evict', *surplus)
    daemon.check_log()
    if time.monotonic() > deadline:
      break
  daemon.stop()
