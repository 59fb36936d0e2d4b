// links: vmm
// Past an instruction that cannot be carried out: what the registers are then.
#include "vmm/step_over.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace {

using Bytes = std::vector<uint8_t>;

struct After {
  vmm::Registers regs;
  std::optional<vmm::SteppedOver> how;
};

// Every register holds a value of its own, and rip is 0x1000.
After step(Bytes bytes) {
  After a;
  a.regs = {.rax = 0x1111111111111111,
            .rbx = 0x2222222222222222,
            .rcx = 0x3333333333333333,
            .rdx = 0x4444444444444444,
            .rsi = 0x5555555555555555,
            .rdi = 0x6666666666666666,
            .rsp = 0x7000,
            .rbp = 0x7100,
            .r8 = 8,
            .r9 = 9,
            .r10 = 10,
            .r11 = 11,
            .r12 = 12,
            .r13 = 13,
            .r14 = 14,
            .r15 = 15,
            .rip = 0x1000};
  bytes.resize(15, 0xcc);
  a.how = vmm::step_over(bytes, a.regs);
  return a;
}

TEST(StepOver, ALoadReadsZero) {
  After const a = step({0x48, 0x8b, 0x1f});  // mov rbx, [rdi]
  ASSERT_TRUE(a.how);
  EXPECT_EQ(a.regs.rbx, 0U);
  EXPECT_EQ(a.regs.rip, 0x1003U);
  EXPECT_EQ(a.regs.rax, 0x1111111111111111U);
  EXPECT_EQ(a.regs.rdi, 0x6666666666666666U);
  EXPECT_EQ(a.regs.rsp, 0x7000U);
}

TEST(StepOver, OfAPartOfARegisterThatPartIsZero) {
  EXPECT_EQ(step({0x8b, 0x0f}).regs.rcx, 0U);                         // mov ecx, [rdi]: clears the upper half too
  EXPECT_EQ(step({0x66, 0x8b, 0x0f}).regs.rcx, 0x3333333333330000U);  // mov cx, [rdi]
  EXPECT_EQ(step({0x8a, 0x0f}).regs.rcx, 0x3333333333333300U);        // mov cl, [rdi]
  EXPECT_EQ(step({0x8a, 0x2f}).regs.rcx, 0x3333333333330033U);        // mov ch, [rdi]
  EXPECT_EQ(step({0x40, 0x8a, 0x37}).regs.rsi, 0x5555555555555500U);  // mov sil, [rdi]
  EXPECT_EQ(step({0x44, 0x8a, 0x17}).regs.r10, 0U);                   // mov r10b, [rdi]: 10 fits a byte
}

TEST(StepOver, AStoreGoesNowhere) {
  After const a = step({0x48, 0xc7, 0x07, 1, 0, 0, 0});  // mov qword [rdi], 1
  ASSERT_TRUE(a.how);
  EXPECT_EQ(a.regs.rip, 0x1007U);
  EXPECT_EQ(a.regs.rdi, 0x6666666666666666U);
  EXPECT_EQ(a.how->vectors, 0);
}

TEST(StepOver, ADivisionIsZero) {
  After const a = step({0x48, 0xf7, 0xf9});  // idiv rcx
  EXPECT_EQ(a.regs.rax, 0U);
  EXPECT_EQ(a.regs.rdx, 0U);
  EXPECT_EQ(a.regs.rcx, 0x3333333333333333U);
}

TEST(StepOver, ACallHasReturnedZero) {
  After const a = step({0xff, 0x50, 0x10});  // call [rax + 16]
  ASSERT_TRUE(a.how);
  EXPECT_FALSE(a.how->as_return);
  EXPECT_EQ(a.regs.rax, 0U);
  EXPECT_EQ(a.regs.rip, 0x1003U);
  EXPECT_EQ(a.regs.rsp, 0x7000U);
}

TEST(StepOver, AJumpReturnsFromItsFunction) {
  After const a = step({0xff, 0x60, 0x10});  // jmp [rax + 16]
  ASSERT_TRUE(a.how);
  EXPECT_TRUE(a.how->as_return);
  EXPECT_EQ(a.regs.rip, 0x1000U);
}

TEST(StepOver, TheStackStaysBalanced) {
  EXPECT_EQ(step({0xff, 0x37}).regs.rsp, 0x6ff8U);  // push qword [rdi]
  EXPECT_EQ(step({0x8f, 0x07}).regs.rsp, 0x7008U);  // pop qword [rdi]
}

TEST(StepOver, ACompareAndSwapHasStored) {
  After const a = step({0xf0, 0x48, 0x0f, 0xb1, 0x0f});  // lock cmpxchg [rdi], rcx
  EXPECT_NE(a.regs.rflags & 0x40, 0U) << "the loop around it would never end";
  EXPECT_EQ(a.regs.rax, 0x1111111111111111U);
}

TEST(StepOver, ARepeatedCopyIsOver) {
  After const a = step({0xf3, 0xa4});  // rep movsb
  EXPECT_EQ(a.regs.rcx, 0U);
  EXPECT_EQ(a.regs.rsi, 0x5555555555555555U);
  EXPECT_EQ(a.regs.rdi, 0x6666666666666666U);
}

TEST(StepOver, VectorRegistersAreNamedAndCleared) {
  After const a = step({0xf2, 0x0f, 0x10, 0x1f});  // movsd xmm3, [rdi]
  ASSERT_TRUE(a.how);
  EXPECT_EQ(a.how->vectors, 1 << 3);
  std::vector<std::byte> area(4096, std::byte{0xff});
  vmm::clear_vectors(area, a.how->vectors);
  for (size_t i = 0; i < area.size(); ++i) {
    bool const cleared = (i >= 160 + 48 && i < 160 + 64) || (i >= 576 + 48 && i < 576 + 64);
    ASSERT_EQ(area[i] == std::byte{0}, cleared) << i;
  }
}

TEST(StepOver, WhatNothingKnownFollowsIsLeftAlone) {
  for (Bytes const& bytes : {Bytes{0xc3}, Bytes{0xc9}, Bytes{0x48, 0xcf}, Bytes{0x0f, 0x05}, Bytes{0x06}}) {
    After const a = step(bytes);  // ret, leave, iretq, syscall, no instruction in 64-bit mode
    EXPECT_FALSE(a.how) << int{bytes[0]};
    EXPECT_EQ(a.regs.rip, 0x1000U);
  }
}

}  // namespace
