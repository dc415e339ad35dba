"""The models, with seeds that nobody has tried: sandboxes against ext4, and the
store's races."""

import random
import re
import subprocess

from harness import COMMAND_SECONDS

# What all schedules with two preemptions take, about.
EXHAUSTIVE_SECONDS = 1200


def _play(counts, options, test, arguments, seconds):
  seed = random.randrange(1, 1 << 30)
  command = [f'{options.build}/tests/model/{test}', '--gtest_brief=1',
             f'--first-seed={seed}', *arguments]
  done = subprocess.run(command, text=True, stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                        timeout=10 * seconds + COMMAND_SECONDS, check=False)
  for count in re.findall(r', (\d+) (?:calls|steps)\n', done.stdout):
    counts.add('operations', int(count))
  if done.returncode != 0:
    print(done.stdout, flush=True)
    counts.violation(f'{test}, seed {seed}: see above')


def posix(counts, options, workspace, seconds):
  """G5, G18: random system calls in a sandbox and in a plain folder."""
  del workspace
  for user in ('root', 'user'):
    _play(counts, options, 'model_posix_test',
          [f'--gtest_filter=*Random*/{options.data_path}_{user}',
           '--calls=5000', f'--seconds={max(1, seconds // 2)}'], seconds)


def races(counts, options, workspace, seconds):
  """G2, G3, G4: random schedules of the store and the vfs; given the time, all
  of the small cases' with two preemptions as well."""
  del workspace
  if seconds >= EXHAUSTIVE_SECONDS:
    seconds //= 2
    _play(counts, options, 'model_race_test',
          ['--gtest_filter=-RandomRaces.*', '--preemptions=2'], seconds)
  _play(counts, options, 'model_race_test',
        ['--gtest_filter=RandomRaces.OfEverything*',
         f'--seconds={max(1, seconds)}'], seconds)
