// away CALL: a thread blocks in that call, its buffer on a monitored page; another thread's scope stores on the same
// page and faults. In demand mode the page is away when the call's result comes: nothing is lost, no call fails.
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>

#include "tests/faults/guests/guest.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const name = argv[1];
  uint64_t* const page = guest::words(512);
  for (unsigned i = 0; i < 512; ++i) srs_store64(&page[i], 70 + i);
  auto* const buffer = reinterpret_cast<char*>(&page[64]);
  auto* const header = reinterpret_cast<msghdr*>(&page[128]);
  auto* const parts = reinterpret_cast<iovec*>(&page[160]);
  auto* const polled = reinterpret_cast<pollfd*>(&page[192]);
  auto* const event = reinterpret_cast<epoll_event*>(&page[200]);
  auto* const length = reinterpret_cast<socklen_t*>(&page[220]);
  auto* const set = reinterpret_cast<fd_set*>(&page[240]);
  int ends[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  int const epoll = epoll_create1(0);
  epoll_event wanted{.events = EPOLLIN, .data = {.u64 = 0x123456789a}};
  CHECK_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &wanted), 0);
  int const listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  CHECK_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  CHECK_EQ(listen(listener, 1), 0);
  socklen_t size = sizeof address;
  CHECK_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  parts[0] = {buffer, 2};
  parts[1] = {buffer + 16, 100};
  *header = {};
  header->msg_iov = parts;
  header->msg_iovlen = 2;
  polled[0] = {ends[0], POLLIN, 0};
  FD_ZERO(set);
  FD_SET(ends[0], set);
  *length = sizeof(sockaddr_in);

  std::atomic<bool> blocking{false};
  std::thread waiter([&] {
    blocking = true;
    if (name == "read") CHECK_EQ(read(ends[0], buffer, 100), 5);
    if (name == "recv") CHECK_EQ(recv(ends[0], buffer, 100, 0), 5);
    if (name == "readv") CHECK_EQ(readv(ends[0], parts, 2), 5);
    if (name == "recvmsg") CHECK_EQ(recvmsg(ends[0], header, 0), 5);
    if (name == "poll") {
      CHECK_EQ(poll(polled, 1, 20000), 1);
      CHECK_EQ(polled[0].revents, POLLIN);
    }
    if (name == "select") {
      CHECK_EQ(select(ends[0] + 1, set, nullptr, nullptr, nullptr), 1);
      CHECK(FD_ISSET(ends[0], set));
    }
    if (name == "epoll_wait") {
      CHECK_EQ(epoll_wait(epoll, event, 4, 20000), 1);
      CHECK_EQ(event->data.u64, 0x123456789a);
    }
    if (name == "accept") {
      CHECK(accept(listener, reinterpret_cast<sockaddr*>(buffer), length) >= 0);
      CHECK_EQ(*length, sizeof(sockaddr_in));
      CHECK_EQ(reinterpret_cast<sockaddr_in*>(buffer)->sin_family, AF_INET);
    }
    if (name == "getsockname") {  // does not block: the page is away at its beginning
      usleep(100000);
      CHECK_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(buffer), length), 0);
      CHECK_EQ(reinterpret_cast<sockaddr_in*>(buffer)->sin_port, address.sin_port);
    }
  });
  while (!blocking) usleep(100);
  usleep(30000);
  CHECK_EQ(srs::request([&] {
             for (unsigned i = 0; i < 8; ++i) srs_store64(&page[i], 1);
             guest::bad_store();
           }),
           SRS_FAULTED);
  if (name == "accept") {
    int const client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  } else {
    CHECK_EQ(write(ends[1], "hello", 5), 5);
  }
  waiter.join();
  if (name == "read" || name == "recv") CHECK(memcmp(buffer, "hello", 5) == 0);
  if (name == "readv" || name == "recvmsg") CHECK(memcmp(buffer, "he", 2) == 0 && memcmp(buffer + 16, "llo", 3) == 0);
  for (unsigned i = 0; i < 64; ++i) CHECK_EQ(page[i], 70 + i);
  return guest::end();
}
