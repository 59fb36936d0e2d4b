#include "runtime/checkpoint/image.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cstring>

#include "runtime/checkpoint/image_content.hpp"
#include "runtime/checkpoint/stream.hpp"
#include "vmm/guest_memory_file.hpp"

namespace vmsrs::checkpoint {
namespace {

tl::unexpected<vmm::Error> bad(std::string why) {
  return vmm::fail(vmm::Errc::kBadCheckpoint, std::move(why));
}

bool good_window(uint64_t window) {
  return std::has_single_bit(window) && window >= (2ULL << 30) && window <= (64ULL << 30);
}

}  // namespace

Image::Content::~Content() {
  unmap();
}

void Image::Content::unmap() noexcept {
  if (memory != nullptr) munmap(memory, bytes);
  memory = nullptr;
}

Image::Image() : content_(std::make_unique<Content>()) {}
Image::~Image() = default;
Image::Image(Image&&) noexcept = default;
Image& Image::operator=(Image&&) noexcept = default;

uint64_t Image::number() const noexcept {
  return content_->number;
}
int64_t Image::taken_at_ns() const noexcept {
  return content_->state.monotonic_ns;
}
uint64_t Image::pages() const noexcept {
  return content_->pages;
}
std::string Image::program() const {
  return content_->state.exe_path;
}

vmm::Result<void> Image::apply(std::span<std::byte const> stream) {
  auto parsed = parse_stream(stream);
  if (!parsed) return tl::unexpected(parsed.error());
  Content& c = *content_;
  StreamInfo const& info = parsed->info;
  bool const full = (info.flags & kFlagFull) != 0;
  if (c.number == 0 && !full)
    return bad(fmt::format("epoch {} holds only what changed, and there is nothing before it", info.number));
  if (!full && info.session != c.session) return bad("the epoch belongs to another series of checkpoints");
  if (!full && info.number != c.number + 1) {
    return bad(fmt::format("epoch {} does not follow epoch {}", info.number, c.number));
  }
  // Everything is looked at before anything is changed.
  vmm::ProcessState state;
  bool has_state = false, has_recovery = false;
  std::vector<std::byte> buffer, recovery;
  for (Section const& section : parsed->sections) {
    if (section.kind == SectionKind::kPages || section.kind == SectionKind::kZero) continue;
    auto content = content_of(section, buffer);
    if (!content) return tl::unexpected(content.error());
    if (section.kind == SectionKind::kRecovery) {
      recovery.assign(content->begin(), content->end());
      has_recovery = true;
      continue;
    }
    auto decoded = vmm::decode_process_state(*content);
    if (!decoded) return tl::unexpected(decoded.error());
    state = std::move(*decoded);
    has_state = true;
  }
  if (!has_state) return bad("the checkpoint has no state of its guest");
  if (!good_window(state.window) || (c.number != 0 && state.window != c.state.window)) {
    return bad("the guest's memory has an impossible size");
  }
  uint64_t const bytes = 2 * state.window, pages = bytes / vmm::kPageSize;
  for (Section const& section : parsed->sections) {
    if (section.kind != SectionKind::kPages && section.kind != SectionKind::kZero) continue;
    auto content = content_of(section, buffer);
    if (!content) return tl::unexpected(content.error());
    if (auto run = parse_pages(section.kind, *content, pages); !run) return tl::unexpected(run.error());
  }
  if (full) {
    auto file = vmm::make_guest_memory_file(bytes);
    if (!file) return tl::unexpected(file.error());
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->get(), 0);
    if (at == MAP_FAILED) return vmm::fail_host("mmap of a checkpoint's memory");
    c.unmap();
    c.file = std::move(*file);
    c.memory = static_cast<std::byte*>(at);
    c.bytes = bytes;
    c.pages = 0;
  }
  for (Section const& section : parsed->sections) {
    if (section.kind != SectionKind::kPages && section.kind != SectionKind::kZero) continue;
    auto content = content_of(section, buffer);
    auto run = parse_pages(section.kind, *content, pages);
    for (size_t i = 0; i < run->numbers.size(); ++i) {
      uint64_t const at = run->numbers[i] * vmm::kPageSize;
      if (section.kind == SectionKind::kPages) {
        std::memcpy(c.memory + at, run->data.data() + i * vmm::kPageSize, vmm::kPageSize);
        c.pages += 1;
      } else if (fallocate(c.file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
                           vmm::kPageSize) != 0) {
        std::memset(c.memory + at, 0, vmm::kPageSize);
      }
    }
  }
  c.number = info.number;
  c.session = info.session;
  c.state = std::move(state);
  c.has_recovery = has_recovery;
  c.recovery = std::move(recovery);
  return {};
}

vmm::Result<Image> Image::from_file(std::string const& path) {
  vmm::ScopedFd const file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return vmm::fail_host(path);
  struct stat st {};
  if (fstat(file.get(), &st) != 0) return vmm::fail_host(path);
  if (!S_ISREG(st.st_mode)) return bad(path + ": no regular file");
  auto const size = static_cast<uint64_t>(st.st_size);
  if (size == 0) return bad(path + ": the checkpoint is torn: it is empty");
  void* const at = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (at == MAP_FAILED) return vmm::fail_host("mmap of " + path);
  std::span<std::byte const> rest(static_cast<std::byte const*>(at), size);
  Image image;
  vmm::Result<void> applied;
  while (applied && !rest.empty()) {
    auto parsed = parse_stream(rest);
    applied = parsed ? image.apply(rest.first(parsed->bytes)) : tl::unexpected(parsed.error());
    if (applied) rest = rest.subspan(parsed->bytes);
  }
  munmap(at, size);
  if (!applied)
    return vmm::fail(applied.error().code, path + ": " + applied.error().message, applied.error().sys_errno);
  return image;
}

}  // namespace vmsrs::checkpoint
