// The client of a scope that faulted: answered, or its connection closed, as the scope's options say.
#ifndef SRS_SRC_CLIENT_HPP
#define SRS_SRC_CLIENT_HPP

#include <srs/srs.h>

namespace srs::lib {

// The options' part, kept on the caller's stack while the scope runs.
struct Client {
  int on_fault;  // enum srs_client
  int fd;
  void const* answer;
  size_t answer_size;
};
Client client_of(srs_options const* options);
// After the landing.
void client_told(Client const& client);

}  // namespace srs::lib

#endif
