"""The models, with seeds that nobody has tried: sandboxes against ext4, and the
store's races."""

import os
import random
import re
import subprocess

from harness import COMMAND_SECONDS, check_words, sanitizer_environment

# What all schedules with two preemptions take, about.
EXHAUSTIVE_SECONDS = 1200


def _play(counts, program, arguments, seconds, environment=None):
  seed = random.randrange(1, 1 << 30)
  command = [program, '--gtest_brief=1', f'--first-seed={seed}', *arguments]
  done = subprocess.run(command, text=True, stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                        timeout=10 * seconds + COMMAND_SECONDS, check=False,
                        env=environment)
  for count in re.findall(r', (\d+) (?:calls|steps)\n', done.stdout):
    counts.add('operations', int(count))
  if done.returncode != 0:
    print(done.stdout, flush=True)
    counts.violation(f'{program.name}, seed {seed}: see above')


def posix(counts, options, workspace, seconds):
  """G5, G18: random system calls in a sandbox and in a plain folder."""
  reports = workspace.folder / 'report'
  environment = dict(os.environ, CASEMENT_TEST_DAEMON=str(
      options.build / 'src/daemon/casementd'))
  for name in sanitizer_environment():
    environment[name] += f':log_path={reports}'
  for user in ('root', 'user'):
    _play(counts, options.tools / 'tests/model/model_posix_test',
          [f'--gtest_filter=*Random*/{options.data_path}_{user}',
           '--calls=5000', f'--seconds={max(1, seconds // 2)}'], seconds,
          environment)
  for report in workspace.folder.glob('report.*'):
    check_words(counts, report.read_text(errors='replace'))


def races(counts, options, workspace, seconds):
  """G2, G3, G4: random schedules of the store and the vfs; given the time, all
  of the small cases' with two preemptions as well."""
  del workspace
  program = options.build / 'tests/model/model_race_test'
  if seconds >= EXHAUSTIVE_SECONDS:
    seconds //= 2
    _play(counts, program,
          ['--gtest_filter=-RandomRaces.*', '--preemptions=2'], seconds)
  _play(counts, program,
        ['--gtest_filter=RandomRaces.OfEverything*',
         f'--seconds={max(1, seconds)}'], seconds)
