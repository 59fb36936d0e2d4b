#include "runtime/files/undo_log.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <set>
#include <type_traits>
#include <vector>

#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime::files {
namespace {

constexpr uint32_t kMagic = 0x4f444e55;  // "UNDO"

struct Header {
  uint32_t magic = kMagic;
  UndoRecord::Kind kind{};
  FileStatus status;
  uint64_t offset = 0, data_size = 0;
  uint32_t path_size = 0, other_size = 0;
  uint64_t hash = 0;
};

static_assert(std::has_unique_object_representations_v<Header>);  // nothing between its fields: the hash covers all

uint64_t hash_of(Header header, UndoRecord const& record) {
  header.hash = 0;
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> const state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  XXH3_64bits_update(state.get(), &header, sizeof header);
  XXH3_64bits_update(state.get(), record.path.data(), record.path.size());
  XXH3_64bits_update(state.get(), record.other.data(), record.other.size());
  XXH3_64bits_update(state.get(), record.data.data(), record.data.size());
  return XXH3_64bits_digest(state.get());
}

// A segment read into memory; its records point there.
struct Mapped {
  std::byte const* at = nullptr;
  uint64_t size = 0;
  ~Mapped() {
    if (at != nullptr) munmap(const_cast<std::byte*>(at), size);
  }
};

}  // namespace

int append(int fd, UndoRecord const& record) {
  Header header;
  header.kind = record.kind;
  header.status = record.status;
  header.offset = record.offset;
  header.data_size = record.data.size();
  header.path_size = static_cast<uint32_t>(record.path.size());
  header.other_size = static_cast<uint32_t>(record.other.size());
  header.hash = hash_of(header, record);
  iovec parts[] = {{&header, sizeof header},
                   {const_cast<char*>(record.path.data()), record.path.size()},
                   {const_cast<char*>(record.other.data()), record.other.size()},
                   {const_cast<std::byte*>(record.data.data()), record.data.size()}};
  struct stat st {};
  if (fstat(fd, &st) != 0) return errno;
  size_t first = 0;
  while (first < std::size(parts)) {
    ssize_t n = writev(fd, parts + first, static_cast<int>(std::size(parts) - first));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      int const error = n < 0 ? errno : ENOSPC;
      (void)ftruncate(fd, st.st_size);
      return error;
    }
    while (first < std::size(parts) && static_cast<size_t>(n) >= parts[first].iov_len) {
      n -= static_cast<ssize_t>(parts[first].iov_len);
      ++first;
    }
    if (first < std::size(parts)) {
      parts[first].iov_base = static_cast<std::byte*>(parts[first].iov_base) + n;
      parts[first].iov_len -= static_cast<size_t>(n);
    }
  }
  return 0;
}

vmm::Result<void> for_each_backwards(std::string const& segment, std::function<void(UndoRecord const&)> const& f) {
  vmm::ScopedFd const fd(open(segment.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0 && errno == ENOENT) return {};
  struct stat st {};
  if (fd.get() < 0 || fstat(fd.get(), &st) != 0) return vmm::fail_host(segment);
  Mapped file;
  file.size = static_cast<uint64_t>(st.st_size);
  if (file.size == 0) return {};
  void* const at = mmap(nullptr, file.size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (at == MAP_FAILED) return vmm::fail_host(segment);
  file.at = static_cast<std::byte const*>(at);

  std::vector<UndoRecord> records;
  std::set<uint64_t> not_made;
  for (uint64_t offset = 0; file.size - offset >= sizeof(Header);) {
    Header header;
    std::memcpy(&header, file.at + offset, sizeof header);
    uint64_t const rest = file.size - offset - sizeof header;
    uint64_t const names = uint64_t{header.path_size} + header.other_size;
    if (header.magic != kMagic || names > rest || header.data_size > rest - names) break;
    auto const* const text = reinterpret_cast<char const*>(file.at + offset + sizeof header);
    UndoRecord const record{header.kind,
                            header.status,
                            header.offset,
                            {text, header.path_size},
                            {text + header.path_size, header.other_size},
                            {file.at + offset + sizeof header + names, header.data_size}};
    if (hash_of(header, record) != header.hash) break;
    if (record.kind == UndoRecord::Kind::kNotMade) not_made.insert(record.offset);
    records.push_back(record);
    offset += sizeof header + names + header.data_size;
  }
  for (size_t i = records.size(); i-- > 0;) {
    if (records[i].kind == UndoRecord::Kind::kNotMade || not_made.contains(i)) continue;
    f(records[i]);
  }
  return {};
}

}  // namespace vmsrs::runtime::files
