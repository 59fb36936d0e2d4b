#include "cli/private_folder.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace vmsrs::cli {
namespace {

namespace fs = std::filesystem;

// Ours, and its process is gone.
bool is_left(fs::path const& path) {
  int pid = 0, end = 0;
  std::string const name = path.filename().string();
  if (std::sscanf(name.c_str(), "vmsrs-protect-%d-%n", &pid, &end) != 1 || end == 0 || pid <= 0) return false;
  struct stat st {};
  if (lstat(path.c_str(), &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid()) return false;
  if (kill(pid, 0) == 0 || errno != ESRCH) return false;
  (void)shm_unlink(("/" + lease_name(pid)).c_str());
  return true;
}

}  // namespace

std::string lease_name(pid_t director) {
  return fmt::format("vmsrs-{}", director);
}

PrivateFolder::PrivateFolder() {
  std::error_code error;
  fs::path const parent = fs::temp_directory_path(error);
  for (auto const& entry : fs::directory_iterator(parent, error)) {
    std::error_code ignored;
    if (is_left(entry.path())) fs::remove_all(entry.path(), ignored);
  }
  std::string name = (parent / fmt::format("vmsrs-protect-{}-XXXXXX", getpid())).string();
  if (mkdtemp(name.data()) != nullptr) path_ = name;
}

void PrivateFolder::remove() {
  std::error_code error;
  if (!path_.empty()) fs::remove_all(path_, error);
  path_.clear();
}

}  // namespace vmsrs::cli
