// links: vmm
// The copy-on-write view of guest memory, as the host sees it.
#include "vmm/view.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "vmm/safe_copy.hpp"
#include "vmm/scoped_fd.hpp"

namespace {

using vmm::GuestAddr;

constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS;

class ViewTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "needs the guest's addresses, where AddressSanitizer has its shadow memory";
#endif
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/kvm";
    vmm::install_safe_copy_handler();
    auto memory = vmm::AddressSpace::create({.window = 2ULL << 30});
    ASSERT_TRUE(memory) << memory.error().message;
    memory_ = std::move(*memory);
    auto vm = vmm::Vm::create(*memory_, {});
    ASSERT_TRUE(vm) << vm.error().message;
    vm_ = std::move(*vm);
    auto view = vmm::View::create(*vm_, *memory_);
    ASSERT_TRUE(view) << view.error().message;
    view_ = std::move(*view);
  }
  GuestAddr map(uint64_t size, int prot) {
    int64_t const at = memory_->mmap({}, size, prot, kPrivate, -1, 0, "");
    EXPECT_GT(at, 0);
    return GuestAddr(static_cast<uint64_t>(at));
  }
  uint64_t in_view(GuestAddr at) {
    uint64_t value = 0;
    EXPECT_TRUE(view_->read(at, value));
    return value;
  }
  uint64_t in_main(GuestAddr at) {
    uint64_t value = 0;
    EXPECT_TRUE(memory_->read(at, value));
    return value;
  }

  std::unique_ptr<vmm::AddressSpace> memory_;
  std::unique_ptr<vmm::Vm> vm_;
  std::unique_ptr<vmm::View> view_;
};

TEST_F(ViewTest, WhatIsWrittenInItIsSeenInItOnly) {
  GuestAddr const at = map(8192, PROT_READ | PROT_WRITE);
  ASSERT_TRUE(memory_->write(at, uint64_t{1}));
  ASSERT_TRUE(view_->try_open());
  EXPECT_EQ(in_view(at), 1U);
  ASSERT_TRUE(view_->write(at, uint64_t{2}));
  EXPECT_EQ(in_view(at), 2U);
  EXPECT_EQ(in_main(at), 1U);
  ASSERT_TRUE(memory_->write(at, uint64_t{3}));
  EXPECT_EQ(in_view(at), 2U) << "a page that the view has written is its own";
  view_->close();
  ASSERT_TRUE(view_->try_open());
  EXPECT_EQ(in_view(at), 3U) << "what was written is gone with its user";
}

TEST_F(ViewTest, WhatIsNotWrittenInItFollowsTheMainMemory) {
  GuestAddr const at = map(8192, PROT_READ | PROT_WRITE);
  ASSERT_TRUE(view_->try_open());
  ASSERT_TRUE(view_->write(at, uint64_t{2}));
  ASSERT_TRUE(memory_->write(at + 4096, uint64_t{7}));
  EXPECT_EQ(in_view(at + 4096), 7U);
}

TEST_F(ViewTest, ProtectionIsTheGuests) {
  GuestAddr const constant = map(4096, PROT_READ), none = map(4096, PROT_NONE);
  ASSERT_TRUE(view_->try_open());
  uint64_t value = 0;
  EXPECT_TRUE(view_->read(constant, value));
  EXPECT_FALSE(view_->write(constant, value));
  EXPECT_FALSE(view_->read(none, value));
  EXPECT_FALSE(view_->read(GuestAddr(vmm::kLowBase), value)) << "nothing is mapped there";
  EXPECT_FALSE(view_->read(GuestAddr(0x1000), value));
  EXPECT_FALSE(view_->read(GuestAddr(memory_->tag_base()), value)) << "tags are no guest memory";
  vmm::Vma vma;
  EXPECT_TRUE(view_->find_vma(constant + 4095, vma));
  EXPECT_EQ(vma.prot, PROT_READ);
  EXPECT_FALSE(view_->find_vma(none, vma));
  EXPECT_FALSE(view_->find_vma(constant + 4096, vma) && vma.start == constant);
}

TEST_F(ViewTest, ASharedFileIsReadableAndNoMore) {
  char name[] = "/tmp/vmsrs-view-XXXXXX";
  vmm::ScopedFd const file(mkstemp(name));
  ASSERT_GE(file.get(), 0);
  unlink(name);
  uint64_t const content = 11;
  ASSERT_EQ(pwrite(file.get(), &content, sizeof content, 0), 8);
  ASSERT_EQ(ftruncate(file.get(), 4096), 0);
  int64_t const at = memory_->mmap({}, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0, "/file");
  ASSERT_GT(at, 0);
  GuestAddr const word(static_cast<uint64_t>(at));
  ASSERT_TRUE(view_->try_open());
  EXPECT_EQ(in_view(word), 11U);
  EXPECT_FALSE(view_->write(word, uint64_t{12}));
  ASSERT_TRUE(memory_->write(word, uint64_t{13}));
  EXPECT_EQ(in_view(word), 13U);
  view_->close();
  uint64_t value = 0;
  EXPECT_FALSE(view_->read(word, value));
  EXPECT_EQ(in_main(word), 13U);
}

TEST_F(ViewTest, IsOneUsersAtATime) {
  ASSERT_TRUE(view_->try_open());
  auto const second = view_->try_open();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, vmm::Errc::kBusy);
  view_->close();
  EXPECT_TRUE(view_->try_open());
}

TEST_F(ViewTest, ManyUsersOneAfterTheOtherLeaveNothingBehind) {
  GuestAddr const at = map(1 << 20, PROT_READ | PROT_WRITE);
  for (uint64_t i = 1; i <= 200; ++i) {
    ASSERT_TRUE(view_->try_open());
    for (uint64_t page = 0; page < 16; ++page) {
      EXPECT_EQ(in_view(at + page * 4096), 0U);
      EXPECT_TRUE(view_->write(at + page * 4096, i));
    }
    view_->close();
  }
  EXPECT_EQ(in_main(at), 0U);
}

}  // namespace
