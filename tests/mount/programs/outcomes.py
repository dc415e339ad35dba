"""Prints "TEST OUTCOME" a line, sorted, for a JUnit file of python3 -m test."""

import sys
import xml.etree.ElementTree

lines = set()
for case in xml.etree.ElementTree.parse(sys.argv[1]).iter('testcase'):
  problems = {child.tag for child in case} & {'skipped', 'failure', 'error'}
  outcome = '+'.join(sorted(problems)) or 'passed'
  lines.add(f'{case.get("name")} {outcome}')
print('\n'.join(sorted(lines)))
