// links: vmm
// A call's buffers may be taken away while it blocks (a fault of another thread polluted the page):
// the call must neither fail nor lose what it was waiting for.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <functional>
#include <thread>

#include "tests/support/syscall_fixture.hpp"

namespace {

class SyscallAway : public vmm_test::SyscallFixture {
 protected:
  void SetUp() override {
    SyscallFixture::SetUp();
    if (process == nullptr) return;
    memory().set_missing_handler([this](vmm::GuestRange range) {
      ++brought_back;
      std::vector<vmm::GuestAddr> pages;
      for (uint64_t at = vmm::page_down(range.start.value); at < range.end().value; at += vmm::kPageSize) {
        pages.emplace_back(at);
      }
      memory().bring_back(pages);
    });
  }
  // Runs the call; once it blocks, takes the whole arena away and lets `event` happen.
  int64_t while_away(std::function<int64_t()> const& blocking, std::function<void()> const& event) {
    vmm_test::TestThread& main = *process->main;
    int64_t result = 0;
    std::atomic<bool> returned{false};
    std::thread caller([&] {
      main.adopt_host_thread();
      result = blocking();
      returned = true;
    });
    while (main.state() != vmm::RunState::kBlocked && !returned) usleep(100);
    EXPECT_FALSE(returned) << "did not block: " << result;
    usleep(2000);
    std::vector<vmm::GuestAddr> pages;
    for (uint64_t at = 0; at < kArena; at += vmm::kPageSize) pages.push_back(arena + at);
    EXPECT_TRUE(memory().take_away(pages));
    event();
    caller.join();
    return result;
  }
  struct Ends {
    int in, out;  // guest numbers
  };
  Ends ends(bool socket) {
    uint64_t const at = room(8).value;
    EXPECT_EQ(socket ? call(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, at) : call(SYS_pipe2, at, 0), 0);
    return {get<int>(at), get<int>(at + 4)};
  }
  // Written by the host side, so that the event itself needs no guest memory.
  void feed(int fd, char const* text) {
    ASSERT_EQ(::write(process->fds().get(fd)->host_fd(), text, std::strlen(text)),
              static_cast<ssize_t>(std::strlen(text)));
  }
  std::atomic<int> brought_back{0};
};

TEST_F(SyscallAway, Read) {
  Ends const p = ends(false);
  uint64_t const to = room(16).value;
  EXPECT_EQ(while_away([&] { return call(SYS_read, p.in, to, 16); }, [&] { feed(p.out, "data"); }), 4);
  EXPECT_EQ(bytes(to, 4), "data");
}

TEST_F(SyscallAway, Readv) {
  Ends const p = ends(false);
  uint64_t const a = room(2).value, b = room(8).value;
  uint64_t const v = put(std::array<uint64_t, 4>{a, 2, b, 8});
  EXPECT_EQ(while_away([&] { return call(SYS_readv, p.in, v, 2); }, [&] { feed(p.out, "data"); }), 4);
  EXPECT_EQ(bytes(a, 2) + bytes(b, 2), "data");
}

TEST_F(SyscallAway, Recvfrom) {
  Ends const p = ends(true);
  uint64_t const to = room(16).value, name = room(128).value, size = put<int>(128);
  EXPECT_EQ(while_away([&] { return call(SYS_recvfrom, p.in, to, 16, 0, name, size); }, [&] { feed(p.out, "data"); }),
            4);
  EXPECT_EQ(bytes(to, 4), "data");
}

TEST_F(SyscallAway, Recvmsg) {
  Ends const p = ends(true);
  uint64_t const to = room(16).value;
  std::array<uint64_t, 7> header{};
  header[2] = put(std::array<uint64_t, 2>{to, 16});
  header[3] = 1;
  uint64_t const message = put(header);
  EXPECT_EQ(while_away([&] { return call(SYS_recvmsg, p.in, message, 0); }, [&] { feed(p.out, "data"); }), 4);
  EXPECT_EQ(bytes(to, 4), "data");
}

TEST_F(SyscallAway, Poll) {
  Ends const p = ends(false);
  uint64_t const at = put(pollfd{p.in, POLLIN, 0});
  EXPECT_EQ(while_away([&] { return call(SYS_poll, at, 1, -1); }, [&] { feed(p.out, "x"); }), 1);
  EXPECT_EQ(get<pollfd>(at).revents, POLLIN);
  EXPECT_GT(brought_back, 0);
}

TEST_F(SyscallAway, Select) {
  Ends const p = ends(false);
  uint64_t const set = put<uint64_t>(1U << p.in);
  EXPECT_EQ(while_away([&] { return call(SYS_select, 8, set, 0, 0, 0); }, [&] { feed(p.out, "x"); }), 1);
  EXPECT_EQ(get<uint64_t>(set), 1U << p.in);
}

TEST_F(SyscallAway, EpollWait) {
  Ends const p = ends(false);
  int const set = static_cast<int>(call(SYS_epoll_create1, 0));
  epoll_event event{EPOLLIN, {.u64 = 77}};
  EXPECT_EQ(call(SYS_epoll_ctl, set, EPOLL_CTL_ADD, p.in, put(event)), 0);
  uint64_t const events = room(64).value;
  EXPECT_EQ(while_away([&] { return call(SYS_epoll_wait, set, events, 4, -1); }, [&] { feed(p.out, "x"); }), 1);
  EXPECT_EQ(get<epoll_event>(events).data.u64, 77U);
}

TEST_F(SyscallAway, Accept) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, (directory + "/s").c_str());
  int const server = static_cast<int>(call(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(call(SYS_bind, server, put(address), sizeof address), 0);
  EXPECT_EQ(call(SYS_listen, server, 1), 0);
  uint64_t const name = room(128).value, size = put<int>(128);
  int const client = ::socket(AF_UNIX, SOCK_STREAM, 0);
  int64_t const connection =
      while_away([&] { return call(SYS_accept, server, name, size); },
                 [&] { EXPECT_EQ(::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address), 0); });
  ::close(client);
  EXPECT_GT(connection, server);
  EXPECT_EQ(get<int>(size), 2);
}

TEST_F(SyscallAway, Write) {
  Ends const p = ends(false);
  vmm::FileRef const in = process->fds().get(p.in);
  std::vector<char> full(65536, 'f');
  ASSERT_EQ(::write(process->fds().get(p.out)->host_fd(), full.data(), full.size()), 65536);
  uint64_t const from = text("last");
  EXPECT_EQ(while_away([&] { return call(SYS_write, p.out, from, 4); },
                       [&] { EXPECT_EQ(::read(in->host_fd(), full.data(), full.size()), 65536); }),
            4);
  EXPECT_EQ(::read(in->host_fd(), full.data(), 4), 4);
  EXPECT_EQ(std::string(full.data(), 4), "last");
}

TEST_F(SyscallAway, RecordLockAndItsQuery) {
  std::string const path = directory + "/lock";
  int const fd = open(path, O_CREAT | O_RDWR);
  int const other = open(path, O_RDWR);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  uint64_t const at = put(lock);
  EXPECT_EQ(call(SYS_fcntl, fd, F_OFD_SETLK, at), 0);
  struct flock unlock {};
  unlock.l_type = F_UNLCK;
  EXPECT_EQ(while_away([&] { return call(SYS_fcntl, other, F_OFD_SETLKW, at); },
                       [&] { EXPECT_EQ(::fcntl(process->fds().get(fd)->host_fd(), F_OFD_SETLK, &unlock), 0); }),
            0);
}

}  // namespace
