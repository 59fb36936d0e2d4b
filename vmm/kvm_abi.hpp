// <linux/kvm.h> as C++ can use it: linux-libc-dev 6.1 puts an empty struct before flexible arrays, which has size 1 in
// C++, so that sizes and ioctl numbers come out wrong.
#pragma once

#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]
#include <linux/kvm.h>

static_assert(KVM_SET_CPUID2 == 0x4008ae90, "the kernel's own number");
static_assert(sizeof(kvm_cpuid2) == 8);
static_assert(sizeof(kvm_msrs) == 8);
