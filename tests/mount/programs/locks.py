"""Takes locks in two processes and prints who gets them.

The child says what it holds over a pipe, so that nothing depends on time.
"""

import errno
import fcntl
import os
import struct
import sys


def attempt(what, lock, *arguments):
  try:
    lock(*arguments)
    print(what, 'taken')
  except OSError as error:
    print(what, errno.errorcode[error.errno])


class Holder:
  """Another process that opens `path`, locks it, and waits to be let go."""

  def __init__(self, path, flags, lock):
    ready, self.go = os.pipe(), os.pipe()
    self.pid = os.fork()
    if self.pid == 0:
      try:
        os.close(self.go[1])
        lock(os.open(path, flags))
        os.write(ready[1], b'.')
        os.read(self.go[0], 1)
        os._exit(0)  # Still open: it is the end of the process that unlocks.
      finally:
        os._exit(1)
    os.close(self.go[0])
    os.close(ready[1])
    if os.read(ready[0], 1) != b'.':
      sys.exit('the holder failed')
    os.close(ready[0])

  def let_go(self):
    os.close(self.go[1])
    if os.waitpid(self.pid, 0)[1] != 0:
      sys.exit('the holder failed')


def flocks(path):
  nonblocking = fcntl.LOCK_NB
  fd = os.open(path, os.O_RDWR)
  holder = Holder(path, os.O_RDWR, lambda at: fcntl.flock(at, fcntl.LOCK_SH))
  attempt('flock shared beside shared', fcntl.flock, fd,
          fcntl.LOCK_SH | nonblocking)
  attempt('flock exclusive beside shared', fcntl.flock, fd,
          fcntl.LOCK_EX | nonblocking)
  # Waits for the holder's end, which comes while it waits or before.
  fcntl.flock(fd, fcntl.LOCK_UN)
  os.close(holder.go[1])
  attempt('flock exclusive after a wait', fcntl.flock, fd, fcntl.LOCK_EX)
  os.waitpid(holder.pid, 0)
  os.close(fd)


def owner_of(fd, start, length):
  asked = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
  kind, _, start, length, pid = struct.unpack(
      'hhqqi4x', fcntl.fcntl(fd, fcntl.F_GETLK, asked))
  return kind, start, length, pid


def ranges(path):
  fd = os.open(path, os.O_RDWR)
  holder = Holder(path, os.O_RDWR,
                  lambda at: fcntl.lockf(at, fcntl.LOCK_EX, 10, 5))
  write = fcntl.LOCK_EX | fcntl.LOCK_NB
  attempt('range that is held', fcntl.lockf, fd, write, 1, 14)
  attempt('range before it', fcntl.lockf, fd, write, 5, 0)
  attempt('range after it', fcntl.lockf, fd, write, 0, 15)
  kind, start, length, pid = owner_of(fd, 0, 0)
  print('held by', kind == fcntl.F_WRLCK, start, length, pid == holder.pid)
  holder.let_go()
  attempt('range that was held', fcntl.lockf, fd, write, 1, 14)
  # Closing any descriptor of the file gives up all its ranges.
  os.close(os.open(path, os.O_RDONLY))
  other = Holder(path, os.O_RDWR, lambda at: fcntl.lockf(at, write))
  print('given up by a close')
  # A wait for a range ends with its holder.
  os.close(other.go[1])
  attempt('range after a wait', fcntl.lockf, fd, fcntl.LOCK_EX)
  os.waitpid(other.pid, 0)
  os.close(fd)


if __name__ == '__main__':
  flocks(sys.argv[1])
  ranges(sys.argv[1])
