"""A server and its client, in two processes, by a unix socket's path."""

import errno
import os
import socket
import stat
import sys


def attempt(what, call, *arguments):
  try:
    call(*arguments)
    print(what, 'done')
  except OSError as error:
    print(what, errno.errorcode[error.errno])


def in_child(work):
  pid = os.fork()
  if pid == 0:
    try:
      work()
    finally:
      os._exit(1)
  return pid


def stream(path):
  server = socket.socket(socket.AF_UNIX)
  server.bind(path)
  print('is a socket', stat.S_ISSOCK(os.lstat(path).st_mode))
  early = socket.socket(socket.AF_UNIX)
  attempt('connect before listen', early.connect, path)
  server.listen()

  def client():
    with socket.socket(socket.AF_UNIX) as connection:
      connection.connect(path)
      connection.sendall(b'question' * 10000)
      connection.shutdown(socket.SHUT_WR)
      answer = connection.makefile('rb').read()
      os._exit(0 if answer == b'80000' else 1)

  pid = in_child(client)
  connection, _ = server.accept()
  question = connection.makefile('rb').read()
  connection.sendall(str(len(question)).encode())
  connection.close()
  print('client', os.waitpid(pid, 0)[1])
  other = socket.socket(socket.AF_UNIX)
  attempt('bind to a name in use', other.bind, path)
  os.rename(path, path + '.renamed')
  attempt('connect after rename', other.connect, path + '.renamed')
  server.close()
  late = socket.socket(socket.AF_UNIX)
  attempt('connect after close', late.connect, path + '.renamed')
  os.unlink(path + '.renamed')
  attempt('connect after unlink', late.connect, path + '.renamed')


def datagrams(path):
  server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
  server.bind(path)

  def client():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
      sender.bind(path + '.client')
      sender.sendto(b'datagram', path)
      os._exit(0 if sender.recv(100) == b'datagram back' else 1)

  pid = in_child(client)
  message, sender = server.recvfrom(100)
  print('from', os.path.basename(sender))
  server.sendto(message + b' back', sender)
  print('client', os.waitpid(pid, 0)[1])
  os.chmod(path, 0o600)
  print('mode', oct(os.lstat(path).st_mode))


if __name__ == '__main__':
  stream(sys.argv[1])
  datagrams(sys.argv[1])
