"""What every section of scripts/stress is made of: counts, disks, daemons, blobs.

Everything that is started, mounted or written belongs to a Workspace and goes
with it, also when a section fails or is interrupted.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import platform
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
# A sanitizer and a busy machine included.
START_SECONDS = 120
COMMAND_SECONDS = 300
MIB = 1 << 20


class Counts:
  """One row of the table. Thread safe."""

  COLUMNS = ('operations', 'evictions', 'kills', 'faults', 'bytes checked')

  def __init__(self, name):
    self.name = name
    self.values = dict.fromkeys(self.COLUMNS, 0)
    self.violations = []
    self.notes = []  # Lines for below the table.
    self._lock = threading.Lock()

  def add(self, column, count=1):
    with self._lock:
      self.values[column] += count

  def violation(self, text):
    """Something that was promised did not hold. The section goes on."""
    with self._lock:
      self.violations.append(text)
      print(f'VIOLATION in {self.name}: {text}', flush=True)

  def check(self, condition, text):
    if not condition:
      self.violation(text)
    return condition


def run(*words, check=True, **options):
  """A program to its end, quietly."""
  done = subprocess.run([str(word) for word in words], text=True,
                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE, timeout=COMMAND_SECONDS,
                        check=False, **options)
  if check and done.returncode != 0:
    raise RuntimeError(f'{words[0]}: exit status {done.returncode}: '
                       f'{done.stderr.strip()}')
  return done


def is_mounted(path):
  """How many mounts there are at a path."""
  with open('/proc/self/mountinfo', encoding='utf-8') as mounts:
    return sum(line.split()[4] == str(path) for line in mounts)


class Workspace:
  """A folder, and what has to be ended before it can go."""

  def __init__(self):
    # Resolved, as mountinfo has it.
    self.folder = pathlib.Path(
        tempfile.mkdtemp(prefix='casement-stress-')).resolve()
    self._stack = contextlib.ExitStack()

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self._stack.close()
    run('rm', '-rf', '--one-file-system', self.folder, check=False)

  def on_end(self, function, *arguments):
    self._stack.callback(function, *arguments)

  def make(self, name):
    path = self.folder / name
    path.mkdir(parents=True, exist_ok=True)
    return path


class LoopDisk:
  """An ext4 of its own in a file, so that the free space is nobody else's."""

  def __init__(self, workspace, name, size, options='', image=None):
    self.image = image or workspace.folder / f'{name}.img'
    self.mount_point = workspace.make(name)
    self._options = options
    if image is None:
      with open(self.image, 'wb') as file:
        file.truncate(size)
      # Everything is initialized now: what is used later is the store's.
      run('mkfs.ext4', '-q', '-F', '-m', '0', '-b', '4096', '-E',
          'lazy_itable_init=0,lazy_journal_init=0', self.image)
    workspace.on_end(self.unmount)
    self.mount()
    self.baseline = self.used()

  def mount(self, options=None):
    chosen = self._options if options is None else options
    run('mount', '-o', ','.join(filter(None, ('loop', chosen))), self.image,
        self.mount_point)

  def unmount(self):
    for _ in range(50):
      if not is_mounted(self.mount_point):
        return
      if run('umount', self.mount_point, check=False).returncode == 0:
        continue
      time.sleep(0.1)
    run('umount', '-l', self.mount_point, check=False)

  def used(self):
    """Allocated bytes of everything, with or without a name."""
    status = os.statvfs(self.mount_point)
    return (status.f_blocks - status.f_bfree) * status.f_frsize

  def device(self):
    return run('findmnt', '-n', '-o', 'SOURCE', self.mount_point).stdout.strip()


class Daemon:
  """A casementd, its mount, and what it said."""

  def __init__(self, workspace, options, counts, name, store, arguments=(),
               boot_id=None):
    self._program = options.build / 'src/daemon/casementd'
    self._tool = options.tools / 'src/cli/casement'
    self.counts = counts
    self.store = pathlib.Path(store)
    self.mount = workspace.make(f'{name}-mount')
    self.socket = workspace.folder / f'{name}.sock'
    self.log = workspace.folder / f'{name}.log'
    self._arguments = [str(argument) for argument in arguments]
    self._boot_id = boot_id
    self._folder = workspace.folder
    self._process = None
    self._log_read = 0
    self.store.mkdir(exist_ok=True)
    workspace.on_end(self.end)

  def _command(self):
    command = [str(self._program), '--foreground', '--store', str(self.store),
               '--mount', str(self.mount), '--socket',
               str(self.socket), *self._arguments]
    if self._boot_id is None:
      return command
    # As after a reboot. In a mount namespace of its own: see root(). Without
    # the disks of other runs, which would stay mounted there when these have
    # unmounted them and go on with their images.
    return ['unshare', '-m', '--propagation', 'private', 'sh', '-c',
            'mount --bind "$0/boot_id" /proc/sys/kernel/random/boot_id && '
            'findmnt -rno TARGET | grep /casement-stress- | grep -v "^$0/" | '
            'xargs -r -n 1 umount -l; exec "$@"',
            str(self._folder), *command]

  def start(self):
    with open(self.log, 'ab') as log:
      self._process = subprocess.Popen(self._command(), stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    while self.casement('stats', check=False).returncode != 0:
      if self._process.poll() is not None or time.monotonic() > deadline:
        raise RuntimeError(f'casementd did not start: {self.log_tail()}')
      time.sleep(0.01)

  def pid(self):
    return self._process.pid

  def root(self):
    """The mount as seen from here, wherever the daemon lives."""
    if self._boot_id is None:
      return self.mount
    return pathlib.Path(f'/proc/{self.pid()}/root{self.mount}')

  def kill(self):
    self._process.send_signal(signal.SIGKILL)
    self._process.wait()
    self._process = None

  def is_alive(self):
    return self._process is not None and self._process.poll() is None

  def stop(self):
    """By SIGTERM, which must leave nothing."""
    if self._process is None:
      return
    self._process.send_signal(signal.SIGTERM)
    try:
      status = self._process.wait(timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
      self.counts.violation('casementd does not end on SIGTERM')
      self.kill()
      return
    self._process = None
    self.counts.check(status == 0, f'casementd ended with {status}: '
                      f'{self.log_tail()}')
    self.counts.check(not is_mounted(self.mount), 'SIGTERM left the mount')

  def end(self):
    """Whatever state it is in."""
    if self._process is not None and self._process.poll() is None:
      self._process.kill()
    if self._process is not None:
      self._process.wait()
      self._process = None
    for _ in range(10):
      if not is_mounted(self.mount):
        break
      run('umount', '-l', self.mount, check=False)
    self.check_log()

  def casement(self, *words, check=True):
    return run(self._tool, '--socket', self.socket, *words, check=check)

  def json(self, *words):
    return json.loads(self.casement('--json', *words).stdout)

  def verify(self, *options):
    """Its report, also if there is something to report."""
    return json.loads(
        self.casement('--json', 'verify', *options, check=False).stdout)

  def log_tail(self):
    return self.log.read_text(errors='replace')[-2000:]

  def check_log(self):
    """What sanitizers and our own checks print is a violation."""
    if not self.log.exists():
      return
    text = self.log.read_text(errors='replace')[self._log_read:]
    self._log_read += len(text)
    check_words(self.counts, text)


def check_words(counts, text):
  """What casementd said, of which some is a violation."""
  for pattern in (r'check failed: .*', r'ERROR: \w+Sanitizer.*',
                  r'runtime error: .*'):
    for found in re.findall(pattern, text):
      counts.violation(f'casementd said: {found}')
  for report in re.findall(r'WARNING: ThreadSanitizer.*?(?====)', text,
                           re.DOTALL):
    if not is_about_grpc(report):
      counts.violation(f'casementd said: {report}')


# Not built for ThreadSanitizer in Debian.
FOREIGN = re.compile(r'libgrpc|libgpr|libupb|libabsl|libprotobuf|absl::debian')
RUNTIME = re.compile(r'libsanitizer|libtsan|libstdc\+\+|include/c\+\+|<null>$')


def is_about_grpc(report):
  """ThreadSanitizer does not see how gRPC's threads hand over to each other. So
  nothing is said by an access of gRPC's own, nor by two accesses of ours in
  calls of gRPC's; one of ours against one of the mount's threads says a lot."""
  blocks = [block for block in report.split('\n\n') if '    #0 ' in block][:2]
  inside = []
  for block in blocks:
    frames = re.findall(r'^    #\d+ (.*)$', block, re.MULTILINE)
    ours = [frame for frame in frames if not RUNTIME.search(frame)]
    if not ours or FOREIGN.search(ours[0]):
      return True
    thread = re.search(r'by thread (T\d+)', block)
    name = thread and re.search(rf"Thread {thread[1]} '([^']*)'", report)
    inside.append(bool(FOREIGN.search(block)) or
                  bool(name and re.match('grpc|event_engine', name[1])))
  return all(inside)


def sanitizer_environment():
  """Reports do not end the daemon: they are counted."""
  return {
      'ASAN_OPTIONS': 'detect_leaks=0:halt_on_error=1',
      'UBSAN_OPTIONS': 'print_stacktrace=1',
      'TSAN_OPTIONS': 'exitcode=0:halt_on_error=0:suppressions='
                      f'{REPO}/scripts/presets/tsan.supp',
  }


def digest_of(data):
  return f'{hashlib.sha256(data).hexdigest()}-{len(data)}'


def hash_file(path):
  """(digest, bytes) of what is read."""
  hasher = hashlib.sha256()
  size = 0
  with open(path, 'rb', buffering=0) as file:
    while data := file.read(MIB):
      hasher.update(data)
      size += len(data)
  return f'{hasher.hexdigest()}-{size}', size


def program(status, size, seed):
  """A static executable of `size` bytes that ends with `status`: one page that
  is loaded, and noise that is not."""
  code = {
      # mov edi, status; mov eax, 60 (exit); syscall
      'x86_64': (62, b'\xbf' + struct.pack('<I', status) +
                 b'\xb8\x3c\0\0\0\x0f\x05'),
      # mov w0, status; mov w8, 93 (exit); svc 0
      'aarch64': (183, struct.pack('<III', 0x52800000 | status << 5,
                                   0x52800ba8, 0xd4000001)),
  }.get(platform.machine())
  noise = random.Random(seed)
  if code is None:
    head = f'#!/bin/sh\nexit {status}\n#'.encode()
  else:
    machine, text = code
    base, offset = 0x400000, 0x78
    head = b'\x7fELF\2\1\1' + bytes(9) + struct.pack(
        '<HHIQQQIHHHHHH', 2, machine, 1, base + offset, 0x40, 0, 0, 0x40, 0x38,
        1, 0, 0, 0)
    head += struct.pack('<IIQQQQQQ', 1, 5, 0, base, base, offset + len(text),
                        offset + len(text), 0x1000)
    head += text
  return head + noise.randbytes(max(size - len(head), 16))


def blobs_on_disk(store):
  """Paths of everything in the store's cas/ that is no directory."""
  return [path for path in (pathlib.Path(store) / 'cas').rglob('*')
          if path.is_symlink() or not path.is_dir()]


def allocated_below(path):
  """As du(1): every file once."""
  sizes = {}
  for folder, _, names in os.walk(path):
    for name in ('.', *names):
      with contextlib.suppress(FileNotFoundError):
        status = os.lstat(os.path.join(folder, name))
        sizes[status.st_ino] = status.st_blocks * 512
  return sum(sizes.values())


def check_store_files(counts, store):
  """G8, G9, G23, while no daemon runs: all that has a name is a whole blob."""
  names = []
  for path in blobs_on_disk(store):
    digest, size = hash_file(path)
    counts.add('bytes checked', size)
    counts.check(digest == path.name, f'{path.name} holds {digest} (G9)')
    names.append(path.name)
  return names


def check_running_store(counts, daemon, sample=8):
  """What the daemon knows is what is there, and to the byte accounted."""
  stats = daemon.json('stats')
  on_disk = blobs_on_disk(daemon.store)
  counts.check(stats['blobs'] == len(on_disk),
               f'{stats["blobs"]} blobs are known, {len(on_disk)} on disk')
  strangers = {path.name for path in daemon.store.iterdir()} - {
      'actions', 'cas', 'index', 'lock', 'scratch', 'lost+found'}
  counts.check(not strangers, f'in the store: {strangers}')
  scratch = list((daemon.store / 'scratch').iterdir())
  counts.check(not scratch, f'in scratch: {scratch}')
  report = daemon.verify()
  counts.add('bytes checked', report['bytes'])
  counts.check(not report['damaged'], f'damaged: {report["damaged"]} (G9)')
  counts.check(report['unaccounted_bytes'] == 0, f'unaccounted: {report} (G3)')
  for path in random.sample(on_disk, min(sample, len(on_disk))):
    view = daemon.root() / 'cas' / (path.name +
                                    random.choice(('', '.exec')))
    digest, size = hash_file(view)
    counts.add('bytes checked', size)
    counts.check(digest == path.name, f'{view} reads as {digest} (G4)')


def say(text):
  print(text, file=sys.stderr, flush=True)
