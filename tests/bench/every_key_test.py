#!/usr/bin/env python3
"""scripts/bench --json has every key of issue 6, so that none can vanish.

  every_key_test.py BENCH BUILD   BENCH: scripts/bench

Its figures are not looked at, only that there are some, in every mode; and that
the plots are pictures.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

KEYS = {
    'stat_warm',
    'open_read_close_4k_warm',
    'lookup_cold_us',
    'seq_read_1g_warm',
    'mmap_1g_warm',
    'seq_read_1g_cold',
    'create_write_close_4k',
    'write_1g',
    'walk_stat_50k_first',
    'tar_10k_warm',
    'compile_cold',
    'compile_warm',
    'sandbox_create_100',
    'sandbox_create_100k',
    'sandbox_create_10k',
    'collect_1g',
    'collect_1g_copied',
    'page_cache_after_both_views_1g',
    'exec_view_1000',
    'memory_per_node',
}
# What a figure means nothing without.
CIRCUMSTANCES = {'kernel', 'cpus', 'cpu_model', 'file_system', 'commit',
                 'rounds', 'sizes', 'modes'}
LATENCY_PLOTS_MIN = 3


def fail(text):
  sys.exit(f'scripts/bench --json --quick: {text}')


def check_key(name, key, modes):
  value = key.get('ratio', key.get('value'))
  if not isinstance(value, (int, float)) or value < 0:
    fail(f'{name} is {value}')
  if 'caches' not in key or 'to' not in key:
    fail(f'{name}: what is it a ratio to?')
  if set(key['modes']) != set(modes):
    fail(f'{name} has modes {list(key["modes"])}, not {modes}')
  if 'target' in key and key['met'] not in (True, False):
    fail(f'{name}: met or missed?')


def check_plots(folder):
  plots = sorted(pathlib.Path(folder).glob('*.svg'))
  for plot in plots:
    xml.etree.ElementTree.parse(plot)
    if '<polyline' not in plot.read_text():
      fail(f'{plot.name} has no line')
  names = [plot.name for plot in plots]
  latencies = [name for name in names if name.startswith('latency_')]
  if 'cost_by_tree_size.svg' not in names or len(latencies) < LATENCY_PLOTS_MIN:
    fail(f'plots are {names}')


def main():
  bench, build = sys.argv[1:]
  with tempfile.TemporaryDirectory() as plots:
    done = subprocess.run(
        [bench, '--json', '--quick', '--build', build, '--plot', plots],
        stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
      fail(f'exit status {done.returncode}')
    check_plots(plots)
  report = json.loads(done.stdout)
  if missing := CIRCUMSTANCES - set(report):
    fail(f'does not say {sorted(missing)}')
  if not report['modes']:
    fail('no mode was measured')
  if set(report['keys']) != KEYS:
    fail(f'keys that should or should not be there: '
         f'{sorted(set(report["keys"]) ^ KEYS)}')
  for name, key in report['keys'].items():
    check_key(name, key, report['modes'])


main()
