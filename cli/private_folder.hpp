// What `vmsrs run --protect` keeps on this host while it runs: a directory that nobody else may enter, for the key, the
// parts' sockets and what undoes changes to files, and the shared memory of its lease. Both carry the process id of
// whom they belong to; one that was killed leaves them, and the next one takes them away.
#pragma once

#include <sys/types.h>

#include <string>

namespace vmsrs::cli {

// Of the lease in shared memory.
std::string lease_name(pid_t director);

class PrivateFolder {
 public:
  PrivateFolder();  // made() says whether it is there; errno
  ~PrivateFolder() { remove(); }
  PrivateFolder(PrivateFolder const&) = delete;
  PrivateFolder& operator=(PrivateFolder const&) = delete;
  void remove();  // with all that is in it
  [[nodiscard]] bool made() const { return !path_.empty(); }
  [[nodiscard]] std::string at(std::string const& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace vmsrs::cli
