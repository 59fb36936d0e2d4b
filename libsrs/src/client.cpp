#include "libsrs/src/client.hpp"

#include <sys/socket.h>

#include <cerrno>

#include "libsrs/src/thread.hpp"

namespace srs::lib {

Client client_of(srs_options const* options) {
  if (options == nullptr) return {SRS_CLIENT_KEEP, -1, nullptr, 0};
  return {options->on_fault, options->client_fd, options->answer, options->answer_size};
}

void client_told(Client const& client) {
  if (client.on_fault == SRS_CLIENT_KEEP || client.fd < 0) return;
  int const saved = errno;
  srs_fault_info info{};
  // Part of another answer has left: this one would not be understood behind it.
  bool const begun = srs_last_fault(&info) == 1 && (info.flags & SRS_INFO_OUTPUT_LEFT) != 0;
  bool const answered = client.on_fault == SRS_CLIENT_ANSWER && !begun &&
                        send(client.fd, client.answer, client.answer_size, MSG_DONTWAIT | MSG_NOSIGNAL) ==
                            static_cast<ssize_t>(client.answer_size);
  if (!answered) shutdown(client.fd, SHUT_RDWR);
  errno = saved;
}

}  // namespace srs::lib
