#!/usr/bin/env python3
"""A benchmark that is killed leaves nothing for long.

  killed_test.py BENCHMARK

Kills it while its daemon serves, and expects the daemon to end by itself and to
take its mount along; and the files to be gone once another has run.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

# For a busy machine.
TIMEOUT_SECONDS = 60


def wait_until(what, is_true):
  deadline = time.monotonic() + TIMEOUT_SECONDS
  while not is_true():
    if time.monotonic() > deadline:
      sys.exit(f'{what}: not after {TIMEOUT_SECONDS} s')
    time.sleep(0.01)


def mounted_below(folder):
  return f' {folder}/' in pathlib.Path('/proc/self/mountinfo').read_text()


def daemons_below(folder):
  """Processes that were told to use it."""
  found = []
  for process in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      words = (process / 'cmdline').read_bytes()
    except OSError:
      continue
    if b'casementd\0' in words and f'{folder}/'.encode() in words:
      found.append(process.name)
  return found


def main():
  benchmark = os.path.abspath(sys.argv[1])
  with tempfile.TemporaryDirectory() as folder:
    environment = dict(os.environ, TMPDIR=folder)
    killed = subprocess.Popen([benchmark, '--quick'], env=environment,
                              stdout=subprocess.DEVNULL)
    wait_until('a mount', lambda: mounted_below(folder))
    if not daemons_below(folder):
      sys.exit('this test would not see the daemon')
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_until('the end of the daemon', lambda: not daemons_below(folder))
    wait_until('the end of its mount', lambda: not mounted_below(folder))
    left = os.listdir(folder)
    if len(left) != 1:
      sys.exit(f'it was killed too late to leave files: {left}')
    subprocess.run([benchmark, '--quick'], env=environment, check=True,
                   stdout=subprocess.DEVNULL)
    left = os.listdir(folder)
    if left:
      sys.exit(f'the next one left {left}')


main()
