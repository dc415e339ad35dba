#include "model/posix_worker.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <thread>  // NOLINT
#include <utility>

namespace casement {
namespace {

struct Order {
  enum class Kind : uint8_t { kPlay, kFreeze, kEnd };
  Kind kind = Kind::kEnd;
  uint64_t value = 0;  // A call's index, or a file's number.
};

PosixWorker::Results Died() { return {"", "the process that plays it died"}; }

// Each is one packet.
constexpr size_t kPacketBytesMax = size_t{128} << 10;

std::string Receive(int socket) {
  std::string packet(kPacketBytesMax, 0);
  const ssize_t size = recv(socket, packet.data(), packet.size(), 0);
  packet.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return packet;
}

bool Send(int socket, const void* bytes, size_t size) {
  return send(socket, bytes, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

class Pair {
 public:
  Pair(const Stage& stage, unsigned process)
      : sandbox_(stage.sandbox, *stage.sandbox_unsynced, process),
        plain_(stage.plain, *stage.plain_unsynced, process) {}

  void Freeze(uint64_t number) {
    const Player::Uses uses = plain_.ReadersOf(number);
    sandbox_.Freeze(uses);
    plain_.Freeze(uses);
  }

  PosixWorker::Results Play(const Call& call) {
    PosixWorker::Results results;
    const auto play = [&] {
      results = {.plain = plain_.Play(call), .sandbox = sandbox_.Play(call)};
    };
    if (call.thread == 0) {
      play();
    } else {
      std::thread(play).join();
    }
    return results;
  }

 private:
  Player sandbox_;
  Player plain_;
};

void Serve(int socket, const Stage& stage, const std::vector<Call>& calls,
           unsigned process) {
  Pair pair(stage, process);
  Order order;
  while (recv(socket, &order, sizeof(order), 0) == sizeof(order)) {
    if (order.kind == Order::Kind::kEnd) return;
    if (order.kind == Order::Kind::kFreeze) {
      pair.Freeze(order.value);
      continue;
    }
    const PosixWorker::Results results = pair.Play(calls[order.value]);
    if (!Send(socket, results.plain.data(), results.plain.size()) ||
        !Send(socket, results.sandbox.data(), results.sandbox.size())) {
      return;
    }
  }
}

}  // namespace

PosixWorker::PosixWorker(const Stage& stage, const std::vector<Call>& calls,
                         unsigned process) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    throw std::runtime_error("making a socket pair");
  }
  socket_.Reset(ends[0]);
  UniqueFd theirs(ends[1]);
  pid_ = fork();
  if (pid_ != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  socket_.Reset();
  try {
    Serve(theirs.get(), stage, calls, process);
  } catch (const std::exception& error) {
    fprintf(stderr, "worker: %s\n", error.what());
  }
  _exit(0);
}

PosixWorker::~PosixWorker() {
  // Closing the socket says nothing: workers made later have it too.
  const Order order = {.kind = Order::Kind::kEnd};
  Send(socket_.get(), &order, sizeof(order));
  waitpid(pid_, nullptr, 0);
}

PosixWorker::Results PosixWorker::Play(size_t index) {
  const Order order = {.kind = Order::Kind::kPlay, .value = index};
  if (!Send(socket_.get(), &order, sizeof(order))) return Died();
  Results results = {.plain = Receive(socket_.get())};
  results.sandbox = Receive(socket_.get());
  return results.sandbox.empty() ? Died() : results;
}

void PosixWorker::Freeze(uint64_t number) {
  const Order order = {.kind = Order::Kind::kFreeze, .value = number};
  Send(socket_.get(), &order, sizeof(order));
}

}  // namespace casement
