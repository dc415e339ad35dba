#!/usr/bin/env python3
"""Runs the README's tour, and compares what it prints with what the README says.

  readme_tour.py README CASEMENTD CASEMENT [--update]

The tour is the ```console block below "## A tour": lines that start with "$ " are
commands of one shell, in a temporary folder; what follows is what they print. With
--update the README gets what they print now.
"""

import os
import re
import subprocess
import sys
import tempfile
import time

MARK = '<end of output>'


def blocks(text):
  found = re.search(r'(## A tour.*?```console\n)(.*?)(```)', text, re.S)
  if not found:
    sys.exit('README: no ```console block below "## A tour"')
  return found


def commands(tour):
  return [line[2:] for line in tour.splitlines() if line.startswith('$ ')]


def run(lines, folder, environment):
  """What each command prints, in order, on both outputs."""
  script = ''.join(f'{line}\necho "{MARK}"\n' for line in lines)
  done = subprocess.run(['bash', '--norc'], input=script, text=True, cwd=folder,
                        env=environment, stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT, timeout=120)
  outputs = done.stdout.split(MARK + '\n')
  if len(outputs) != len(lines) + 1:
    sys.exit(f'the tour ended early:\n{done.stdout}')
  return [re.sub(r'^bash: line \d+: ', 'bash: ', output, flags=re.M)
          for output in outputs[:-1]]


def wait_for_end(socket):
  """The daemon removes its socket near its end."""
  deadline = time.monotonic() + 20
  while os.path.exists(socket) or running(os.path.dirname(socket)):
    if time.monotonic() > deadline:
      sys.exit('the daemon does not end')
    time.sleep(0.02)


def running(folder):
  """Whether a process still holds the store's lock."""
  lock = os.path.join(folder, 'store', 'lock')
  if not os.path.exists(lock):
    return False
  return subprocess.run(['flock', '-n', lock, 'true'],
                        check=False).returncode != 0


def main():
  readme, casementd, casement = map(os.path.abspath, sys.argv[1:4])
  with open(readme, encoding='utf-8') as file:
    text = file.read()
  found = blocks(text)
  lines = commands(found[2])
  with tempfile.TemporaryDirectory() as folder:
    path = ':'.join([os.path.dirname(casementd), os.path.dirname(casement),
                     os.environ['PATH']])
    environment = {'PATH': path, 'HOME': folder, 'LC_ALL': 'C'}
    try:
      outputs = run(lines, folder, environment)
    finally:
      # Does something only if the tour did not get to its own end.
      subprocess.run(['umount', '-l', folder + '/mount'], check=False,
                     stderr=subprocess.DEVNULL)
      wait_for_end(folder + '/socket')
  tour = ''.join(f'$ {line}\n{output}' for line, output in zip(lines, outputs))
  tour = tour.replace(folder, '/tmp/tour')
  if tour == found[2]:
    return
  if '--update' in sys.argv:
    with open(readme, 'w', encoding='utf-8') as file:
      file.write(text.replace(found[2], tour))
    return
  sys.exit(f'README says:\n{found[2]}\nbut the tour prints:\n{tour}')


main()
