# What a system call of the guest runs, two copies of the same per vCPU: posts the call in the vCPU's mailbox and spins
# for the answer, or leaves the VM. Copied to its place by vmm/syscall_stub.cpp, so it refers to itself and to its
# mailbox only relatively.
#
# The first is what `syscall` enters (LSTAR): rcx holds the return address, r11 the flags; at CPL 3 on KVM-PVM, at CPL 0
# on others (docs/platform.md). The second is what patched call sites jump to, at CPL 3, with the return address in rcx.
#
# No register but rcx and r11 may change, and until the answer is taken rax holds the number: wherever a kick stops this
# code, the call can be made by exit from the registers alone. The labels tell the monitor how far it came.
#include "vmm/mailbox_layout.h"

#define ODD_FLAGS 0x44500 /* TF DF NT AC: let the monitor put them back */

    .section .rodata

    .macro post_or_leave name, offset
\name\()_scratch:               # from here on r11 is nobody's
.Lnot_posted_\name:
    out %al, $0xf0
    nop                         # behind an exit rip must not stand at the next label
.Lmay_post_\name:
    mov %rax, %r11
    cmp $STUB_HYPERCALLS, %r11
    jb .Llook_up_\name
    sub $(0x535200 - STUB_HYPERCALLS), %r11
    cmp $STUB_HYPERCALLS, %r11
    jb .Lnot_posted_\name
    cmp $STUB_CALLS, %r11
    jae .Lnot_posted_\name
.Llook_up_\name:
    bt %r11, \name\()_base + STUB_TABLE(%rip)
    jnc .Lnot_posted_\name
    mov %rax, \name\()_mailbox + MB_NR(%rip)
    mov %rdi, \name\()_mailbox + MB_A0(%rip)
    mov %rsi, \name\()_mailbox + MB_A1(%rip)
    mov %rdx, \name\()_mailbox + MB_A2(%rip)
    mov %r10, \name\()_mailbox + MB_A3(%rip)
    mov %r8, \name\()_mailbox + MB_A4(%rip)
    mov %r9, \name\()_mailbox + MB_A5(%rip)
    mov %rcx, \name\()_mailbox + MB_SITE(%rip)
    mov %rsp, \name\()_mailbox + MB_RSP(%rip)
    mov %rbx, \name\()_mailbox + MB_RBX(%rip)
    mov %rbp, \name\()_mailbox + MB_RBP(%rip)
    mov %r12, \name\()_mailbox + MB_R12(%rip)
    mov %r13, \name\()_mailbox + MB_R13(%rip)
    mov %r14, \name\()_mailbox + MB_R14(%rip)
    mov %r15, \name\()_mailbox + MB_R15(%rip)
    mov %rax, %r11
    .irp argument, rdi, rsi, rdx, r10, r8, r9
    rol $7, %r11
    xor %\argument, %r11
    .endr
    rol $7, %r11
    xor \name\()_mailbox + MB_POSTED(%rip), %r11
    mov %r11, \name\()_mailbox + MB_CHECK(%rip)
    mov \name\()_mailbox + MB_SPIN_LIMIT(%rip), %r11d
    mov %r11d, \name\()_mailbox + MB_SPINS(%rip)
    incq \name\()_mailbox + MB_POSTED(%rip)
\name\()_posted:
    mov \name\()_mailbox + MB_POSTED(%rip), %r11
\name\()_spinning:              # r11: the number of this post
    cmp %r11, \name\()_mailbox + MB_DONE(%rip)
    je \name\()_answered
    pause
    decl \name\()_mailbox + MB_SPINS(%rip)
    jns \name\()_spinning
    out %al, $0xf0              # nobody answered in time, or the call must wait
    nop
\name\()_answered:
    mov \name\()_mailbox + MB_RESULT(%rip), %r11
    xor \name\()_mailbox + MB_RESULT_CHECK(%rip), %r11
    xor \name\()_mailbox + MB_DONE(%rip), %r11
    cmp $MB_SEAL, %r11
    jne .Ldamaged_\name
    mov \name\()_mailbox + MB_RESULT(%rip), %rax
\name\()_return:                # ring 3 jumps; for ring 0 the monitor puts a sysret here
    jmp *%rcx
    .skip 14, 0xcc
.Ldamaged_\name:
    out %al, $0xf0
\name\()_end:
    .endm

    .balign 64
    .globl vmm_stub_start, vmm_stub_scratch, vmm_stub_posted, vmm_stub_spinning, vmm_stub_answered, vmm_stub_return
    .globl vmm_stub_end
vmm_stub_start:
    .set vmm_stub_base, vmm_stub_start
    .set vmm_stub_mailbox, vmm_stub_base + MB_DISTANCE
    test $ODD_FLAGS, %r11d
    jnz .Lleave
    cmpl $0, vmm_stub_mailbox + MB_ENABLED(%rip)
    jne .Lmay_post_vmm_stub
.Lleave:
    out %al, $0xf0
    nop
    post_or_leave vmm_stub

    .balign 64
    .globl vmm_direct_start, vmm_direct_scratch, vmm_direct_posted, vmm_direct_spinning, vmm_direct_answered
    .globl vmm_direct_end
vmm_direct_start:
    .set vmm_direct_base, vmm_direct_start - STUB_DIRECT
    .set vmm_direct_mailbox, vmm_direct_base + MB_DISTANCE
    cmpl $0, vmm_direct_mailbox + MB_ENABLED(%rip)
    jne .Lmay_post_vmm_direct
    post_or_leave vmm_direct
    .section .note.GNU-stack, "", @progbits
