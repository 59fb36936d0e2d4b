// links: vmm
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <csignal>
#include <thread>

#include "tests/support/syscall_fixture.hpp"

namespace {

class SyscallSockets : public vmm_test::SyscallFixture {
 protected:
  struct Pair {
    int a, b;
  };
  Pair pair(int type = SOCK_STREAM) {
    uint64_t const at = room(8).value;
    EXPECT_EQ(call(SYS_socketpair, AF_UNIX, type, 0, at), 0);
    return {get<int>(at), get<int>(at + 4)};
  }
  // A msghdr with one buffer and `control` bytes of room or content.
  uint64_t message(uint64_t data, uint64_t size, uint64_t control = 0, uint64_t control_size = 0) {
    iovec const v{reinterpret_cast<void*>(data), size};
    msghdr m{};
    m.msg_iov = reinterpret_cast<iovec*>(put(v));
    m.msg_iovlen = 1;
    m.msg_control = reinterpret_cast<void*>(control);
    m.msg_controllen = control_size;
    return put(m);
  }
  struct Rights {
    size_t length;
    int level, type;
    int fds[2];
  };
  static_assert(sizeof(Rights) == CMSG_SPACE(8));
  uint64_t rights(int fd, int second = -1) {
    return put(Rights{CMSG_LEN(second < 0 ? 4 : 8), SOL_SOCKET, SCM_RIGHTS, {fd, second}});
  }
};

TEST_F(SyscallSockets, ATcpConnectionOverLoopback) {
  int const server = static_cast<int>(call(SYS_socket, AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(server, 0);
  EXPECT_EQ(call(SYS_setsockopt, server, SOL_SOCKET, SO_REUSEADDR, put<int>(1), 4), 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(call(SYS_bind, server, put(address), sizeof address), 0);
  EXPECT_EQ(call(SYS_listen, server, 8), 0);
  uint64_t const name = room(128).value, size = put<int>(128);
  EXPECT_EQ(call(SYS_getsockname, server, name, size), 0);
  EXPECT_EQ(get<int>(size), 16);
  int const client = static_cast<int>(call(SYS_socket, AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(call(SYS_connect, client, name, 16), 0);
  uint64_t const short_size = put<int>(4), peer_name = put(std::array<uint64_t, 4>{~0UL, ~0UL, ~0UL, ~0UL});
  int const peer = static_cast<int>(call(SYS_accept4, server, peer_name, short_size, SOCK_CLOEXEC));
  EXPECT_EQ(peer, 2);
  EXPECT_EQ(get<int>(short_size), 16) << "the full size is told";
  EXPECT_EQ(get<uint64_t>(peer_name + 8), ~0UL) << "what did not fit is not written";
  EXPECT_EQ(call(SYS_fcntl, peer, F_GETFD, 0), FD_CLOEXEC);
  EXPECT_EQ(call(SYS_setsockopt, client, IPPROTO_TCP, TCP_NODELAY, put<int>(1), 4), 0);
  EXPECT_EQ(call(SYS_sendto, client, text("ping"), 4, 0, 0, 0), 4);
  uint64_t const to = room(16).value;
  EXPECT_EQ(call(SYS_recvfrom, peer, to, 16, 0, 0, 0), 4);
  EXPECT_EQ(bytes(to, 4), "ping");
  EXPECT_EQ(call(SYS_shutdown, client, SHUT_WR), 0);
  EXPECT_EQ(call(SYS_read, peer, to, 16), 0);
}

TEST_F(SyscallSockets, FamiliesAndOptionsNotListedAreRefused) {
  EXPECT_EQ(call(SYS_socket, AF_PACKET, SOCK_RAW, 0), -EAFNOSUPPORT);
  EXPECT_EQ(call(SYS_socket, AF_VSOCK, SOCK_STREAM, 0), -EAFNOSUPPORT);
  EXPECT_EQ(call(SYS_socket, AF_NETLINK, SOCK_RAW, 15), -EPROTONOSUPPORT);
  EXPECT_EQ(call(SYS_socket, AF_INET, SOCK_RAW, IPPROTO_ICMP), -EPERM);
  EXPECT_GE(call(SYS_socket, AF_NETLINK, SOCK_RAW, 0), 0);
  int const s = static_cast<int>(call(SYS_socket, AF_INET, SOCK_STREAM, 0));
  for (int const name : {SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_BINDTODEVICE, SO_ZEROCOPY}) {
    EXPECT_EQ(call(SYS_setsockopt, s, SOL_SOCKET, name, put<uint64_t>(0), 8), -ENOPROTOOPT);
  }
  EXPECT_EQ(call(SYS_getsockopt, s, SOL_SOCKET, 77 /* SO_PEERPIDFD */, put<int>(0), put<int>(4)), -ENOPROTOOPT);
  int host = 4;
  EXPECT_EQ(call(SYS_getsockopt, s, SOL_SOCKET, SO_TYPE, reinterpret_cast<uint64_t>(&host), put<int>(4)), -EFAULT);
  EXPECT_EQ(host, 4);
  uint64_t const value = put<int>(0);
  EXPECT_EQ(call(SYS_getsockopt, s, SOL_SOCKET, SO_TYPE, value, put<int>(4)), 0);
  EXPECT_EQ(get<int>(value), SOCK_STREAM);
}

TEST_F(SyscallSockets, DescriptorsPassAsTheGuestsNumbers) {
  Pair const p = pair();
  int const file = open(directory + "/f", O_CREAT | O_RDWR);
  EXPECT_EQ(call(SYS_write, file, text("inside"), 6), 6);
  EXPECT_EQ(call(SYS_sendmsg, p.a, message(text("x"), 1, rights(file), CMSG_LEN(4)), 0), 1);
  uint64_t const control = room(64).value;
  uint64_t const m = message(room(1).value, 1, control, 64);
  EXPECT_EQ(call(SYS_recvmsg, p.b, m, MSG_CMSG_CLOEXEC), 1);
  Rights const got = get<Rights>(control);
  EXPECT_EQ(got.level, SOL_SOCKET);
  EXPECT_EQ(got.type, SCM_RIGHTS);
  EXPECT_EQ(got.length, CMSG_LEN(4));
  EXPECT_EQ(got.fds[0], 3) << "the lowest free number of the guest";
  EXPECT_EQ(call(SYS_fcntl, 3, F_GETFD, 0), FD_CLOEXEC);
  uint64_t const to = room(8).value;
  EXPECT_EQ(call(SYS_pread64, 3, to, 8, 0), 6);
  EXPECT_EQ(bytes(to, 6), "inside");
}

TEST_F(SyscallSockets, AHostNumberInARightsMessageIsNobodysFile) {
  Pair const p = pair();
  for (int fd = 2; fd < 5000; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) continue;  // what the monitor has
    EXPECT_EQ(call(SYS_sendmsg, p.a, message(text("x"), 1, rights(fd), CMSG_LEN(4)), 0), -EBADF) << fd;
  }
  uint64_t const bad = put(Rights{1000, SOL_SOCKET, SCM_RIGHTS, {0, 0}});
  EXPECT_EQ(call(SYS_sendmsg, p.a, message(text("x"), 1, bad, CMSG_LEN(4)), 0), -EINVAL);
}

TEST_F(SyscallSockets, ReceivedDescriptorsWithoutRoomAreClosed) {
  Pair const p = pair();
  int const file = open(directory + "/f", O_CREAT | O_RDWR);
  auto const host_count = [] {
    int count = 0;
    for (int fd = 0; fd < 8192; ++fd) count += fcntl(fd, F_GETFD) >= 0;
    return count;
  };
  uint64_t const both = rights(file, file);
  EXPECT_EQ(call(SYS_sendmsg, p.a, message(text("x"), 1, both, CMSG_LEN(8)), 0), 1);
  int const before = host_count();
  uint64_t const m = message(room(1).value, 1, room(32).value, CMSG_LEN(4));
  EXPECT_EQ(call(SYS_recvmsg, p.b, m, 0), 1);
  EXPECT_NE(get<msghdr>(m).msg_flags & MSG_CTRUNC, 0);
  EXPECT_EQ(host_count(), before + 1) << "one fits";
  EXPECT_EQ(call(SYS_close, 3), 0);

  EXPECT_EQ(call(SYS_sendmsg, p.a, message(text("x"), 1, both, CMSG_LEN(8)), 0), 1);
  process->fds().set_limit(4);
  uint64_t const control = room(32).value;
  uint64_t const full = message(room(1).value, 1, control, 32);
  EXPECT_EQ(call(SYS_recvmsg, p.b, full, 0), 1);
  EXPECT_NE(get<msghdr>(full).msg_flags & MSG_CTRUNC, 0);
  EXPECT_EQ(get<Rights>(control).length, CMSG_LEN(4));
  EXPECT_EQ(host_count(), before + 1);
}

TEST_F(SyscallSockets, CredentialsCarryTheVirtualPid) {
  Pair const p = pair(SOCK_DGRAM);
  EXPECT_EQ(call(SYS_setsockopt, p.b, SOL_SOCKET, SO_PASSCRED, put<int>(1), 4), 0);
  EXPECT_EQ(call(SYS_write, p.a, text("x"), 1), 1);
  uint64_t const control = room(64).value;
  EXPECT_EQ(call(SYS_recvmsg, p.b, message(room(1).value, 1, control, 64), 0), 1);
  EXPECT_EQ(get<ucred>(control + CMSG_LEN(0)).pid, 1000);
  uint64_t const peer = room(12).value;
  EXPECT_EQ(call(SYS_getsockopt, p.b, SOL_SOCKET, SO_PEERCRED, peer, put<int>(12)), 0);
  EXPECT_EQ(get<ucred>(peer).pid, 1000);
}

TEST_F(SyscallSockets, MessagesWithWildPointersAreRefused) {
  Pair const p = pair();
  EXPECT_EQ(call(SYS_write, p.a, text("data"), 4), 4);
  char host[16] = "untouched";
  auto const wild = reinterpret_cast<uint64_t>(host);
  EXPECT_EQ(call(SYS_recvmsg, p.b, message(wild, 4), 0), -EFAULT);
  EXPECT_EQ(call(SYS_recvmsg, p.b, message(room(4).value, 4, wild, 16), 0), -EFAULT);
  EXPECT_EQ(call(SYS_recvfrom, p.b, wild, 4, 0, 0, 0), -EFAULT);
  EXPECT_EQ(call(SYS_recvfrom, p.b, room(4).value, 4, 0, wild, put<int>(16)), -EFAULT);
  EXPECT_EQ(call(SYS_sendmsg, p.a, message(wild, 4), 0), -EFAULT);
  EXPECT_EQ(call(SYS_sendmsg, p.a, wild, 0), -EFAULT);
  EXPECT_STREQ(host, "untouched");
  EXPECT_EQ(call(SYS_read, p.b, room(8).value, 8), 4) << "nothing was lost";
}

TEST_F(SyscallSockets, SeveralMessagesAtOnce) {
  Pair const p = pair(SOCK_DGRAM);
  struct {
    msghdr header;
    uint32_t length, pad;
  } out[3]{}, in[3]{};
  static_assert(sizeof out == 3 * 64);
  uint64_t to[3];
  for (int i = 0; i < 3; ++i) {
    out[i].header =
        get<msghdr>(message(text(std::string(static_cast<size_t>(i) + 1, 'a')), static_cast<uint64_t>(i) + 1));
    to[i] = room(8).value;
    in[i].header = get<msghdr>(message(to[i], 8));
  }
  EXPECT_EQ(call(SYS_sendmmsg, p.a, put(out), 3, 0), 3);
  uint64_t const at = put(in);
  EXPECT_EQ(call(SYS_recvmmsg, p.b, at, 3, MSG_WAITFORONE, 0), 3);
  for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(get<uint32_t>(at + i * 64 + 56), i + 1);
}

TEST_F(SyscallSockets, UnixSocketsByPathAndNotThroughProcfs) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string const path = directory + "/s";
  std::strcpy(address.sun_path, path.c_str());
  int const server = static_cast<int>(call(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(call(SYS_bind, server, put(address), sizeof address), 0);
  EXPECT_EQ(call(SYS_listen, server, 1), 0);
  int const client = static_cast<int>(call(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(call(SYS_connect, client, put(address), sizeof address), 0);
  std::strcpy(address.sun_path, "/proc/self/fd/4000/x");
  EXPECT_EQ(call(SYS_bind, static_cast<int>(call(SYS_socket, AF_UNIX, SOCK_STREAM, 0)), put(address), sizeof address),
            -ENOENT);
}

TEST_F(SyscallSockets, OnlyAStreamWithoutAPeerSendsSigpipe) {
  vmm_test::TestThread& main = *process->main;
  process->signals().set_blocked(main, vmm::sigbit(SIGPIPE));
  signal(SIGPIPE, SIG_IGN);
  auto const pending = [&] { return (process->signals().pending(main) & vmm::sigbit(SIGPIPE)) != 0; };
  Pair const datagram = pair(SOCK_DGRAM);
  EXPECT_EQ(call(SYS_shutdown, datagram.b, SHUT_RDWR), 0);
  EXPECT_EQ(call(SYS_sendto, datagram.a, text("x"), 1, 0, 0, 0), -EPIPE);
  EXPECT_FALSE(pending());
  Pair const stream = pair();
  EXPECT_EQ(call(SYS_close, stream.b), 0);
  EXPECT_EQ(call(SYS_sendto, stream.a, text("x"), 1, MSG_NOSIGNAL, 0, 0), -EPIPE);
  EXPECT_FALSE(pending());
  EXPECT_EQ(call(SYS_write, stream.a, text("x"), 1), -EPIPE);
  EXPECT_TRUE(pending());
}

TEST_F(SyscallSockets, ATimeoutMakesAnInterruptedReceiveFinal) {
  Pair const p = pair();
  vmm_test::TestThread& main = *process->main;
  auto const kicked_read = [&] {
    std::thread kicker([&] {
      while (main.state() != vmm::RunState::kBlocked) usleep(100);
      main.kick();
    });
    int64_t const result = call(SYS_recvfrom, p.b, room(8).value, 8, 0, 0, 0);
    kicker.join();
    main.clear_kick();
    return result;
  };
  EXPECT_EQ(kicked_read(), vmm::kRestartSys);
  EXPECT_EQ(call(SYS_setsockopt, p.b, SOL_SOCKET, SO_RCVTIMEO, put(std::array<int64_t, 2>{60, 0}), 16), 0);
  EXPECT_EQ(kicked_read(), vmm::kRestartNoHand);
}

}  // namespace
