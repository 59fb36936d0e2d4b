// TCP, UDP and Unix sockets, descriptors sent through them, and their errors. Loopback, ports of the kernel's choice.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static char const* call(long r) {
  return r >= 0 ? "ok" : strerrorname_np(errno);
}

static struct sockaddr_in loopback(void) {
  struct sockaddr_in a;
  memset(&a, 0, sizeof a);
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

static void* echo(void* arg) {
  int const fd = accept4(*(int*)arg, NULL, NULL, SOCK_CLOEXEC);
  char buffer[512];
  ssize_t n;
  while ((n = recv(fd, buffer, sizeof buffer, 0)) > 0) {
    if (send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n) break;
  }
  close(fd);
  return NULL;
}

static void tcp(void) {
  int const listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  struct sockaddr_in address = loopback(), peer;
  socklen_t size = sizeof address;
  printf("tcp: reuse %s", call(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one)));
  printf(", bind %s", call(bind(listener, (struct sockaddr*)&address, size)));
  printf(", listen %s", call(listen(listener, 4)));
  getsockname(listener, (struct sockaddr*)&address, &size);
  pthread_t server;
  int fd = listener;
  pthread_create(&server, NULL, echo, &fd);
  int const client = socket(AF_INET, SOCK_STREAM, 0);
  printf(", connect %s", call(connect(client, (struct sockaddr*)&address, size)));
  printf(", nodelay %s", call(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one)));
  size = sizeof peer;
  getpeername(client, (struct sockaddr*)&peer, &size);
  printf(", peer is the listener %d\n", peer.sin_port == address.sin_port && size == sizeof peer);
  char text[16] = "";
  struct iovec parts[2] = {{(void*)(unsigned long)"ab", 2}, {(void*)(unsigned long)"cde", 3}};
  ssize_t n = writev(client, parts, 2);
  ssize_t const got = recv(client, text, 5, MSG_WAITALL);
  printf("writev %zd, echoed %zd %s\n", n, got, text);
  int const file = open("sent", O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (write(file, "0123456789", 10) != 10) return;
  off_t offset = 2;
  n = sendfile(client, file, &offset, 5);
  memset(text, 0, sizeof text);
  recv(client, text, 5, MSG_WAITALL);
  printf("sendfile %zd to %ld: %s\n", n, (long)offset, text);
  n = recv(client, text, 5, MSG_DONTWAIT);
  printf("nothing there: %s", call(n));
  printf(", shutdown %s", call(shutdown(client, SHUT_WR)));
  printf(", end %zd\n", recv(client, text, 5, 0));
  pthread_join(server, NULL);
  n = send(client, "x", 1, MSG_NOSIGNAL);
  printf("send after shutdown: %s\n", call(n));
  close(client);
  close(listener);
  int const again = socket(AF_INET, SOCK_STREAM, 0);
  printf("nobody listens: %s\n", call(connect(again, (struct sockaddr*)&address, sizeof address)));
  close(again);
}

static void udp(void) {
  int const a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in to = loopback(), from;
  socklen_t size = sizeof to;
  if (bind(a, (struct sockaddr*)&to, size) != 0 || getsockname(a, (struct sockaddr*)&to, &size) != 0) return;
  ssize_t n = sendto(b, "datagram", 8, 0, (struct sockaddr*)&to, size);
  printf("udp: sent %zd", n);
  char text[5] = "";
  size = sizeof from;
  n = recvfrom(a, text, 4, MSG_TRUNC, (struct sockaddr*)&from, &size);
  printf(", of %zd got %s, sender's size %u, on loopback %d\n", n, text, size,
         from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
  struct mmsghdr many[3];
  struct iovec parts[3];
  char one[3][4] = {"m0", "m1", "m2"};
  memset(many, 0, sizeof many);
  for (int i = 0; i < 3; i++) {
    parts[i] = (struct iovec){one[i], 2};
    many[i].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &parts[i], .msg_iovlen = 1};
  }
  int const sent = sendmmsg(b, many, 3, 0);
  for (int i = 0; i < 3; i++) many[i].msg_hdr.msg_name = NULL, many[i].msg_hdr.msg_namelen = 0, one[i][1] = '?';
  int const received = recvmmsg(a, many, 3, MSG_WAITFORONE, NULL);
  printf("sendmmsg %d, recvmmsg %d: %s %s %s\n", sent, received, one[0], one[1], one[2]);
  close(a);
  close(b);
}

static void unix_sockets(void) {
  int pair[2], pipe_ends[2];
  printf("socketpair %s", call(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)));
  if (pipe(pipe_ends) != 0) return;
  char byte = 'd';
  struct iovec part = {&byte, 1};
  union {
    char bytes[CMSG_SPACE(2 * sizeof(int))];
    struct cmsghdr align;
  } control;
  memset(&control, 0, sizeof control);
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(2 * sizeof(int));
  memcpy(CMSG_DATA(c), pipe_ends, sizeof pipe_ends);
  ssize_t n = sendmsg(pair[0], &message, 0);
  printf(", sendmsg %zd", n);
  memset(&control, 0, sizeof control);
  message.msg_controllen = sizeof control;
  n = recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC);
  int passed[2] = {-1, -1};
  c = CMSG_FIRSTHDR(&message);
  if (c != NULL && c->cmsg_type == SCM_RIGHTS) memcpy(passed, CMSG_DATA(c), sizeof passed);
  printf(", recvmsg %zd %c, cloexec %d", n, byte, fcntl(passed[0], F_GETFD) == FD_CLOEXEC);
  char text[5] = "";
  n = write(passed[1], "pass", 4);
  n = read(pipe_ends[0], text, 4);
  printf(", through them %zd %s\n", n, text);

  int const listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "./a-socket"};
  printf("unix: nobody %s", call(connect(client, (struct sockaddr*)&name, sizeof name)));
  printf(", bind %s", call(bind(listener, (struct sockaddr*)&name, sizeof name)));
  listen(listener, 1);
  printf(", connect %s", call(connect(client, (struct sockaddr*)&name, sizeof name)));
  int const server = accept(listener, NULL, NULL);
  struct ucred who;
  socklen_t size = sizeof who;
  printf(", accept %s", call(server));
  printf(", peer %s, is me %d", call(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &who, &size)), who.uid == getuid());
  printf(", again %s\n", call(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr*)&name, sizeof name)));
  int type = 0;
  size = sizeof type;
  getsockopt(server, SOL_SOCKET, SO_TYPE, &type, &size);
  printf("type %d, not a socket: %s, closed: %s\n", type == SOCK_STREAM, call(listen(pipe_ends[0], 1)),
         call(listen(999, 1)));
}

int main(void) {
  tcp();
  udp();
  unix_sockets();
  return 0;
}
